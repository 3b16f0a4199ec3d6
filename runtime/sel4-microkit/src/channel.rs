//! Channels, sets of channels, and child protection domains.
//!
//! Owns no state: a [`Channel`] and a [`Child`] are numbers. On the other side are the kernel (trusted), which checks
//! each capability, and the domains at the other ends.

use crate::{CHILDREN, ENDPOINTS, IRQS, MAX_ID, MessageInfo, NOTIFICATIONS, message, symbols};
use core::fmt;
use sel4::cap;

/// One channel or interrupt, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    index: usize,
}

/// Error: the kernel refused to acknowledge an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqAckError(sel4::Error);

impl fmt::Display for IrqAckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "irq ack error: {}", self.0)
    }
}

/// Panics unless the description gives this domain the channel: its bit must be set in `mask`.
#[inline]
fn check(mask: u64, channel: &Channel, method: &str) {
    assert!(
        mask & 1 << channel.index != 0,
        "{method}: not valid for channel '{}'",
        channel.index
    );
}

impl Channel {
    /// Names the channel or interrupt with this id, 0 to 61.
    pub const fn new(index: usize) -> Channel {
        assert!(index <= MAX_ID, "channel ids end at 61");
        Channel { index }
    }

    /// Returns the id.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Returns the capability that [`Self::notify`] uses. Panics if this end may not notify the other.
    #[doc(hidden)]
    #[inline]
    pub fn notification(&self) -> cap::Notification {
        check(symbols::notifications(), self, "notify");
        cap::Notification::from_bits(NOTIFICATIONS + self.index as u64)
    }

    /// Returns the capability that [`Self::irq_ack`] uses. Panics if the id is not an interrupt's.
    #[doc(hidden)]
    #[inline]
    pub fn irq_handler(&self) -> cap::IrqHandler {
        check(symbols::irqs(), self, "irq_ack");
        cap::IrqHandler::from_bits(IRQS + self.index as u64)
    }

    /// Returns the capability that [`Self::pp_call`] uses. Panics if this end may not call the other.
    #[doc(hidden)]
    pub fn endpoint(&self) -> cap::Endpoint {
        check(symbols::pps(), self, "pp_call");
        cap::Endpoint::from_bits(ENDPOINTS + self.index as u64)
    }

    /// Notifies the other end. Never blocks. Panics if the description does not let this end notify.
    #[inline]
    pub fn notify(&self) {
        self.notification().signal();
    }

    /// Acknowledges the interrupt with this id, so that it can come again.
    #[inline]
    pub fn irq_ack(&self) -> Result<(), IrqAckError> {
        self.irq_handler().irq_handler_ack().map_err(IrqAckError)
    }

    /// Returns the address and the data that a device must write to raise the message-signalled interrupt of this
    /// vector on the first processor. Vectors are numbered as in the description, 0 to 107.
    pub const fn message(vector: u8) -> (u64, u32) {
        // Intel SDM volume 3, 11.11: fixed delivery, edge, to the processor with APIC id 0. Vectors of 5.0.0: 32
        // exceptions, then 16 of the old controller, then these.
        (0xfee0_0000, 32 + 16 + vector as u32)
    }

    /// Calls the protected procedure at the other end and waits for its answer. The message words are those of
    /// [`crate::set_mr`]. Panics if the description does not let this end call.
    pub fn pp_call(&self, msg_info: MessageInfo) -> MessageInfo {
        message::call(self.endpoint().bits(), msg_info)
    }
}

/// Channels and interrupts that were signalled since the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelSet(u64);

impl ChannelSet {
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns true if this channel was signalled.
    pub const fn contains(&self, channel: Channel) -> bool {
        self.0 & 1 << channel.index != 0
    }

    /// Returns bit `n` for channel `n`.
    pub const fn bits(&self) -> u64 {
        self.0
    }

    /// Returns the channels, lowest first.
    pub fn iter(&self) -> ChannelSetIter {
        ChannelSetIter(self.0)
    }

    /// Returns the set for printing: `{3, 5}`.
    pub fn display(&self) -> DisplayChannelSet<'_> {
        DisplayChannelSet(self)
    }
}

/// The channels of a set, lowest first.
#[derive(Clone, Debug)]
pub struct ChannelSetIter(u64);

impl Iterator for ChannelSetIter {
    type Item = Channel;

    fn next(&mut self) -> Option<Channel> {
        let index = self.0.trailing_zeros() as usize;
        if self.0 == 0 {
            return None;
        }
        self.0 &= self.0 - 1;
        Some(Channel { index })
    }
}

/// Prints a set of channels as `{3, 5}`.
#[derive(Clone, Copy, Debug)]
pub struct DisplayChannelSet<'a>(&'a ChannelSet);

