//! Connections that come in and whose handshake is not complete: a queue of parsed SYNs, and SYN cookies when it is full.
//!
//! The owner is the brane's stack ([`crate::stack`]), which sends what is answered here. On the other side is any host, trusted
//! with nothing: SYNs cost it nothing, come from addresses that are not its own, and as fast as the wire carries them. So a SYN
//! costs the brane no buffer, no socket and no neighbour. It costs one of [`QUEUE`] entries, whatever listener it is for. If all
//! are in use, or if its source has its share of them, the answer carries a cookie ([`cookie`], RFC 4987, 3.6) and the brane keeps
//! nothing. Nothing is evicted, so a flood does not end handshakes that are under way.
//!
//! A connection stands if its peer acknowledges the answer. That shows that the peer receives what is sent to its address.
//!
//! Answers from the queue are sent again, [`RETRIES`] times, because the acknowledgement may be lost, and a peer that waits for
//! us to speak would wait for ever. An answer with a cookie is sent again only if the SYN comes again.
//!
//! It is pure: time, randomness and segments are arguments. Memory for the queue is taken once.

pub mod cookie;

use crate::family::{Purchase, Shortage};
use crate::transport::tcp::FlowKey;
use crate::transport::tcp::isn::{Isn, Keyed};
use crate::transport::tcp::opener::Handshake;
use crate::transport::tcp::segment::{Numbers, Options, at_or_after};
use crate::transport::tcp::sources::source_of;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rand_chacha::rand_core::RngCore;
use smoltcp::wire::IpAddress;

/// Entries of the queue.
pub const QUEUE: usize = 256;
/// Entries that one source may have; sources are counted in `COUNTS` groups by a secret hash.
pub const QUEUE_FOR_SOURCE: u8 = 64;
/// See [`QUEUE_FOR_SOURCE`].
const COUNTS: usize = 1024;

/// How often an answer is sent again: after 1, 3 and 7 seconds. The entry is dropped after 15 (RFC 6298, 2.1 and 5.5).
pub const RETRIES: u8 = 3;
/// The first of these times, in nanoseconds.
const FIRST_RETRY: u64 = 1_000_000_000;

/// What the peer can have sent behind its SYN: a window without scale (RFC 7323, 2.2).
const WINDOW: u32 = 65535;

/// A SYN that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// Sequence numbers, and options of the peer.
    pub handshake: Handshake,
    /// The station that sent the SYN.
    pub mac: [u8; 6],
    due: u64,
    tries: u8,
}

/// What becomes of an acknowledgement that belongs to no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It completes this handshake.
    Stands(Handshake),
    /// It acknowledges the answer, but its sequence number cannot be the peer's next: to be dropped.
    OutOfWindow,
    /// No answer of the brane's is acknowledged.
    Unknown,
}

/// The half-open connections of a brane.
pub struct SynCache {
    queue: HashMap<FlowKey, HalfOpen, FixedState>,
    counts: Vec<u8>,
    hash: FixedState,
    isn: Isn,
    secret: Keyed,
    /// Cookies are accepted until then: while a forger has nothing to try, none is.
    cookies_until: u64,
    /// No later than the earliest time of any entry.
    earliest: u64,
}

impl SynCache {
    /// Makes keys and a queue without memory. `rng` must be unpredictable.
    pub fn new(rng: &mut impl RngCore) -> SynCache {
        let hash = FixedState::with_seed(rng.next_u64());
        SynCache {
            queue: HashMap::with_hasher(hash.clone()),
            counts: Vec::new(),
            hash,
            isn: Isn::new(rng),
            secret: Keyed::new(rng),
            cookies_until: 0,
            earliest: u64::MAX,
        }
    }

    /// Buys the queue.
    pub fn create(&mut self, purchase: &mut Purchase<'_>) -> Result<(), Shortage> {
        // Twice the number, so that the table clears deleted entries in place and never grows.
        self.queue = purchase.map(2 * QUEUE, &self.hash)?;
        self.counts = purchase.zeroed(COUNTS)?;
        Ok(())
    }

    /// Frees the queue.
    pub fn destroy(&mut self) {
        self.queue = HashMap::with_hasher(self.hash.clone());
        self.counts = Vec::new();
        self.earliest = u64::MAX;
    }

