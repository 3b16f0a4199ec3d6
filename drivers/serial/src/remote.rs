//! The line to the operator's machine: COM2 on one side, the region `remote-line` on the other. Bytes pass unchanged in
//! both directions.
//!
//! Neither the remote domain nor the operator's machine is trusted. If the domain is slow or the line's budget is used
//! up, received bytes stay in the device, which stops the sender at the other end. If the domain's rings are invalid,
//! they are emptied and counted.

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
/// Bytes read from the remote domain's ring at a time.
const PIECE: usize = 256;
/// Bytes after which the remote domain is notified of room. It is also notified when all bytes are sent.
const ROOM: usize = 0x2000;

/// The remote line.
pub struct RemoteLine {
    uart: Uart,
    input: Input,
    output: StreamConsumer,
    /// Bytes out of the ring on their way to the device. `left` is the range not yet sent.
    piece: [u8; PIECE],
    left: core::ops::Range<usize>,
    /// Bytes read from the ring since the last notification of room.
    taken: usize,
    /// Times that the ring of bytes to send was invalid.
    emptied: u64,
}

/// The ring for received bytes.
struct Input {
    ring: StreamProducer,
    pending: bool,
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
        // `room` has found room for them, and since then only the reader can have changed the room.
        input.pending |= input.ring.write(bytes).is_ok_and(|count| count != 0);
        meter.charge();
    }
}

impl RemoteLine {
    /// Takes over COM2. Returns `None` on a machine without it.
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
                pending: false,
                emptied: 0,
            },
            output: output.expect(crate::TOO_SMALL),
            piece: [0; PIECE],
            left: 0..0,
            taken: 0,
            emptied: 0,
        })
    }

    /// Returns the number of bytes that the device lost, and the number of times that a ring was invalid.
    pub fn troubles(&self) -> (u64, u64) {
        (self.uart.overruns, self.emptied + self.input.emptied)
    }

    /// Receives and sends as many bytes as the rings, the device and the line's budget allow. If receiving had stopped
    /// for want of budget, sending comes first, so a flood of requests does not delay its answers.
    pub fn work(&mut self, interrupt: bool, accounts: &mut Accounts, clock: &Clock) {
        if interrupt {
            // Before sending, because these causes are older than those that sending creates.
            let mut input = Metered(&mut self.input, Meter::new(REMOTE, accounts, clock));
            self.uart.interrupted(&mut input);
        }
        let told = self.send(accounts, clock);
        let mut input = Metered(&mut self.input, Meter::new(REMOTE, accounts, clock));
        self.uart.resume(&mut input);
        if core::mem::take(&mut self.input.pending) || told {
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
