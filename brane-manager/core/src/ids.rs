//! Identifiers of the manager's objects. Each is valid only in the table of its owner.
//!
//! A table accepts only its own identifier type, so a brane's number cannot be used as a device's.

/// An instance: a protection domain `brane-N` with its client `services-N`, and its brane if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BraneId(usize);

/// A device. The value is its number at the NIC driver (vif id), which is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeviceId(u32);

/// A job of an operator. The operator knows this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobId(u32);

/// A protection domain that can subscribe to transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriberId(usize);

/// A protection domain `filterK`, an external filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterId(usize);

/// A protection domain that sends requests: the console or the remote line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorId(usize);

macro_rules! positions {
    ($($id:ident)*) => {$(
        impl $id {
            /// Creates the identifier of the member with this number, counted from zero as in `system.xml`.
            pub const fn new(number: usize) -> $id {
                $id(number)
            }

            /// Returns the number in `system.xml`: the position in the owner's table.
            pub const fn index(self) -> usize {
                self.0
            }

            /// Returns the first `count` members.
            pub(crate) fn first(count: usize) -> impl DoubleEndedIterator<Item = $id> {
                (0..count).map($id)
            }
        }
    )*};
}
positions!(BraneId SubscriberId FilterId OperatorId);

macro_rules! numbers {
    ($($id:ident)*) => {$(
        impl $id {
            pub(crate) const fn new(number: u32) -> $id {
                $id(number)
            }

            /// Returns the number on the wire.
            pub(crate) const fn number(self) -> u32 {
                self.0
            }
        }
    )*};
}
numbers!(DeviceId JobId);
