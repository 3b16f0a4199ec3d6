//! The protection domain `upstream-client.elf`: lets its server reverse some bytes, and checks the result. It
//! is written for the upstream crate `sel4-microkit` and uses nothing that only this project's runtime has.
//!
//! Owns the region to the server. The other side is `upstream-server.elf`, a part of the same test.
#![no_std]
#![no_main]

use core::ptr::NonNull;
use sel4_microkit::{
    Channel, ChannelSet, Handler, Infallible, MessageInfo, MessageLabel, debug_println, get_mr,
    memory_region_symbol, protection_domain, set_mr, var, with_msg_bytes_mut, with_msg_regs,
};

const REVERSE: MessageLabel = 17;
const TEXT: &[u8] = b"three branes";

#[protection_domain]
fn init() -> impl Handler {
    let server = Channel::new(*var!(server_channel_id: usize = usize::MAX));
    let input = memory_region_symbol!(region_in_start: *mut [u8], n = *var!(region_in_size: usize = 0));
    let output = memory_region_symbol!(region_out_start: *mut [u8; 0x1000], bytes = 0x1000);
    assert!(server < Channel::new(server.index() + 1));
    assert_eq!(MessageInfo::label_width(), 52);
    let mut client = Client {
        server,
        input,
        output: output.cast(),
        answered: 0,
    };
    client.ask(TEXT);
    client.ask(b"x");
    client
}

struct Client {
    server: Channel,
    input: NonNull<[u8]>,
    output: NonNull<u8>,
    answered: u64,
}

impl Client {
    fn ask(&mut self, text: &[u8]) {
        for (i, byte) in text.iter().enumerate() {
            // SAFETY: `text` is shorter than the region, which is mapped for the domain's life and read by the server.
            unsafe { self.output.add(i).write_volatile(*byte) };
        }
        set_mr(0, 0);
        with_msg_bytes_mut(|bytes| bytes[..2].copy_from_slice(&(text.len() as u16).to_le_bytes()));
        let answer = self.server.pp_call(MessageInfo::new(REVERSE, 1));
        self.answered += text.len() as u64;
        assert_eq!((answer.label(), answer.count()), (REVERSE, 2));
        assert_eq!((get_mr(0), get_mr(1)), (text.len() as u64, self.answered));
        with_msg_regs(|regs| assert_eq!(regs[1], self.answered));
        for (i, byte) in text.iter().rev().enumerate() {
            // SAFETY: `text` is shorter than this region too, which is mapped for the domain's life and written
            // by the server.
            assert_eq!(*byte, unsafe { self.input.cast::<u8>().add(i).read_volatile() });
        }
        debug_println!(
            "client: {} bytes reversed, {:?}",
            text.len(),
            MessageInfo::default().count()
        );
    }
}

impl Handler for Client {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        assert!(channels.contains(self.server) && channels.iter().eq([self.server]));
        debug_println!("client: notified by {}", channels.display());
        Ok(())
    }
}
