//! Typed names of capabilities, with the upstream crate's names: a slot's number and the kind of the object in it.
//!
//! Owns nothing: a [`Cap`] is a number. The other side is the kernel (trusted). It checks at each invocation that the
//! slot has such a capability with the necessary right.

use crate::{CPtr, Result};
use core::fmt;
use core::hash::Hash;
use core::marker::PhantomData;

/// Raw bits of a capability's place.
pub type CPtrBits = CPtr;

/// A kind of capability, for [`Cap`].
pub trait CapType: Copy + Clone + Eq + PartialEq + Ord + PartialOrd + Hash {
    /// The kind's name.
    const NAME: &'static str;
}

/// The place of a capability of kind `T` in the caller's capability space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Cap<T: CapType> {
    bits: CPtrBits,
    kind: PhantomData<T>,
}

impl<T: CapType> Cap<T> {
    /// Names the capability in that slot.
    pub const fn from_bits(bits: CPtrBits) -> Self {
        Self {
            bits,
            kind: PhantomData,
        }
    }

    /// Returns the slot.
    pub const fn bits(&self) -> CPtrBits {
        self.bits
    }

    /// Returns the name of this slot as a capability of another kind.
    pub const fn cast<U: CapType>(self) -> Cap<U> {
        Cap::from_bits(self.bits)
    }

    /// Returns the name of this slot without a kind.
    pub const fn upcast(self) -> cap::Unspecified {
        self.cast()
    }
}

impl<T: CapType> fmt::Debug for Cap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(T::NAME).field(&self.bits).finish()
    }
}

macro_rules! kinds {
    ($($name:ident: $about:literal;)*) => {
        /// Kinds of capabilities.
        pub mod cap_type {
            $(
                #[doc = $about]
                #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
                pub struct $name;

                impl super::CapType for $name {
                    const NAME: &'static str = stringify!($name);
                }
            )*
        }

        /// A [`Cap`](super::Cap) of each kind.
        pub mod cap {
            $(
                #[doc = $about]
                pub type $name = super::Cap<super::cap_type::$name>;
            )*
        }
    };
}

kinds! {
    Endpoint: "An endpoint.";
    Notification: "A notification.";
    Tcb: "A thread.";
    IrqHandler: "An interrupt handler.";
    CNode: "A table of capabilities.";
    Null: "No capability.";
    Unspecified: "Any capability.";
}

impl cap::Unspecified {
    /// Returns the name of this slot as a capability of a kind.
    pub const fn downcast<T: CapType>(self) -> Cap<T> {
        self.cast()
    }
}

impl cap::Notification {
    /// Signals the notification. Never blocks.
    #[inline]
    pub fn signal(self) {
        crate::signal(self.bits);
    }
}

impl cap::IrqHandler {
    /// Acknowledges the interrupt, so that it can come again.
    #[inline]
    pub fn irq_handler_ack(self) -> Result<()> {
        crate::irq_ack(self.bits)
    }
}

impl cap::Tcb {
    /// Stops the thread. A call or receive that it waits in begins anew when the thread is resumed.
    pub fn tcb_suspend(self) -> Result<()> {
        crate::tcb_suspend(self.bits)
    }

    /// Lets a stopped thread continue.
    pub fn tcb_resume(self) -> Result<()> {
        crate::tcb_resume(self.bits)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn a_cast_keeps_the_slot_and_changes_the_kind() {
        let tcb = cap::Tcb::from_bits(202);
        assert_eq!(tcb.upcast().downcast::<cap_type::Tcb>(), tcb);
        assert_eq!(
            format!("{:?} {:?}", tcb, tcb.cast::<cap_type::Null>()),
            "Tcb(202) Null(202)"
        );
        assert!(cap::Endpoint::from_bits(1) < cap::Endpoint::from_bits(2));
        assert_eq!(size_of::<cap::Endpoint>(), 8);
    }
}
