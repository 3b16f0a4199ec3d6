//! A 16550 UART, of COM1 or COM2 (National Semiconductor PC16550D): registers and interrupt causes. The device is
//! trusted to do no harm, but not to be quick: no function here waits for it.

use sel4_microkit::IoPort;

/// Registers, by offset.
mod register {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const INTERRUPT_ID: u16 = 2;
    pub const FIFO_CONTROL: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
    pub const MODEM_STATUS: u16 = 6;
    pub const SCRATCH: u16 = 7;
}

/// Line status: a byte was received.
const DATA_READY: u8 = 1;
/// Line status: a received byte found no room in the FIFO.
const OVERRUN: u8 = 2;
/// Line status: the transmit FIFO is empty.
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Interrupts for received bytes and for line errors.
const ENABLE_RECEIVE: u8 = 5;
/// Line control: 8 data bits, no parity, 1 stop bit.
const EIGHT_BITS: u8 = 3;
/// Line control: the first two registers are the divisor of the speed.
const DIVISOR: u8 = 0x80;
/// Modem control: DTR, and OUT2, which lets the interrupt out.
const READY: u8 = 9;
/// Modem control: RTS, which allows the other end to send.
const MAY_SEND: u8 = 2;
/// FIFO control: FIFOs on and empty, an interrupt at [`TRIGGER`] received bytes, or four characters' time after the
/// last one.
const FIFOS: u8 = 0xc7;
const TRIGGER: usize = 14;
/// Interrupt for an empty transmit FIFO.
const ENABLE_TRANSMIT: u8 = 2;
/// Bytes that either FIFO can store.
const FIFO: usize = 16;
/// Maximum number of interrupt causes handled at a time.
const CAUSES: usize = 8;
/// Maximum number of full FIFOs received at a time, and sent at a time (`BURSTS`), in case the device is that quick.
const RECEIVED: usize = 16;
const BURSTS: usize = 8;

/// The receiver of bytes.
pub trait Take {
    /// Returns how many bytes may be received now. If that is 0, they stay in the device until [`Uart::resume`].
    fn room(&mut self) -> usize;
    /// Receives these bytes, at most as many as [`Self::room`] returned.
    fn take(&mut self, bytes: &[u8]);
}

/// Use of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// By a person: the speed stays as the firmware set it.
    Typed,
    /// By a program: 115200 bit/s.
    Fast,
}

/// The device.
pub struct Uart {
    port: IoPort,
    wants_to_send: bool,
    /// True if received bytes are left in the device.
    held: bool,
    /// Received bytes that the device lost.
    pub overruns: u64,
}

impl Uart {
    /// Returns true if there is a device: it keeps a value written to its scratch register.
    pub fn is_present(port: IoPort) -> bool {
        [0x5a, 0xa5].into_iter().all(|value| {
            port.out8(register::SCRATCH, value);
            port.in8(register::SCRATCH) == value
        })
    }

    /// Takes over the device and turns on its interrupt for received bytes.
    pub fn start(port: IoPort, speed: Speed) -> Uart {
        port.out8(register::INTERRUPT_ENABLE, 0);
        if speed == Speed::Fast {
            port.out8(register::LINE_CONTROL, EIGHT_BITS | DIVISOR);
            port.out8(register::DATA, 1);
            port.out8(register::INTERRUPT_ENABLE, 0);
        }
        port.out8(register::LINE_CONTROL, EIGHT_BITS);
        port.out8(register::FIFO_CONTROL, FIFOS);
        port.out8(register::MODEM_CONTROL, READY | MAY_SEND);
        port.out8(register::INTERRUPT_ENABLE, ENABLE_RECEIVE);
        Uart {
            port,
            wants_to_send: false,
            held: false,
            overruns: 0,
        }
    }

    /// Handles the causes of an interrupt. Passes received bytes to `take` as long as it has room.
    ///
    /// The line to the interrupt controller is edge-triggered, so it must fall: all causes are handled until the device
    /// reports none. If the bound is reached before, turning the causes off and on makes an edge.
    pub fn interrupted(&mut self, take: &mut impl Take) {
        for _ in 0..CAUSES {
            match self.port.in8(register::INTERRUPT_ID) & 0xf {
                cause if cause & 1 != 0 => return,
                0x4 => self.receive(take, TRIGGER),
                0xc => self.receive(take, 0),
                0x6 => {
                    self.status();
                }
                // Reading the register has cleared the transmitter's cause.
                0x2 => {}
                _ => {
                    self.port.in8(register::MODEM_STATUS);
                }
            }
        }
        self.make_edge();
    }

    /// Receives bytes from the FIFO. It is known to contain `sure` bytes, so the status is not read for these. In an
    /// emulator an access to a register costs as much as some thousand instructions.
    fn receive(&mut self, take: &mut impl Take, mut sure: usize) {
        for _ in 0..RECEIVED {
            let room = take.room().min(FIFO);
            if room == 0 {
                // With the interrupt off, its cause disappears. RTS and a full FIFO stop the other end.
                self.hold(true);
                return;
            }
            let (mut bytes, mut count) = ([0; FIFO], 0);
            while count < room && (count < sure || self.status() & DATA_READY != 0) {
                bytes[count] = self.port.in8(register::DATA);
                count += 1;
            }
            take.take(&bytes[..count]);
            if count < room {
                return;
            }
            sure = 0;
        }
    }

    /// Resumes receiving if it had stopped for want of room.
    pub fn resume(&mut self, take: &mut impl Take) {
        if self.held && take.room() != 0 {
            self.hold(false);
            self.receive(take, 0);
        }
    }

    fn hold(&mut self, held: bool) {
        self.held = held;
        self.port.out8(
            register::MODEM_CONTROL,
            if held { READY } else { READY | MAY_SEND },
        );
        self.port.out8(register::INTERRUPT_ENABLE, self.enabled());
    }

    fn status(&mut self) -> u8 {
        let status = self.port.in8(register::LINE_STATUS);
        self.overruns += u64::from(status & OVERRUN != 0);
        status
    }

    fn make_edge(&self) {
        self.port.out8(register::INTERRUPT_ENABLE, 0);
        self.port.out8(register::INTERRUPT_ENABLE, self.enabled());
    }

    fn enabled(&self) -> u8 {
        let receive = if self.held { 0 } else { ENABLE_RECEIVE };
        receive | if self.wants_to_send { ENABLE_TRANSMIT } else { 0 }
    }

    /// Sends bytes from `next` as long as the device accepts them. Returns true if any byte was sent.
    pub fn send(&mut self, mut next: impl FnMut() -> Option<u8>) -> bool {
        let mut sent = false;
        for _ in 0..BURSTS {
            if self.status() & TRANSMITTER_EMPTY == 0 {
                break;
            }
            for _ in 0..FIFO {
                let Some(byte) = next() else { return sent };
                self.port.out8(register::DATA, byte);
                sent = true;
            }
        }
        sent
    }

    /// Turns on or off the interrupt for an empty transmitter. `wanted` is true if there are more bytes; `sent` is the
    /// result of [`Self::send`].
    pub fn want_to_send(&mut self, wanted: bool, sent: bool) {
        if wanted != self.wants_to_send {
            self.wants_to_send = wanted;
            self.port.out8(register::INTERRUPT_ENABLE, self.enabled());
        } else if wanted && !sent {
            self.make_edge();
        }
    }
}
