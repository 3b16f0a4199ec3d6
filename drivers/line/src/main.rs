//! The driver domain of the control line: it owns the virtio-console device and its memory, and half of the region `line-remote`.
//!
//! On the other side are the device, with any program on the host behind it, and the domain `remote`, which decodes the frames.
//! Neither is trusted, and no domain trusts this one: it has the priority of the branes and takes turns with them. The manager is
//! its parent and restarts it after a fault. It waits for nobody. If the machine has no such device, the domain logs that once; COM2
//! then carries the control line.
#![no_std]
#![no_main]

mod own;

use brane_abi::layout::line_remote;
use line_core::device::{QUEUES, VirtioConsole};
use line_core::pump::Pump;
use own::Own;
use sel4_microkit::{Channel, ChannelSet, Handler, Never, log, logln, protection_domain, yield_turn};
use virtio::pci::{self, Kicks};
use virtio_drivers::transport::pci::PciTransport;

#[allow(missing_docs)]
mod wiring {
    include!(concat!(env!("OUT_DIR"), "/wiring.rs"));
}
use wiring::{channels, irqs, regions};

const IRQ: Channel = Channel::new(irqs::IRQ[0]);
const SERIAL: Channel = Channel::new(channels::SERIAL);
const REMOTE: Channel = Channel::new(channels::REMOTE);

/// The device of this domain.
type Device = VirtioConsole<Own, PciTransport, Kicks<QUEUES>>;

struct Line {
    /// `None` if the machine has none, or it could not be started, or it has failed.
    device: Option<Device>,
    pump: Pump,
}

/// Finds and starts the device.
fn open() -> Option<Device> {
    let Some((transport, kicks)) = pci::open::<Own, QUEUES>() else {
        logln!(
            "there is no virtio-console device at PCI {}; the control line is COM2",
            pci::place::<Own>()
        );
        return None;
    };
    match VirtioConsole::start(transport, kicks) {
        Ok(device) => {
            logln!("virtio-console at PCI {}", pci::place::<Own>());
            Some(device)
        }
        Err(why) => {
            logln!("{why}; the control line is COM2");
            None
        }
    }
}

#[protection_domain]
fn init() -> Line {
    log::attach(regions::LOG_LINE, SERIAL);
    let ends = line_remote::LINE.driver_ends(regions::LINE_REMOTE.shared());
    let mut line = Line {
        device: open(),
        pump: Pump::new(
            ends.expect("a region of the system description is smaller than the layout asks for"),
        ),
    };
    // An interrupt that an earlier incarnation did not acknowledge would stop all further ones. There is none pending otherwise,
    // and then this has no effect.
    let _ = IRQ.irq_ack();
    line.work();
    line
}

impl Line {
    /// Moves bytes until no more can be moved now. Each pass moves a bounded number; between two passes all other domains of this
    /// priority have a turn.
    fn work(&mut self) {
        let Some(device) = &mut self.device else {
            return;
        };
        loop {
            let pass = self.pump.pass(device);
            if pass.notify {
                REMOTE.notify();
            }
            if !pass.more {
                break;
            }
            yield_turn();
        }
        if let Some(why) = device.failure() {
            logln!("the device has failed: {why}. It is not used any more; the control line is COM2");
            self.device = None;
        } else if self.pump.is_quarantined() {
            logln!("remote violated the ring protocol; the line is off until this domain restarts");
            self.device = None;
        }
    }
}

impl Handler for Line {
    type Error = Never;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Never> {
        let interrupted = channels.contains(IRQ);
        if interrupted && let Some(device) = &mut self.device {
            device.acknowledge();
        }
        self.work();
        // The line is level-triggered and this domain's own, so acknowledging cannot fail. A device that is not used any more is
        // not acknowledged: it would interrupt again at once, without end.
        if interrupted && self.device.is_some() {
            let _ = IRQ.irq_ack();
        }
        Ok(())
    }
}
