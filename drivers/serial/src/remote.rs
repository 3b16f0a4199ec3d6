//! The line to the operator's machine: COM2 on one side, the region `remote-line` on the other. Bytes go both ways as they are.
//!
//! Neither the remote domain nor the operator's machine is trusted. Where the domain is slow or the line's budget is used up, what is
//! received stays in the device, which tells the other end of the line to wait. Where the domain's rings make no sense they are
//! emptied and counted.

use crate::accounts::{Accounts, Meter};
use crate::indices;
use crate::uart::{Speed, Take, Uart};
use brane_abi::layout::{Part, remote_line};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use sel4_microkit::time::Clock;
use sel4_microkit::{Channel, IoPort};

use crate::wiring::{channels, ioports, regions};

/// The remote domain.
pub const REMOTE: Channel = Channel::new(channels::REMOTE);
/// Bytes taken from its ring at a time.
const PIECE: usize = 256;
/// It is told of room after so many bytes, or when all is sent.
const ROOM: usize = 0x2000;

/// The line.
pub struct RemoteLine {
    uart: Uart,
    input: Input,
    output: StreamConsumer,
    /// Bytes out of the ring on their way to the device: which of them are left.
    piece: [u8; PIECE],
    left: core::ops::Range<usize>,
    /// Bytes taken since it was told.
    taken: usize,
    /// Times that its ring of what is to be sent made no sense.
    emptied: u64,
}

/// What is received goes here.
struct Input {
    ring: StreamProducer,
    news: bool,
    emptied: u64,
}

/// The input with the line's account.
struct Metered<'a>(&'a mut Input, Meter<'a>);

impl Take for Metered<'_> {
    fn room(&mut self) -> usize {
        let Metered(input, meter) = self;
        if !meter.allows() {
            return 0;
        }
        if let Ok(room) = input.ring.room() {
            return room;
        }
        indices(regions::REMOTE_LINE.shared(), remote_line::INPUT_INDICES).reset();
        input.ring.reset();
        input.emptied += 1;
        input.ring.room().unwrap_or(0)
    }

    fn take(&mut self, bytes: &[u8]) {
        let Metered(input, meter) = self;
        // There was room for them, and only the reader moves that.
        input.news |= input.ring.write(bytes).is_ok_and(|count| count != 0);
        meter.charge();
    }
}

impl RemoteLine {
    /// Takes COM2 over; `None` on a machine without one.
    pub fn start() -> Option<RemoteLine> {
        let port = IoPort::new(ioports::IOPORT[1]);
        if !Uart::is_present(port) {
            return None;
        }
        let shared = regions::REMOTE_LINE.shared();
        let part = |part: Part| shared.part(part.offset, part.len).expect(crate::TOO_SMALL);
        let input = StreamProducer::new(
            indices(shared, remote_line::INPUT_INDICES),
            part(remote_line::INPUT),
        );
        let output = StreamConsumer::new(
            indices(shared, remote_line::OUTPUT_INDICES),
            part(remote_line::OUTPUT),
        );
        Some(RemoteLine {
            uart: Uart::start(port, Speed::Fast),
            input: Input {
                ring: input.expect(crate::TOO_SMALL),
                news: false,
                emptied: 0,
            },
            output: output.expect(crate::TOO_SMALL),
            piece: [0; PIECE],
            left: 0..0,
            taken: 0,
            emptied: 0,
        })
    }

    /// Bytes that the device lost, and times that a ring made no sense.
    pub fn troubles(&self) -> (u64, u64) {
        (self.uart.overruns, self.emptied + self.input.emptied)
    }

    /// Receives and sends as many bytes as the rings, the device and the line's budget allow. If receiving had stopped for want of budget,
    /// sending comes first, so a flood of requests does not hold back its answers.
    pub fn work(&mut self, interrupt: bool, accounts: &mut Accounts, clock: &Clock) {
        if interrupt {
            // Before sending: this handles older causes than those that sending makes.
            let mut input = Metered(&mut self.input, Meter::new(REMOTE, accounts, clock));
            self.uart.interrupted(&mut input);
        }
        let told = self.send(accounts, clock);
        let mut input = Metered(&mut self.input, Meter::new(REMOTE, accounts, clock));
        self.uart.resume(&mut input);
        if core::mem::take(&mut self.input.news) || told {
            REMOTE.notify();
        }
    }

    /// Sends. Returns true if the remote domain must be notified of room in its ring.
    fn send(&mut self, accounts: &mut Accounts, clock: &Clock) -> bool {
        let RemoteLine {
            uart,
            output,
            piece,
            left,
            taken,
            emptied,
            ..
        } = self;
        let (begin, mut bytes) = (clock.now_ns(), 0);
        let sent = uart.send(|| {
            if left.start == left.end {
                if accounts.holds_line(REMOTE, begin) {
                    return None;
                }
                let count = output.read(piece).unwrap_or_else(|_| {
                    indices(regions::REMOTE_LINE.shared(), remote_line::OUTPUT_INDICES).reset();
                    output.reset();
                    *emptied += 1;
                    0
                });
                *left = 0..count;
                *taken += count;
                accounts.sends(REMOTE, begin, count);
            }
            let byte = left.next().map(|at| piece[at]);
            bytes += u64::from(byte.is_some());
            byte
        });
        accounts.sent(bytes, clock.now_ns().saturating_sub(begin));
        let more = left.start != left.end || output.available().is_ok_and(|count| count != 0);
        let held = left.start == left.end && more && accounts.holds_line(REMOTE, begin);
        uart.want_to_send(more && !held, sent);
        let told = *taken >= ROOM || *taken != 0 && !more;
        if told {
            self.taken = 0;
        }
        told
    }
}
