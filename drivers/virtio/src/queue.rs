//! A virtqueue whose buffers have numbers. It checks that the device returns only buffers that it has, and each once.
//!
//! The queue is that of the crate virtio-drivers. On the other side is the device, which is not trusted: it writes the used ring,
//! so numbers, lengths and the index there may be wrong. A wrong number is an error, after which a driver stops using the device.

use crate::memory::{Buffer, DmaRegion, Memory};
use core::fmt;
use core::sync::atomic::{Ordering, fence};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;

/// No buffer.
const NONE: u16 = u16::MAX;

/// Notifies the device of new buffers in a queue.
pub trait QueueNotify {
    /// Notifies the device of this queue.
    fn notify(&self, queue: u16);
}

/// Why a device is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It returned a buffer that it did not have.
    UnknownBuffer,
    /// It asks for a reset (virtio 1.2, 2.1.2).
    NeedsReset,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::UnknownBuffer => "it returned a buffer that it did not have",
            Failure::NeedsReset => "it asks for a reset",
        })
    }
}

/// Direction of a queue's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// The device writes the buffers.
    ToDriver,
    /// The device reads the buffers.
    ToDevice,
}

/// A queue of up to `N` buffers, all of one direction.
pub struct Queue<R: DmaRegion, const N: usize> {
    queue: VirtQueue<Memory<R>, N>,
    number: u16,
    direction: Direction,
    /// Buffer of each descriptor that the device has.
    buffers: [u16; N],
}

impl<R: DmaRegion, const N: usize> Queue<R, N> {
    /// Creates queue `number`, whose buffers the device writes.
    pub fn to_driver<T: Transport>(transport: &mut T, number: u16) -> Result<Self, virtio_drivers::Error> {
        Queue::new(transport, number, Direction::ToDriver)
    }

    /// Creates queue `number`, whose buffers the device reads.
    pub fn to_device<T: Transport>(transport: &mut T, number: u16) -> Result<Self, virtio_drivers::Error> {
        Queue::new(transport, number, Direction::ToDevice)
    }

    fn new<T: Transport>(
        transport: &mut T,
        number: u16,
        direction: Direction,
    ) -> Result<Self, virtio_drivers::Error> {
        Ok(Queue {
            queue: VirtQueue::new(transport, number, false, false)?,
            number,
            direction,
            buffers: [NONE; N],
        })
    }

    /// Gives a buffer to the device. Returns false if the queue is full; then the driver still has the buffer.
    ///
    /// # Safety
    /// The driver has the buffer, no slice of it lives, and none is made before [`Self::take`] returns its number. `at` is its place.
    #[inline]
    pub unsafe fn give(&mut self, number: u16, at: Buffer<R>) -> bool {
        // SAFETY: the caller vouches that nothing else refers to the bytes until the device has returned them.
        let token = unsafe {
            match self.direction {
                Direction::ToDriver => self.queue.add(&[], &mut [at.bytes_mut()]),
                Direction::ToDevice => self.queue.add(&[at.bytes()], &mut []),
            }
        };
        match token {
            Ok(token) => {
                self.buffers[usize::from(token) % N] = number;
                true
            }
            Err(_) => false,
        }
    }

    /// Takes the next buffer that the device has returned: its number, and the length that the device claims to have written, which
    /// may be any. `at` returns the place of a buffer by its number, as [`Self::give`] got it.
    #[inline]
    pub fn take(&mut self, at: impl FnOnce(u16) -> Buffer<R>) -> Result<Option<(u16, usize)>, Failure> {
        let Some(token) = self.queue.peek_used() else {
            return Ok(None);
        };
        let number = match self.buffers.get_mut(usize::from(token)) {
            Some(place) if *place != NONE => core::mem::replace(place, NONE),
            _ => return Err(Failure::UnknownBuffer),
        };
        // SAFETY: this buffer was given under this token (`buffers`) and has not been taken since. Its slice ends here.
        let len = unsafe {
            match self.direction {
                Direction::ToDriver => self.queue.pop_used(token, &[], &mut [at(number).bytes_mut()]),
                Direction::ToDevice => self.queue.pop_used(token, &[at(number).bytes()], &mut []),
            }
        };
        match len {
            Ok(len) => Ok(Some((number, len as usize))),
            Err(_) => Err(Failure::UnknownBuffer),
        }
    }

    /// Notifies the device of the given buffers, if it wants to be notified.
    #[inline]
    pub fn kick(&self, notify: &impl QueueNotify) {
        // The device must see the ring's index before we read whether it wants a notification.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            notify.notify(self.number);
        }
    }

    /// Turns the device's interrupts for this queue on or off. Returns true if they are on and buffers have been returned already,
    /// for which there may be no interrupt.
    #[inline]
    pub fn interrupts(&mut self, on: bool) -> bool {
        self.queue.set_dev_notify(on);
        if !on {
            return false;
        }
        // The device must see the flag before we read its index. So either it interrupts, or we see its buffer.
        fence(Ordering::SeqCst);
        self.queue.can_pop()
    }

    /// Returns true if the device has returned buffers.
    #[inline]
    pub fn has_returned(&self) -> bool {
        self.queue.can_pop()
    }
}

/// A stack of buffer numbers.
pub struct Stack<const N: usize> {
    items: [u16; N],
    len: usize,
}

impl<const N: usize> Stack<N> {
    /// Returns a stack of the `N` numbers from `first` on.
    pub fn new(first: usize) -> Self {
        Self {
            items: core::array::from_fn(|i| (first + i) as u16),
            len: N,
        }
    }

    /// Pushes a number. Ignores it if `N` are there.
    pub fn push(&mut self, item: u16) {
        if let Some(place) = self.items.get_mut(self.len) {
            *place = item;
            self.len += 1;
        }
    }

    /// Pops the number that was pushed last.
    pub fn pop(&mut self) -> Option<u16> {
        self.len = self.len.checked_sub(1)?;
        self.items.get(self.len).copied()
    }

    /// Returns how many numbers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
