//! State that is too large for the stack: a static with one owner.

use core::cell::{Cell, UnsafeCell};

/// A small value in static memory, for a program of one thread.
pub(crate) struct Single<T>(Cell<T>);

// SAFETY: a protection domain has exactly one thread.
unsafe impl<T> Sync for Single<T> {}

impl<T: Copy> Single<T> {
    /// Makes the value.
    pub(crate) const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    /// Returns a copy.
    pub(crate) fn get(&self) -> T {
        self.0.get()
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: T) {
        self.0.set(value);
    }
}

/// A value in static memory that one owner takes for the life of the protection domain. A restart resets the value.
pub struct StaticCell<T> {
    value: UnsafeCell<T>,
    taken: Cell<bool>,
}

// SAFETY: a protection domain has exactly one thread.
unsafe impl<T> Sync for StaticCell<T> {}

impl<T> StaticCell<T> {
    /// Creates a cell with its value. A large value should be all zero bytes, so that the image does not contain it.
    pub const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            taken: Cell::new(false),
        }
    }

    /// Returns the value at the first call. Panics at any later call.
    #[allow(
        clippy::mut_from_ref,
        reason = "the reference is given out once, as `taken` makes sure"
    )]
    pub fn take(&'static self) -> &'static mut T {
        assert!(!self.taken.replace(true), "a StaticCell is taken once");
        // SAFETY: the first and only reference ever made, to memory that lives as long as the program.
        unsafe { &mut *self.value.get() }
    }
}
