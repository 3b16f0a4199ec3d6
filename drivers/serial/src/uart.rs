//! The 16550 UART at COM1 (National Semiconductor PC16550D): registers and interrupt causes. The device is trusted to
//! do no harm, but not to be quick: nothing here waits for it.

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
}

/// Line status: a byte was received.
const DATA_READY: u8 = 1;
/// Line status: a received byte found no room in the FIFO.
const OVERRUN: u8 = 2;
/// Line status: the transmit FIFO is empty.
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Interrupts for received bytes and for line errors.
const ENABLE_RECEIVE: u8 = 5;
/// Interrupt for an empty transmit FIFO.
const ENABLE_TRANSMIT: u8 = 2;
/// Bytes that the transmit FIFO takes when it is empty.
const FIFO: usize = 16;
/// Interrupt causes looked at, and received bytes taken, in one go.
const CAUSES: usize = 8;
const RECEIVED: usize = 256;
/// Full FIFOs given to the device in one go, should it be that quick.
const BURSTS: usize = 8;

/// The device.
pub struct Uart {
    port: IoPort,
    wants_to_send: bool,
    /// Received bytes that the device lost.
    pub overruns: u64,
}

impl Uart {
    /// Takes the device over, with its interrupt for received bytes on.
    pub fn start(port: IoPort) -> Uart {
        port.out8(register::INTERRUPT_ENABLE, 0);
        // 8 data bits, no parity, 1 stop bit; the speed stays as the firmware set it.
        port.out8(register::LINE_CONTROL, 3);
        // FIFOs on and empty, an interrupt at the first byte; then DTR, RTS, and OUT2, which lets the interrupt out.
        port.out8(register::FIFO_CONTROL, 7);
        port.out8(register::MODEM_CONTROL, 0xb);
        port.out8(register::INTERRUPT_ENABLE, ENABLE_RECEIVE);
        Uart {
            port,
            wants_to_send: false,
            overruns: 0,
        }
    }

    /// Handles the causes of an interrupt, handing each received byte to `receive`.
    ///
    /// The line to the interrupt controller triggers by its edge, so it has to fall: all causes are taken until the
    /// device names none. Should the budget end before, switching them off and on makes an edge.
    pub fn interrupted(&mut self, mut receive: impl FnMut(u8)) {
        for _ in 0..CAUSES {
            match self.port.in8(register::INTERRUPT_ID) & 0xf {
                cause if cause & 1 != 0 => return,
                0x4 | 0xc => self.receive(&mut receive),
                0x6 => {
                    self.status();
                }
                // The transmitter's cause is taken by having been read.
                0x2 => {}
                _ => {
                    self.port.in8(register::MODEM_STATUS);
                }
            }
        }
        self.make_edge();
    }

    fn receive(&mut self, receive: &mut impl FnMut(u8)) {
        for _ in 0..RECEIVED {
            if self.status() & DATA_READY == 0 {
                return;
            }
            receive(self.port.in8(register::DATA));
        }
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
        ENABLE_RECEIVE | if self.wants_to_send { ENABLE_TRANSMIT } else { 0 }
    }

    /// Gives the device what it takes now, from `next`; whether that was anything.
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

    /// After [`Self::send`] (with its result): has an interrupt come when the device can take more, or no longer.
    pub fn want_to_send(&mut self, wanted: bool, sent: bool) {
        if wanted != self.wants_to_send {
            self.wants_to_send = wanted;
            self.port.out8(register::INTERRUPT_ENABLE, self.enabled());
        } else if wanted && !sent {
            self.make_edge();
        }
    }
}
