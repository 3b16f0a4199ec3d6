//! The serial domain. It owns COM1, a 16550 UART (National Semiconductor PC16550D), and prints on it what the console
//! writes and, line by line, what all others log; what is typed goes to the console.
//!
//! Nobody on the other side is trusted: a writer whose ring makes no sense is left alone from then on. Everything is
//! interrupt-driven and bounded for each wake; nothing waits for anybody.
#![no_std]
#![no_main]

use brane_abi::layout::tty;
use brane_abi::ring::RingIndices;
use brane_abi::shared::SharedRegion;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use sel4_microkit::{Channel, ChannelSet, Handler, IoPort, Never, protection_domain};
use serial_core::{LineBuffer, Queue};

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, regions};

const IRQ: Channel = Channel::new(wiring::irqs::IRQ[0]);
const CONSOLE: Channel = Channel::new(channels::CONSOLE);

/// Registers by offset.
mod register {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const INTERRUPT_ID: u16 = 2;
    pub const FIFO: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
}
const RECEIVED: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 0x20;
const ENABLE_RECEIVE: u8 = 1;
const ENABLE_TRANSMIT: u8 = 2;
/// Bytes that the transmit FIFO takes when it is empty.
const FIFO: usize = 16;
/// Bytes taken from one writer at each wake.
const BUDGET: usize = 2048;
/// Writers: brane-N, services-N, nic0, manager, console.
const WRITERS: usize = regions::LOG_BRANE.len() + regions::LOG_SERVICES.len() + 3;

struct Writer {
    /// Name without its number, and the number where it has one.
    name: (&'static str, Option<usize>),
    channel: usize,
    ring: Option<StreamConsumer>,
    line: LineBuffer,
}

struct Serial {
    port: IoPort,
    queue: Queue,
    writers: [Writer; WRITERS],
    keyboard: Option<StreamProducer>,
    screen: Option<StreamConsumer>,
    transmitting: bool,
}

fn indices(region: SharedRegion, offset: usize) -> Option<&'static RingIndices> {
    // SAFETY: RingIndices is made of atomics only.
    unsafe { region.object(offset) }
}

#[protection_domain]
fn init() -> Serial {
    let port = IoPort::new(wiring::ioports::IOPORT[0]);
    port.out8(register::INTERRUPT_ENABLE, 0);
    // 8 data bits, no parity, 1 stop bit; the speed stays as the firmware set it.
    port.out8(register::LINE_CONTROL, 3);
    // FIFOs on and empty; DTR, RTS, and OUT2, which lets the interrupt out.
    port.out8(register::FIFO, 7);
    port.out8(register::MODEM_CONTROL, 0xb);
    port.out8(register::INTERRUPT_ENABLE, ENABLE_RECEIVE);

    let branes = regions::LOG_BRANE.len();
    let services = regions::LOG_SERVICES.len();
    let writers = core::array::from_fn(|i| {
        let (name, channel, region) = if i < branes {
            (("brane", Some(i)), channels::BRANE[i], regions::LOG_BRANE[i])
        } else if i < branes + services {
            let n = i - branes;
            (
                ("services", Some(n)),
                channels::SERVICES[n],
                regions::LOG_SERVICES[n],
            )
        } else {
            match i - branes - services {
                0 => (("nic0", None), channels::NIC0, regions::LOG_NIC0),
                1 => (("manager", None), channels::MANAGER, regions::LOG_MANAGER),
                _ => (("console", None), channels::CONSOLE, regions::LOG_CONSOLE),
            }
        };
        Writer {
            name,
            channel,
            ring: brane_abi::log::consumer(region.shared()),
            line: LineBuffer::default(),
        }
    });
    let shared = regions::TTY.shared();
    let part = |part: brane_abi::layout::Part| shared.part(part.offset, part.len);
    let keyboard = || StreamProducer::new(indices(shared, tty::INPUT_INDICES)?, part(tty::INPUT)?);
    let screen = || StreamConsumer::new(indices(shared, tty::OUTPUT_INDICES)?, part(tty::OUTPUT)?);
    Serial {
        port,
        queue: Queue::default(),
        writers,
        keyboard: keyboard(),
        screen: screen(),
        transmitting: false,
    }
}

