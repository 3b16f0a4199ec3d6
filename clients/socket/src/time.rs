//! Deadlines of sleeping tasks and of waits with a limit.
//!
//! Owns the deadlines; the brane cannot change them. Limits of waits are lazy. A new wait moves the next check of the clock
//! forward only if its deadline is earlier, so a busy connection needs no timer. Each check walks over the slots and sets the
//! next check.

use crate::net_client::{Core, NetClient, Shared};
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::socket::request;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Most nanoseconds for which a closed connection may still send its last bytes. Then it is reset.
const LINGER: u64 = 30_000_000_000;

/// Wakers of sleeping tasks, and the next check.
pub(crate) struct Timers {
    /// Time of the next check; `u64::MAX` for never.
    next: u64,
    sleepers: Vec<Sleeper>,
    last_id: u64,
}

struct Sleeper {
    id: u64,
    deadline: u64,
    waker: Waker,
}

impl Timers {
    pub fn new() -> Timers {
        Timers {
            next: u64::MAX,
            sleepers: Vec::new(),
            last_id: 0,
        }
    }

    /// Registers a deadline at `at`.
    pub fn note(&mut self, at: u64) {
        self.next = self.next.min(at);
    }

    /// Returns the time of the next check.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Wakes the sleepers whose deadline is past. Sets the next check to the earliest remaining deadline.
    pub fn expire(&mut self, now: u64) {
        self.next = u64::MAX;
        self.sleepers.retain(|sleeper| {
            if sleeper.deadline <= now {
                sleeper.waker.wake_by_ref();
                return false;
            }
            self.next = self.next.min(sleeper.deadline);
            true
        });
    }

    fn remove(&mut self, id: u64) {
        self.sleepers.retain(|sleeper| sleeper.id != id);
    }
}

/// Future that ends at a deadline; see [`NetClient::sleep`].
pub struct Sleep {
    shared: Rc<Shared>,
    deadline: u64,
    id: u64,
}

impl NetClient {
    /// Returns a future that ends `ns` nanoseconds from now.
    pub fn sleep(&self, ns: u64) -> Sleep {
        Sleep {
            deadline: self.0.now().saturating_add(ns),
            shared: self.0.clone(),
            id: 0,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.now() >= self.deadline {
            return Poll::Ready(());
        }
        let shared = self.shared.clone();
        let timers = &mut shared.core.borrow_mut().timers;
        if self.id == 0 {
            timers.last_id += 1;
            self.id = timers.last_id;
        }
        timers.remove(self.id);
        timers.sleepers.push(Sleeper {
            id: self.id,
            deadline: self.deadline,
            waker: cx.waker().clone(),
        });
        timers.note(self.deadline);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.id != 0 {
            self.shared.core.borrow_mut().timers.remove(self.id);
        }
    }
}

impl Core {
    /// Starts the limit for a slot that waits for `CLOSED` without a handle.
    pub fn linger(&mut self, shared: &Shared, slot: usize) {
        let deadline = shared.now().saturating_add(LINGER);
        self.slots[slot].linger = deadline;
        self.timers.note(deadline);
    }

    /// Ends waits and lingering that have reached their deadline.
    pub fn expire(&mut self, shared: &Shared) {
        let now = shared.now();
        if now < self.timers.next() {
            return;
        }
        self.timers.expire(now);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            for waiter in [&mut slot.rx, &mut slot.tx] {
                if waiter.waiting && waiter.deadline <= now {
                    waiter.wake();
                    waiter.timed_out = true;
                } else if waiter.waiting {
                    self.timers.note(waiter.deadline);
                }
            }
            if slot.linger <= now {
                slot.linger = u64::MAX;
                // If the request fails, the link has ended and the slot is free already.
                let _ = self.request(shared, index, request::ABORT, &[]);
            } else {
                self.timers.note(slot.linger);
            }
        }
    }
}