    /// How many entries are in use.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The initial sequence number of a connection that the brane opens by itself.
    pub fn isn(&self, now: u64, key: &FlowKey) -> u32 {
        self.isn.at(now, key)
    }

    /// A SYN has come that a listener wants. Returns the handshake that the SYN-ACK is to carry, and true if it is a cookie.
    pub fn syn(
        &mut self,
        now: u64,
        key: &FlowKey,
        irs: u32,
        options: Options,
        mac: [u8; 6],
    ) -> (Handshake, bool) {
        let known = self.queue.get(key).filter(|entry| entry.handshake.irs == irs);
        if let Some(entry) = known {
            return (entry.handshake, false);
        }
        let count = &mut self.counts[count_of(&self.hash, key.remote)];
        // An entry with another sequence number stays: whoever sent that SYN may be the one who means it.
        if self.queue.len() < QUEUE && *count < QUEUE_FOR_SOURCE && !self.queue.contains_key(key) {
            let iss = self.isn.at(now, key);
            let handshake = Handshake { irs, iss, options };
            let due = now.saturating_add(FIRST_RETRY);
            *count += 1;
            self.queue.insert(
                *key,
                HalfOpen {
                    handshake,
                    mac,
                    due,
                    tries: 0,
                },
            );
            self.earliest = self.earliest.min(due);
            return (handshake, false);
        }
        self.cookies_until = now.saturating_add(2 * cookie::PERIOD);
        let iss = cookie::make(&self.secret, now, key, irs, options);
        (Handshake { irs, iss, options }, true)
    }

    /// A segment with ACK and without SYN or RST has come that belongs to no connection. An entry stays until
    /// [`Self::remove`].
    pub fn acknowledged(&self, now: u64, key: &FlowKey, numbers: Numbers) -> Acknowledged {
        let iss = numbers.ack.wrapping_sub(1);
        if let Some(entry) = self.queue.get(key)
            && entry.handshake.iss == iss
        {
            let next = entry.handshake.irs.wrapping_add(1);
            return if at_or_after(numbers.seq, next) && numbers.seq.wrapping_sub(next) <= WINDOW {
                Acknowledged::Stands(entry.handshake)
            } else {
                Acknowledged::OutOfWindow
            };
        }
        let irs = numbers.seq.wrapping_sub(1);
        let options = (now <= self.cookies_until)
            .then(|| cookie::check(&self.secret, now, key, irs, iss))
            .flatten();
        match options {
            Some(options) => Acknowledged::Stands(Handshake { irs, iss, options }),
            None => Acknowledged::Unknown,
        }
    }

    /// A reset has come. It ends an entry if it has the exact sequence number (RFC 5961, 3.2). Returns true if it was for an
    /// entry.
    pub fn reset(&mut self, key: &FlowKey, seq: u32) -> bool {
        let Some(entry) = self.queue.get(key) else {
            return false;
        };
        if entry.handshake.irs.wrapping_add(1) == seq {
            self.remove(key);
        }
        true
    }

    /// Drops an entry, if there is one.
    pub fn remove(&mut self, key: &FlowKey) {
        if self.queue.remove(key).is_some() {
            self.counts[count_of(&self.hash, key.remote)] -= 1;
        }
    }

    /// When [`Self::expire`] has to be called, at the latest.
    pub fn deadline(&self) -> u64 {
        self.earliest
    }

    /// Lets `again` send the answers that are due, and drops entries that were not acknowledged in time, or that `again` returns
    /// false for because nobody listens any more.
    pub fn expire(&mut self, now: u64, mut again: impl FnMut(&FlowKey, &HalfOpen) -> bool) {
        if now < self.earliest {
            return;
        }
        let (mut earliest, counts, hash) = (u64::MAX, &mut self.counts, &self.hash);
        self.queue.retain(|key, entry| {
            if entry.due <= now {
                entry.tries += 1;
                if entry.tries > RETRIES || !again(key, entry) {
                    counts[count_of(hash, key.remote)] -= 1;
                    return false;
                }
                entry.due = now.saturating_add(FIRST_RETRY << entry.tries);
            }
            earliest = earliest.min(entry.due);
            true
        });
        self.earliest = earliest;
    }
}

fn count_of(hash: &FixedState, remote: IpAddress) -> usize {
    (hash.hash_one(source_of(remote)) >> 32) as usize % COUNTS
}

#[cfg(test)]
mod tests;
