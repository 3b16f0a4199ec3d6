//! One brane's control region: handshake, commands out, reports in (side A; the brane is not trusted).
//!
//! A brane that breaks the rules is cut off here until its next life and reported to the core, which stops it.

use brane_abi::control::{CONTROL_BIT, MAX_MESSAGE};
use brane_abi::layout::ctl;
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::ring::{Consumer, Producer, RingError, RingIndices};
use brane_abi::shared::SharedRegion;
use brane_manager_core::{Child, Event};
use sel4_microkit::Channel;

/// Reports taken from one brane in one wake.
const REPORT_BUDGET: usize = 16;
/// Handshakes with one brane in one wake.
const HANDSHAKE_BUDGET: usize = 2;

/// Why a command was not sent.
pub enum SendError {
    /// The ring is full, or there is nobody to read it.
    NoRoom,
    /// The brane broke the rules.
    Peer(&'static str),
}

/// The region and our private state of it.
pub struct Control {
    link: Link,
    commands: Producer,
    reports: Consumer,
    indices: [&'static RingIndices; 2],
    channel: Channel,
    up: bool,
    cut: bool,
    /// A report's payload, copied once; one byte longer than allowed, so that too long ones show.
    buffer: [u8; MAX_MESSAGE + 1],
}

impl Control {
    /// Starts our side and tells the brane.
    pub fn start(region: SharedRegion, channel: Channel) -> Control {
        // The region's size is the system description's, so these hold or the image is wrong.
        let part =
            |p: brane_abi::layout::Part| region.part(p.offset, p.len).expect("a control region has 64 KiB");
        // SAFETY: RingIndices is made of atomics only.
        let indices = [ctl::COMMAND_INDICES, ctl::REPORT_INDICES].map(|at| unsafe { region.object(at) });
        let indices: [&'static RingIndices; 2] = indices.map(|i| i.expect("a control region has 64 KiB"));
        let control = Control {
            commands: Producer::new(indices[0], part(ctl::COMMANDS)).expect("the layout has powers of two"),
            reports: Consumer::new(indices[1], part(ctl::REPORTS)).expect("the layout has powers of two"),
            link: Link::start(region, Side::A).expect("a control region has 64 KiB"),
            indices,
            channel,
            up: false,
            cut: false,
            buffer: [0; MAX_MESSAGE + 1],
        };
        channel.notify();
        control
    }

    /// Looks at the region and hands what it finds to `sink`. Returns whether there may be more: then come again soon.
    pub fn serve(&mut self, child: Child, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        self.link.own_bell().disarm();
        let mut reports = 0;
        let mut handshakes = 0;
        loop {
            self.link.own_bell().take();
            match self.link.poll() {
                LinkState::PeerRestarted if handshakes == HANDSHAKE_BUDGET => return true,
                LinkState::PeerRestarted => {
                    handshakes += 1;
                    self.up = false;
                    self.cut = false;
                    self.indices.iter().for_each(|i| i.reset());
                    self.commands.reset();
                    self.reports.reset();
                    self.link.acknowledge();
                    self.channel.notify();
                    continue;
                }
                LinkState::Up if self.cut => {}
                LinkState::Up => {
                    if !self.up {
                        self.up = true;
                        sink(Event::LinkUp(child));
                    }
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
                LinkState::Incompatible => self.breach(child, "it speaks another version", sink),
                LinkState::Down => {}
            }
            if self.link.own_bell().arm() {
                return false;
            }
            // It rang meanwhile. One that does so for ever gets no more than the budget.
            reports += 1;
            if reports >= REPORT_BUDGET {
                return true;
            }
        }
    }

    /// `Err`: cut off, or the brane has just begun anew; look at the link again.
    fn take(&mut self, child: Child, budget: usize, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize, ()> {
        let buffer = &mut self.buffer;
        for taken in 0..budget {
            let record = self.reports.take(|record| {
                let len = record.copy_to(buffer).len();
                (record.meta, len)
            });
            match record {
                Ok(Some(([kind, token, _], len))) => {
                    self.reports.release();
                    sink(Event::Report {
                        child,
                        kind,
                        token,
                        payload: &buffer[..len],
                    });
                }
                Ok(None) => return Ok(taken),
                Err(error) => {
                    if self.link.poll() == LinkState::Up {
                        self.breach(child, wording(error), sink);
                    }
                    return Err(());
                }
            }
        }
        Ok(budget)
    }

    fn breach(&mut self, child: Child, what: &str, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.cut {
            self.cut = true;
            sink(Event::Violation { child, what });
        }
    }

    /// Puts a command into the ring and wakes the brane if it sleeps.
    pub fn send(&mut self, kind: u32, token: u32, payload: &[u8]) -> Result<(), SendError> {
        if !self.up || self.cut || payload.len() > MAX_MESSAGE {
            return Err(SendError::NoRoom);
        }
        match self.commands.push(&[payload], [kind, token, 0]) {
            Ok(()) => {}
            Err(RingError::Full | RingError::TooLong) => return Err(SendError::NoRoom),
            Err(error) => {
                self.cut = true;
                return Err(SendError::Peer(wording(error)));
            }
        }
        if self.commands.publish() && self.link.peer_bell().ring(CONTROL_BIT) {
            self.channel.notify();
        }
        Ok(())
    }
}

const fn wording(error: RingError) -> &'static str {
    match error {
        RingError::Full => "a full ring",
        RingError::TooLong => "a record that is too long",
        RingError::Peer => "an impossible index or length in its ring",
    }
}
