//! One slot of the region: a socket's private state, and the handle that holds it.
//!
//! The brane's events move a slot between its phases; what does not fit the present phase is counted by the stack and
//! ignored. A slot's rings return to the data area only when neither the brane nor a handle can touch them any more.

use crate::error::Error;
use crate::space::Range;
use crate::stack::Shared;
use alloc::rc::Rc;
use brane_abi::socket::{Endpoints, Rings};
use core::task::{Context, Poll, Waker};

/// Lengths in bytes of a socket's two rings: powers of two from 1 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// From the brane to us.
    pub rx: usize,
    /// From us to the brane.
    pub tx: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        RingSizes {
            rx: 16 << 10,
            tx: 16 << 10,
        }
    }
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nobody uses it.
    Free,
    /// Requested; the brane has not answered.
    Opening,
    /// The brane has answered well.
    Open,
    /// `CLOSE` or `ABORT` is sent, or `FAILED` has come: the brane's `CLOSED` is due.
    Closing,
    /// The brane is done with it, a handle still exists.
    Gone,
}

/// Somebody who waits for news of a slot.
#[derive(Default)]
pub(crate) struct Waiter {
    waker: Option<Waker>,
    pub waiting: bool,
    /// When the wait ends with [`Error::TimedOut`]; `u64::MAX` for never.
    pub deadline: u64,
    pub timed_out: bool,
}

impl Waiter {
    /// Wakes the waiter if there is one. Never runs a task: it only queues it.
    pub fn wake(&mut self) {
        if self.waiting {
            self.waiting = false;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Remembers whom to wake. Keeps the old waker where it would wake the same task.
    pub fn register(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
        self.waiting = true;
    }
}

/// Private state of one slot.
pub(crate) struct Slot {
    pub phase: Phase,
    /// Of the present use; never 0 while in use.
    pub generation: u32,
    /// A handle exists.
    pub held: bool,
    /// What ended the socket, if anything has.
    pub error: Option<Error>,
    /// The remote has closed its direction; all it sent is in the ring.
    pub eof: bool,
    pub endpoints: Endpoints,
    pub rings: Option<(Range, Range)>,
    /// Waits for the answer to the request, for bytes or for datagrams.
    pub rx: Waiter,
    /// Waits for room.
    pub tx: Waiter,
    /// Limit in nanoseconds for one wait; `u64::MAX` for none.
    pub timeout: u64,
    /// While closing without a handle: when to reset the connection instead of waiting longer.
    pub linger: u64,
}

impl Slot {
    pub fn new() -> Slot {
        Slot {
            phase: Phase::Free,
            generation: 0,
            held: false,
            error: None,
            eof: false,
            endpoints: Endpoints::default(),
            rings: None,
            rx: Waiter::default(),
            tx: Waiter::default(),
            timeout: u64::MAX,
            linger: u64::MAX,
        }
    }

    /// Starts a new use, with a generation that differs from the last one's.
    pub fn begin(&mut self, rings: Option<(Range, Range)>) {
        let generation = self.generation.wrapping_add(1).max(1);
        *self = Slot {
            phase: Phase::Opening,
            generation,
            held: true,
            rings,
            ..Slot::new()
        };
    }

    /// There is news: wakes both waiters, and no limit has been reached after all.
    pub fn wake(&mut self) {
        (self.rx.timed_out, self.tx.timed_out) = (false, false);
        self.rx.wake();
        self.tx.wake();
    }

    /// The rings' places as the protocol words them; all zero for a slot without rings.
    pub fn places(&self) -> Rings {
        match &self.rings {
            Some((rx, tx)) => Rings {
                rx_offset: rx.offset,
                rx_len: rx.len,
                tx_offset: tx.offset,
                tx_len: tx.len,
            },
            None => Rings::default(),
        }
    }
}

/// Which of a slot's two waiters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Rx,
    Tx,
}

/// What keeps a slot in use; dropping it closes the socket.
pub(crate) struct Handle {
    pub shared: Rc<Shared>,
    pub slot: usize,
    /// Reset the connection on drop instead of closing it in order.
    pub abort: bool,
}

impl Handle {
    /// The slot's doorbell bit.
    pub fn bit(&self) -> u64 {
        1 << self.slot
    }

    /// Marks the slot as having news for the brane, for the next flush.
    pub fn mark(&self) {
        self.shared.mark(self.bit());
    }

    /// What ended the socket, if anything has.
    pub fn error(&self) -> Option<Error> {
        self.shared.core.borrow().slots[self.slot].error
    }

    /// Ends a poll without result: returns the socket's error, or the timeout's, or remembers whom to wake.
    /// `eof` says what to return when the remote has closed (for readers).
    pub fn wait<T>(&self, cx: &Context<'_>, direction: Direction, eof: Option<T>) -> Poll<Result<T, Error>> {
        let mut core = self.shared.core.borrow_mut();
        let slot = &mut core.slots[self.slot];
        if let Some(error) = slot.error {
            return Poll::Ready(Err(error));
        }
        if slot.eof
            && let Some(value) = eof
        {
            return Poll::Ready(Ok(value));
        }
        let timeout = slot.timeout;
        let waiter = if direction == Direction::Rx {
            &mut slot.rx
        } else {
            &mut slot.tx
        };
        if waiter.timed_out {
            waiter.timed_out = false;
            return Poll::Ready(Err(Error::TimedOut));
        }
        let fresh = !waiter.waiting;
        waiter.register(cx);
        if fresh {
            waiter.deadline = u64::MAX;
            if timeout != u64::MAX {
                let deadline = self.shared.now().saturating_add(timeout);
                waiter.deadline = deadline;
                core.timers.note(deadline);
            }
        }
        Poll::Pending
    }

    /// Waits until the brane has answered the request that opened this slot.
    pub async fn opened(&self) -> Result<Endpoints, Error> {
        core::future::poll_fn(|cx| {
            {
                let core = self.shared.core.borrow();
                let slot = &core.slots[self.slot];
                if slot.phase == Phase::Open && slot.error.is_none() {
                    return Poll::Ready(Ok(slot.endpoints));
                }
            }
            self.wait(cx, Direction::Rx, None)
        })
        .await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.release(self.slot, self.abort);
    }
}
