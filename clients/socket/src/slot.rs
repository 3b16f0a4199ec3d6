//! One slot of the region: a socket's private state, and the handle that owns it.
//!
//! The brane's events move a slot between its phases. The brane is not trusted: the stack counts and ignores an event that does
//! not fit the present phase. A slot's rings return to the data area only when neither the brane nor a handle can use them any
//! more.

use crate::error::Error;
use crate::net_client::Shared;
use crate::ring_allocator::Range;
use alloc::rc::Rc;
use brane_abi::socket::{Endpoints, Rings};
use core::task::{Context, Poll, Waker};

/// Lengths in bytes of a socket's two rings: powers of two from 1 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// From the brane to the client.
    pub rx: usize,
    /// From the client to the brane.
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

/// Phase of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not in use.
    Free,
    /// Requested; the brane has not answered.
    Opening,
    /// The brane has opened the socket.
    Open,
    /// `CLOSE` or `ABORT` is sent, or `FAILED` was received: the brane's `CLOSED` is due.
    Closing,
    /// The brane has freed it, and a handle still exists.
    Gone,
}

/// A task that waits for an event of a slot.
#[derive(Default)]
pub(crate) struct Waiter {
    waker: Option<Waker>,
    pub waiting: bool,
    /// Time at which the wait ends with [`Error::TimedOut`]; `u64::MAX` for never.
    pub deadline: u64,
    pub timed_out: bool,
}

impl Waiter {
    /// Wakes the task, if one waits. It only queues the task and never runs it.
    pub fn wake(&mut self) {
        if self.waiting {
            self.waiting = false;
            if let Some(waker) = &self.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Stores the waker of the task. Keeps the old waker if it wakes that task already.
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
    /// Generation of the present use; never 0 during a use.
    pub generation: u32,
    /// A handle exists.
    pub held: bool,
    /// The error that ended the socket, if any.
    pub error: Option<Error>,
    /// The remote has closed its direction; all its bytes are in the ring.
    pub eof: bool,
    pub endpoints: Endpoints,
    pub rings: Option<(Range, Range)>,
    /// Token of the last request about groups, and the answer that came last: its token and error.
    pub asked: u32,
    pub answered: (u32, u32),
    /// Task that waits for the answer to the request, for bytes or for datagrams.
    pub rx: Waiter,
    /// Task that waits for room.
    pub tx: Waiter,
    /// Limit in nanoseconds for one wait; `u64::MAX` for none.
    pub timeout: u64,
    /// While closing without a handle: the time at which the connection is reset.
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
            asked: 0,
            answered: (0, 0),
            rx: Waiter::default(),
            tx: Waiter::default(),
            timeout: u64::MAX,
            linger: u64::MAX,
        }
    }

    /// Starts a new use, with a generation other than the last one.
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

    /// Wakes both waiters after an event. Clears time-outs that no task has seen yet.
    pub fn wake(&mut self) {
        (self.rx.timed_out, self.tx.timed_out) = (false, false);
        self.rx.wake();
        self.tx.wake();
    }

    /// Returns the rings' places in the protocol's form; all zero for a slot without rings.
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

/// One of a slot's two waiters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Rx,
    Tx,
}

/// Handle that keeps a slot in use. Dropping it closes the socket.
pub(crate) struct Handle {
    pub shared: Rc<Shared>,
    pub slot: usize,
    /// If true, dropping the handle resets the connection instead of closing it in order.
    pub abort: bool,
}

impl Handle {
    /// Returns the slot's doorbell bit.
    pub fn bit(&self) -> u64 {
        1 << self.slot
    }

    /// Marks the slot's doorbell bit for the next flush.
    pub fn mark(&self) {
        self.shared.mark(self.bit());
    }

    /// Returns the error that ended the socket, if any.
    pub fn error(&self) -> Option<Error> {
        self.shared.core.borrow().slots[self.slot].error
    }

    /// Ends a poll without a result. Returns the socket's error or the time-out, or registers the task's waker. For readers,
    /// `eof` is the value to return if the remote has closed its direction.
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