impl fmt::Display for DisplayChannelSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, channel) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{}", channel.index())?;
        }
        f.write_str("}")
    }
}

/// Top of every protection domain's stack, fixed by the ABI.
pub(crate) const STACK_TOP: u64 = 0x7fff_ffff_d000;
/// RFLAGS with interrupts on, and the bit that is always set. Single-stepping, which a crashed child may have switched
/// on, is off.
pub(crate) const PLAIN_FLAGS: u64 = 0x202;

/// Maximum number of a thread's registers on either kernel (`seL4_UserContext`): 18 general ones, the bases of FS and
/// GS. seL4 5.0.0 has one base and ignores the excess.
const REGISTERS: usize = 20;

const _: () = assert!(2 + REGISTERS <= message::INVOCATION_WORDS);

/// Builds the message that starts a thread: flags (bit 0: resume), number of registers, then the registers in the order
/// of `seL4_UserContext`; the fourth is RAX. All others are zero, so that the thread finds nothing of its earlier run.
const fn start_message(entry: u64, reason: u64) -> [u64; 2 + REGISTERS] {
    let mut words = [0; 2 + REGISTERS];
    (words[0], words[1]) = (1, REGISTERS as u64);
    (words[2], words[3], words[4], words[5]) = (entry, STACK_TOP, PLAIN_FLAGS, reason);
    words
}

/// A child protection domain, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    index: usize,
}

impl Child {
    /// Names the child with this id, 0 to 61.
    pub const fn new(index: usize) -> Child {
        assert!(index <= MAX_ID, "child ids end at 61");
        Child { index }
    }

    /// Returns the id.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Returns the capability of the child's thread.
    #[doc(hidden)]
    pub fn tcb(&self) -> cap::Tcb {
        cap::Tcb::from_bits(CHILDREN + self.index as u64)
    }

    /// Restarts the child at `entry` ([`Self::ENTRY`] for all programs of this project), with the stack pointer at the
    /// top of its stack and plain processor flags. The kernel ends any call or receive that the child was waiting in.
    pub fn restart(self, entry: u64) -> Result<(), sel4::Refused> {
        self.begin(entry, 0)
    }

    /// Restarts the child for another tenant. The child first clears the last tenant's data in the memory that lasts
    /// over restarts ([`crate::scrub`]).
    pub fn restart_for_another(self, entry: u64) -> Result<(), sel4::Refused> {
        self.begin(entry, crate::scrub::ANOTHER)
    }

    fn begin(self, entry: u64, reason: u64) -> Result<(), sel4::Refused> {
        message::invoke(
            self.tcb().bits(),
            sel4::label::TCB_WRITE_REGISTERS,
            &start_message(entry, reason),
        )
    }

    /// Stops the child. A call or receive that it waits in begins anew when the child is resumed.
    pub fn stop(self) -> Result<(), sel4::Refused> {
        self.tcb().tcb_suspend()
    }

    /// Lets a stopped child continue.
    pub fn resume(self) -> Result<(), sel4::Refused> {
        self.tcb().tcb_resume()
    }

    /// Address of the first instruction of every program that `runtime/pd-build` links.
    pub const ENTRY: u64 = 0x20_0000;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_start_writes_every_general_register() {
        let words = start_message(Child::ENTRY, crate::scrub::ANOTHER);
        assert_eq!(words[..2], [1, 20]);
        assert_eq!(words[2..6], [Child::ENTRY, STACK_TOP, PLAIN_FLAGS, 1]);
        assert!(words[6..].iter().all(|word| *word == 0));
    }

    #[test]
    fn a_set_is_printed_in_braces() {
        let set = |ids: &[usize]| ChannelSet::new(ids.iter().fold(0, |bits, id| bits | 1 << id));
        let text = [&[][..], &[3], &[0, 7, 61]].map(|ids| set(ids).display().to_string());
        assert_eq!(text, ["{}", "{3}", "{0, 7, 61}"]);
    }

    #[test]
    #[should_panic(expected = "notify: not valid for channel '5'")]
    fn a_channel_that_the_description_does_not_give_is_refused() {
        Channel::new(5).notify();
    }

    proptest! {
        #[test]
        fn a_set_lists_each_channel_once_from_the_lowest(ids in proptest::collection::btree_set(0..=MAX_ID, 0..20)) {
            let set = ChannelSet::new(ids.iter().fold(0, |bits, id| bits | 1 << id));
            prop_assert_eq!(set.iter().map(|channel| channel.index()).collect::<Vec<_>>(), ids.iter().copied().collect::<Vec<_>>());
            for id in 0..=MAX_ID {
                prop_assert_eq!(set.contains(Channel::new(id)), ids.contains(&id));
            }
        }
    }
}
