//! The manager's end of the control region of one brane or subscriber: commands out, reports in (side A).
//!
//! The other side is not trusted. If it violates the protocol, it is quarantined until it restarts, and reported to the
//! core, which stops it.

use brane_abi::control::{CONTROL_BIT, MAX_COMMAND, MAX_MESSAGE};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::ctl;
use brane_abi::link::Side;
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;
use brane_manager_core::{Child, Event};
use sel4_microkit::Channel;

/// Maximum number of reports received from one brane in one wake.
const REPORT_BUDGET: usize = 16;
/// Maximum number of handshakes with one brane in one wake.
const HANDSHAKE_BUDGET: usize = 2;
/// The violation that a ring operation finds.
const RING_VIOLATION: &str = "an impossible index or length in its ring";

/// Reason why a command was not sent.
pub enum SendError {
    /// The ring is full, or the link is down.
    NoRoom,
    /// The other side violated the protocol.
    Peer(&'static str),
}

/// The region, and the manager's private state for it.
pub struct Control {
    endpoint: Endpoint<RingPair>,
    channel: Channel,
    /// A report's payload, copied once. One byte longer than the maximum, so that a longer report is detected.
    buffer: [u8; MAX_MESSAGE + 1],
}

impl Control {
    /// Starts the manager's side and notifies the other.
    pub fn start(region: SharedRegion, channel: Channel) -> Control {
        // The system description determines the region's size, so these succeed or the image is wrong.
        let rings = ctl::manager_rings(region).expect("a control region has 64 KiB");
        let mut control = Control {
            endpoint: Endpoint::start(region, Side::A, rings).expect("a control region has 64 KiB"),
            channel,
            buffer: [0; MAX_MESSAGE + 1],
        };
        control.flush(0);
        control
    }

    /// Polls the link and passes link-ups, reports and violations to `sink`. Returns true if there may be more; the
    /// caller must then poll again soon.
    pub fn poll(&mut self, child: Child, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let mut reports = 0;
        let mut handshakes = 0;
        loop {
            self.endpoint.wake();
            match self.endpoint.poll() {
                LinkEvent::PeerRestarted if handshakes == HANDSHAKE_BUDGET => return true,
                LinkEvent::PeerRestarted => {
                    handshakes += 1;
                    self.endpoint.accept();
                    self.flush(0);
                    continue;
                }
                LinkEvent::CameUp => sink(Event::LinkUp(child)),
                LinkEvent::Incompatible => sink(Event::Violation {
                    child,
                    what: "it speaks another version",
                }),
                LinkEvent::Unchanged | LinkEvent::Lost => {}
            }
            if self.endpoint.is_up() {
                match self.take(child, REPORT_BUDGET.saturating_sub(reports), sink) {
                    Ok(taken) => reports += taken,
                    Err(()) if handshakes + reports > REPORT_BUDGET => return true,
                    Err(()) => {
                        reports += 1;
                        continue;
                    }
                }
                if reports >= REPORT_BUDGET {
                    return true;
                }
            }
            if self.endpoint.arm() {
                return false;
            }
            // The doorbell rang meanwhile. A peer that rings forever gets no more than the budget.
            reports += 1;
            if reports >= REPORT_BUDGET {
                return true;
            }
        }
    }

    /// Passes reports to `sink`. Fails if the other side violated the protocol or has restarted; the caller must then
    /// poll the link again.
    fn take(&mut self, child: Child, budget: usize, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, ()> {
        let Self { endpoint, buffer, .. } = self;
        for taken in 0..budget {
            let record = endpoint.rings.rx.take(|record| {
                let len = record.copy_to(buffer).len();
                (record.meta, len)
            });
            match record {
                Ok(Some(([kind, token, _], len))) => {
                    endpoint.rings.rx.release();
                    sink(Event::Report {
                        child,
                        kind,
                        token,
                        payload: &buffer[..len],
                    });
                }
                Ok(None) => return Ok(taken),
                Err(_) => {
                    if endpoint.violation() {
                        sink(Event::Violation {
                            child,
                            what: RING_VIOLATION,
                        });
                    }
                    return Err(());
                }
            }
        }
        Ok(budget)
    }

    /// Puts a command into the ring and notifies the other side if it sleeps.
    pub fn send(&mut self, kind: u32, token: u32, payload: &[u8]) -> Result<(), SendError> {
        if !self.endpoint.is_up() || payload.len() > MAX_COMMAND {
            return Err(SendError::NoRoom);
        }
        match self.endpoint.rings.tx.push(&[payload], [kind, token, 0]) {
            Ok(()) => {}
            Err(RingError::Peer) if self.endpoint.violation() => {
                return Err(SendError::Peer(RING_VIOLATION));
            }
            Err(_) => return Err(SendError::NoRoom),
        }
        if self.endpoint.rings.tx.publish() {
            self.flush(CONTROL_BIT);
        }
        Ok(())
    }

    fn flush(&mut self, bits: u64) {
        if self.endpoint.flush(bits) {
            self.channel.notify();
        }
    }
}
