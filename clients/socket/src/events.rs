//! Events of the brane, applied to the slots.
//!
//! **Trust.** The brane is not trusted: kind, slot, generation and length of each event are checked against private state. A
//! stale event (of an earlier use of its slot) is normal and counted. An impossible event is counted and ignored. An impossible
//! ring index ends the link until the brane restarts. [`EVENT_BUDGET`] bounds the work of each poll.

use crate::error::Error;
use crate::identity::Identity;
use crate::net_client::{Core, Shared};
use crate::slot::Phase;
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::layout::sock;
use brane_abi::query::MAX_ANSWER;
use brane_abi::ring::Consumer;
use brane_abi::socket::{self, CONTROL_BIT, Done, Endpoints, Failed, event};
use zerocopy::FromBytes;

/// Most events taken in one poll; the rest waits for the next turn of the loop.
const EVENT_BUDGET: usize = 256;

impl Core {
    /// Takes all events in the ring, up to the budget.
    pub fn take_events(&mut self, shared: &Shared) {
        self.more_events = false;
        let mut bytes = 0;
        for turn in 0.. {
            if turn == EVENT_BUDGET {
                self.more_events = true;
                break;
            }
            let mut payload = [0; size_of::<socket::Identity>()];
            let mut answer = Vec::new();
            let record = self.endpoint.rings.rx.take(|record| {
                if record.meta[0] == event::ANSWER && record.len() <= MAX_ANSWER {
                    answer.resize(record.len(), 0);
                    record.copy_to(&mut answer);
                }
                (
                    record.meta,
                    record.len(),
                    record.copy_to(&mut payload).len(),
                    Consumer::size_of(record),
                )
            });
            match record {
                Ok(None) => break,
                Ok(Some((meta, len, copied, size))) => {
                    bytes += size as usize;
                    let sound = if meta[0] == event::ANSWER {
                        len <= MAX_ANSWER && self.take_answer(meta[1], &answer)
                    } else {
                        len <= copied && self.take_event(meta, &payload[..copied])
                    };
                    if !sound {
                        self.counters.bad_events += 1;
                    }
                }
                Err(_) => {
                    self.violation();
                    return;
                }
            }
        }
        self.endpoint.rings.rx.release();
        // The brane waits for room only if the ring was nearly full.
        if bytes > sock::EVENTS.len / 4 {
            shared.mark(CONTROL_BIT);
        }
    }

    /// Applies one event. Returns false if the event is impossible.
    fn take_event(&mut self, [kind, slot, generation]: [u32; 3], payload: &[u8]) -> bool {
        if kind == event::IDENTITY {
            let Ok(identity) = socket::Identity::read_from_bytes(payload) else {
                return false;
            };
            self.take_identity(Identity::from(&identity));
            return true;
        }
        let index = slot as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        if slot.phase == Phase::Free || slot.generation != generation {
            self.counters.stale_events += 1;
            return true;
        }
        match (kind, slot.phase) {
            (event::BOUND | event::ACCEPTED | event::CONNECTED, Phase::Opening) => {
                let Ok(endpoints) = Endpoints::read_from_bytes(payload) else {
                    return false;
                };
                slot.endpoints = endpoints;
                slot.phase = Phase::Open;
            }
            // The answer to a request that the client has withdrawn meanwhile.
            (event::BOUND | event::ACCEPTED | event::CONNECTED, Phase::Closing) => {}
            (event::FAILED, Phase::Opening | Phase::Closing) => {
                let Ok(failed) = Failed::read_from_bytes(payload) else {
                    return false;
                };
                slot.error.get_or_insert(Error::from_code(failed.error));
                slot.phase = Phase::Closing;
            }
            (event::DONE, Phase::Open) => {
                let Ok(done) = Done::read_from_bytes(payload) else {
                    return false;
                };
                if done.token != slot.asked {
                    return false;
                }
                slot.answered = (done.token, done.error);
            }
            // The answer to a request of a socket that has been dropped meanwhile.
            (event::DONE, Phase::Closing) => {}
            (event::PEER_CLOSED, Phase::Open) => slot.eof = true,
            (event::RESET, Phase::Open) => {
                slot.error.get_or_insert(Error::ConnectionReset);
            }
            (event::PEER_CLOSED | event::RESET, Phase::Closing) => {}
            (event::CLOSED, Phase::Closing) if !slot.held => {
                self.free_slot(index);
                return true;
            }
            (event::CLOSED, Phase::Closing | Phase::Open | Phase::Opening) => {
                slot.phase = Phase::Gone;
                slot.error.get_or_insert(Error::ConnectionReset);
            }
            _ => return false,
        }
        slot.wake();
        true
    }

    fn take_identity(&mut self, identity: Identity) {
        if self.identity_known && identity.generation != self.identity.generation {
            self.lose_sockets(Error::BraneRestarted);
        }
        self.identity_known = true;
        if *self.identity != identity {
            self.identity = Rc::new(identity);
            self.changed();
        }
    }
}