impl Writer {
    /// Prints what there is, up to the budget; whether there may be more.
    fn drain(&mut self, queue: &mut Queue) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let mut number = *b"-00";
        let (base, n) = self.name;
        let mut name = [0u8; 16];
        let len = base.len();
        name[..len].copy_from_slice(base.as_bytes());
        let mut end = len;
        if let Some(n) = n {
            number[1] = b'0' + (n / 10) as u8;
            number[2] = b'0' + (n % 10) as u8;
            let digits: &[u8] = if n < 10 { &[b'-', number[2]] } else { &number };
            name[end..end + digits.len()].copy_from_slice(digits);
            end += digits.len();
        }
        let name = core::str::from_utf8(&name[..end]).unwrap_or("?");
        let mut chunk = [0; 256];
        let mut taken = 0;
        while taken < BUDGET {
            match ring.read(&mut chunk) {
                Ok(0) => return false,
                Ok(len) => {
                    taken += len;
                    self.line.feed(name, &chunk[..len], |bytes| queue.push(bytes));
                }
                Err(_) => {
                    self.line
                        .feed(name, b"(log ring broken, no longer read)\n", |bytes| {
                            queue.push(bytes)
                        });
                    self.ring = None;
                    return false;
                }
            }
        }
        true
    }
}

impl Serial {
    fn receive(&mut self) {
        let mut news = false;
        for _ in 0..BUDGET {
            if self.port.in8(register::LINE_STATUS) & RECEIVED == 0 {
                break;
            }
            let byte = self.port.in8(register::DATA);
            if let Some(keyboard) = &mut self.keyboard {
                news |= keyboard.write(&[byte]).is_ok();
            }
        }
        if news {
            CONSOLE.notify();
        }
    }

    fn screen(&mut self) -> bool {
        let Some(screen) = &mut self.screen else {
            return false;
        };
        let mut chunk = [0; 256];
        let mut taken = 0;
        while taken < BUDGET && self.queue.room() > chunk.len() {
            match screen.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => {
                    taken += len;
                    self.queue.push(&chunk[..len]);
                }
                Err(_) => {
                    self.screen = None;
                    break;
                }
            }
        }
        taken != 0
    }

    fn transmit(&mut self) {
        while self.port.in8(register::LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
            for _ in 0..FIFO {
                let Some(byte) = self.queue.pop() else {
                    if self.transmitting {
                        self.transmitting = false;
                        self.port.out8(register::INTERRUPT_ENABLE, ENABLE_RECEIVE);
                    }
                    return;
                };
                self.port.out8(register::DATA, byte);
            }
            if !self.transmitting {
                self.transmitting = true;
                self.port
                    .out8(register::INTERRUPT_ENABLE, ENABLE_RECEIVE | ENABLE_TRANSMIT);
            }
            // The rest follows at the next interrupt.
            return;
        }
    }
}

impl Handler for Serial {
    type Error = Never;

    fn notified(&mut self, signalled: ChannelSet) -> Result<(), Never> {
        if signalled.contains(IRQ) {
            self.port.in8(register::INTERRUPT_ID);
            self.receive();
        }
        for writer in &mut self.writers {
            if signalled.contains(Channel::new(writer.channel)) && writer.drain(&mut self.queue) {
                // More than a budget's worth: look again at the next wake, which the device's interrupt brings.
                while self.queue.room() > BUDGET && writer.drain(&mut self.queue) {}
            }
        }
        if signalled.contains(CONSOLE) || self.transmitting {
            let room_was_short = self.screen();
            if room_was_short {
                CONSOLE.notify();
            }
        }
        self.transmit();
        if signalled.contains(IRQ) {
            // An edge interrupt of our own handler is always there to be acknowledged.
            let _ = IRQ.irq_ack();
        }
        Ok(())
    }
}
