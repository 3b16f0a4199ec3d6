//! An endpoint whose peer writes anything into the region, at any time between two of the endpoint's steps.
//!
//! A program of bytes drives both. The tests in `tests/endpoint.rs` and the fuzz target `endpoint` check the property [`run`].

use crate::common::{word, write};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::ctl;
use brane_abi::link::Side;
use brane_abi::ring::RingError;
use brane_abi::shared::SharedRegion;

/// Bytes of one step: its kind, its place, and a value.
pub const STEP: usize = 6;
/// Kinds of steps.
pub const KINDS: u8 = 12;

/// The words of the peer (side B) in the link header: magic, version, epoch, acknowledgement.
const PEER: usize = 64;
const EPOCH: usize = PEER + 8;
const ACK: usize = PEER + 12;
/// The acknowledgement of the endpoint (side A).
const OWN_ACK: usize = 12;

/// Returns a place that influences decisions: a word of either side, a doorbell, or an index of either ring.
fn place(selector: u8) -> usize {
    let indices = ctl::COMMAND_INDICES;
    let places = [
        PEER,
        PEER + 4,
        EPOCH,
        ACK,
        128,
        136,
        192,
        200,
        indices,
        indices + 64,
        indices + 128,
        indices + 192,
    ];
    places[usize::from(selector) % places.len()]
}

struct Run {
    memory: SharedRegion,
    endpoint: Endpoint<RingPair>,
    /// The last poll has reported a restart.
    offered: bool,
    /// The test has seen a restart and not accepted it. The link stays down until then, even if the peer takes its epoch back.
    must_accept: bool,
    /// The link has come up since the last acceptance.
    came_up: bool,
    /// The peer's epoch when it violated the protocol or withdrew.
    quarantined: Option<u32>,
}

impl Run {
    fn poll(&mut self) {
        let (was_up, was_quarantined) = (self.endpoint.is_up(), self.endpoint.is_quarantined());
        let event = self.endpoint.poll();
        let (epoch, ack) = (word(self.memory, EPOCH), word(self.memory, ACK));
        let agreed = epoch != 0 && epoch == self.endpoint.peer_epoch() && ack == self.endpoint.epoch();
        match event {
            LinkEvent::PeerRestarted => {
                assert!(epoch != 0 && epoch != self.endpoint.peer_epoch(), "no new epoch");
                assert!(!self.endpoint.is_up());
                (self.offered, self.must_accept, self.quarantined) = (true, true, None);
                assert!(!self.endpoint.is_quarantined());
                return;
            }
            LinkEvent::CameUp => {
                assert!(agreed && !was_up && !self.came_up);
                assert!(!self.must_accept && self.quarantined.is_none());
                self.came_up = true;
                let room = self.endpoint.rings.tx.max_payload();
                assert_eq!(
                    self.endpoint.rings.tx.has_room(room),
                    Ok(true),
                    "the ring to the peer is empty"
                );
            }
            LinkEvent::Lost => {
                assert!(was_up && !agreed);
                self.quarantined = Some(self.endpoint.peer_epoch());
            }
            LinkEvent::Incompatible => {
                assert!(!agreed && !was_quarantined);
                self.quarantined = Some(self.endpoint.peer_epoch());
            }
            LinkEvent::Unchanged => assert_eq!(self.endpoint.is_up(), was_up),
        }
        assert!(!self.endpoint.is_up() || agreed, "up without the peer's consent");
        assert_eq!(self.endpoint.is_quarantined(), self.quarantined.is_some());
        self.offered = false;
    }

    fn accept(&mut self) {
        if !core::mem::take(&mut self.offered) {
            return;
        }
        let before = self.endpoint.peer_epoch();
        self.endpoint.accept();
        assert_ne!(self.endpoint.peer_epoch(), before, "an epoch is accepted once");
        assert_eq!(word(self.memory, OWN_ACK), self.endpoint.peer_epoch());
        assert!(self.endpoint.must_notify(), "the peer waits for this");
        (self.came_up, self.must_accept, self.quarantined) = (false, false, None);
    }

    fn judge(&mut self, error: RingError) {
        if error != RingError::Peer {
            return;
        }
        let (epoch, accepted) = (word(self.memory, EPOCH), self.endpoint.peer_epoch());
        if self.endpoint.violation() {
            self.quarantined = Some(accepted);
            assert!(self.endpoint.is_quarantined());
        } else {
            assert!(epoch != 0 && epoch != accepted, "an excuse without a new epoch");
            self.must_accept = true;
        }
        assert!(!self.endpoint.is_up());
    }

