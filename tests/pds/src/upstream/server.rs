//! The protection domain `upstream-server.elf`: reverses the bytes that its client puts into a region. It is
//! written for the upstream crate `sel4-microkit` and uses nothing that only this project's runtime has.
//!
//! Owns the region to the client, and a heap and a stack in its own memory. The other side is
//! `upstream-client.elf`, a part of the same test. A mistake of the client ends this domain with a panic, which
//! the test sees.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::ptr::NonNull;
use sel4_microkit::{
    Channel, ChannelSet, Child, DeferredAction, DeferredActionInterface, DeferredActionSlot, Handler,
    MessageInfo, MessageLabel, MessageRegisterValue, debug_println, memory_region_symbol, protection_domain,
    var, with_msg_bytes, with_msg_regs_mut,
};

/// Label of a request, and of an answer.
const REVERSE: MessageLabel = 17;

type AnyHandler = Box<dyn Handler<Error = Box<dyn Error>>>;

#[protection_domain(stack_size = 0x20_000, heap_size = 0x10_000)]
fn init() -> AnyHandler {
    let client = Channel::new(*var!(client_channel_id: usize = usize::MAX));
    let input_size = *var!(region_in_size: usize = 0);
    let input = memory_region_symbol!(region_in_start: *mut [u8], n = input_size);
    let output_size = *var!(region_out_size: usize = 0);
    let output = memory_region_symbol!(region_out_start: *mut [u8], n = output_size, bytes = 0x1000);
    // Larger than the stack in the system description.
    let large = core::hint::black_box([7u8; 0x18_000]);
    assert_eq!(
        large.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
        7 * 0x18_000
    );
    debug_println!("server: {} bytes from {client:?}, stack and heap", input.len());
    Box::new(Server {
        client,
        input,
        output,
        deferred: DeferredActionSlot::new(),
        calls: Vec::new(),
    })
}

struct Server {
    client: Channel,
    input: NonNull<[u8]>,
    output: NonNull<[u8]>,
    deferred: DeferredActionSlot,
    calls: Vec<usize>,
}

/// A request that the server does not know.
#[derive(Debug)]
struct UnknownRequest(MessageInfo);

impl fmt::Display for UnknownRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown request {:?}", self.0)
    }
}

impl Error for UnknownRequest {}

impl Handler for Server {
    type Error = Box<dyn Error>;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        unreachable!("{}", channels.display())
    }

    fn protected(&mut self, channel: Channel, msg_info: MessageInfo) -> Result<MessageInfo, Self::Error> {
        if channel != self.client || msg_info.label() != REVERSE || msg_info.count() != 1 {
            return Err(Box::new(UnknownRequest(msg_info)));
        }
        let len = with_msg_bytes(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
        assert!(len <= self.input.len() && len <= self.output.len());
        let mut buffer = vec![0; len];
        for (i, byte) in buffer.iter_mut().enumerate() {
            // SAFETY: inside the region, as just checked, which is mapped for the domain's life. The client may
            // write there at any time, so the byte is read as volatile.
            *byte = unsafe { self.input.cast::<u8>().add(i).read_volatile() };
        }
        buffer.reverse();
        for (i, byte) in buffer.iter().enumerate() {
            // SAFETY: inside the region that this domain writes, which is mapped for the domain's life.
            unsafe { self.output.cast::<u8>().add(i).write_volatile(*byte) };
        }
        self.calls.push(len);
        let total = self.calls.iter().sum::<usize>() as MessageRegisterValue;
        with_msg_regs_mut(|regs| (regs[0], regs[1]) = (len as MessageRegisterValue, total));
        self.deferred.defer_notify(self.client).unwrap();
        Ok(MessageInfo::new(REVERSE, 2))
    }

    fn fault(&mut self, child: Child, _: MessageInfo) -> Result<Option<MessageInfo>, Self::Error> {
        unreachable!("{child:?}")
    }

    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        let action = self.deferred.take()?;
        assert_eq!(
            action,
            DeferredAction::new(self.client, DeferredActionInterface::Notify)
        );
        Some(action)
    }
}