    /// Takes all records. The ring limits their number.
    fn take(&mut self) {
        let mut buffer = [0; 64];
        for turn in 0.. {
            if !self.endpoint.is_up() {
                return;
            }
            assert!(turn <= ctl::REPORTS.len / 16, "more records than fit");
            match self
                .endpoint
                .rings
                .rx
                .take(|record| record.copy_to(&mut buffer).len())
            {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => self.judge(error),
            }
        }
        self.endpoint.rings.rx.release();
    }

    fn push(&mut self, len: usize) {
        if !self.endpoint.is_up() {
            return;
        }
        let bytes = [7; 4096];
        let payload = &bytes[..len % bytes.len()];
        match self.endpoint.rings.tx.push(&[payload], [1, 2, 3]) {
            Ok(()) => {
                let _ = self.endpoint.rings.tx.publish();
                let _ = self.endpoint.flush(1);
            }
            Err(error) => self.judge(error),
        }
    }
}

/// Clears the memory and runs a program. Then an honest incarnation of the peer takes over. Asserts that the link comes up and
/// carries a record each way.
pub fn run(memory: SharedRegion, program: &[u8]) {
    let clear = vec![0; ctl::SIZE];
    write(memory, 0, &clear);
    let rings = ctl::manager_rings(memory).unwrap();
    let mut run = Run {
        memory,
        endpoint: Endpoint::start(memory, Side::A, rings).unwrap(),
        offered: false,
        must_accept: false,
        came_up: false,
        quarantined: None,
    };
    let epoch = run.endpoint.epoch();
    let mut peer: Option<Endpoint<RingPair>> = None;
    for step in program.as_chunks::<STEP>().0 {
        let [kind, selector, value @ ..] = *step;
        let value = u32::from_le_bytes(value);
        match kind % KINDS {
            0 => write(memory, place(selector), &value.to_le_bytes()),
            // The word changes a little, as an index or epoch that is nearly valid.
            1 => {
                let at = place(selector);
                let near = word(memory, at).wrapping_add((value % 64).wrapping_sub(24));
                write(memory, at, &near.to_le_bytes());
            }
            // A header in the ring that the endpoint reads.
            2 => {
                let at = ctl::REPORTS.offset + usize::from(selector) * 16;
                write(memory, at, &value.to_le_bytes());
            }
            // The peer acknowledges the endpoint's epoch, whatever it is.
            3 => {
                write(memory, ACK, &epoch.to_le_bytes());
                if word(memory, EPOCH) == 0 {
                    write(memory, EPOCH, &1u32.to_le_bytes());
                }
            }
            4 => peer = honest(memory),
            5 => {
                if let Some(peer) = &mut peer {
                    poll_link(peer);
                }
            }
            6 => {
                if let Some(peer) = peer.as_mut().filter(|peer| peer.is_up())
                    && peer.rings.tx.push(&[&[9; 40]], [value, 0, 0]).is_ok()
                {
                    let _ = peer.rings.tx.publish();
                    let _ = peer.flush(1);
                }
            }
            7 | 8 => run.poll(),
            9 => run.accept(),
            10 => run.take(),
            _ => run.push(value as usize),
        }
        let _ = run.endpoint.wake();
        let _ = run.endpoint.arm();
    }
    recover(run);
}

fn honest(memory: SharedRegion) -> Option<Endpoint<RingPair>> {
    Endpoint::start(memory, Side::B, ctl::brane_rings(memory)?)
}

/// Executes an honest side's step of the handshake.
fn poll_link(end: &mut Endpoint<RingPair>) {
    if end.poll() == LinkEvent::PeerRestarted {
        end.accept();
        let _ = end.poll();
    }
}

fn recover(mut run: Run) {
    let mut peer = honest(run.memory).unwrap();
    if peer.epoch() == run.endpoint.peer_epoch() {
        // The previous incarnation had already used this epoch.
        peer = honest(run.memory).unwrap();
    }
    // The endpoint polls first: it accepts the incarnation that it sees.
    for _ in 0..3 {
        run.poll();
        run.accept();
        poll_link(&mut peer);
    }
    assert!(run.endpoint.is_up() && peer.is_up(), "the link recovers");
    assert_eq!(run.endpoint.peer_epoch(), peer.epoch());
    assert_eq!(peer.peer_epoch(), run.endpoint.epoch());
    for (from, to) in [(0, 1), (1, 0)] {
        let ends = [&mut run.endpoint, &mut peer];
        ends[from]
            .rings
            .tx
            .push(&[b"hello"], [from as u32, 0, 0])
            .unwrap();
        assert!(ends[from].rings.tx.publish());
        let record = ends[to].rings.rx.take(|record| {
            let mut text = [0; 8];
            (record.meta[0], record.copy_to(&mut text).to_vec())
        });
        assert_eq!(record, Ok(Some((from as u32, b"hello".to_vec()))));
    }
}
