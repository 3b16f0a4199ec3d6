//! Channels, sets of them, and child protection domains.

use crate::{CHILDREN, ENDPOINTS, IRQS, MAX_ID, MessageInfo, NOTIFICATIONS, message, symbols};
use core::fmt;

/// One channel or interrupt, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel(usize);

/// The kernel refused to acknowledge an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqAckError(sel4::Refused);

impl fmt::Display for IrqAckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acknowledging an interrupt: {}", self.0)
    }
}

impl Channel {
    /// The channel with this id, 0 to 61.
    pub const fn new(id: usize) -> Channel {
        assert!(id <= MAX_ID, "channel ids end at 61");
        Channel(id)
    }

    /// Its id.
    pub const fn index(self) -> usize {
        self.0
    }

    /// Notifies the other end. Never blocks.
    #[inline]
    pub fn notify(self) {
        sel4::signal(NOTIFICATIONS + self.0 as u64);
    }

    /// Whether this end may notify the other.
    pub fn may_notify(self) -> bool {
        symbols::notifications() & 1 << self.0 != 0
    }

    /// Acknowledges the interrupt with this id, so that it can come again.
    #[inline]
    pub fn irq_ack(self) -> Result<(), IrqAckError> {
        sel4::irq_ack(IRQS + self.0 as u64).map_err(IrqAckError)
    }

    /// What a device must write to have the message-signalled interrupt of this vector (as the description counts it,
    /// 0 to 107) come: address and data, for the first processor.
    pub const fn message(vector: u8) -> (u64, u32) {
        // Intel SDM volume 3, 11.11: fixed delivery, edge, to the processor with APIC id 0. Vectors of 5.0.0: 32
        // exceptions, then 16 of the old controller, then these.
        (0xfee0_0000, 32 + 16 + vector as u32)
    }

    /// Calls the protected procedure at the other end and waits for its answer. The message words are those of
    /// [`crate::set_mr`].
    pub fn pp_call(self, info: MessageInfo) -> MessageInfo {
        assert!(
            symbols::pps() & 1 << self.0 != 0,
            "channel {} cannot be called",
            self.0
        );
        message::call(ENDPOINTS + self.0 as u64, info)
    }
}

/// Channels and interrupts that were signalled since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSet(u64);

impl ChannelSet {
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether this channel was signalled.
    pub const fn contains(&self, channel: Channel) -> bool {
        self.0 & 1 << channel.0 != 0
    }

    /// Bit `n` for channel `n`.
    pub const fn bits(&self) -> u64 {
        self.0
    }

    /// The channels, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Channel> + use<> {
        let mut bits = self.0;
        core::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let id = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Some(Channel(id))
        })
    }
}

/// Top of every protection domain's stack, fixed by the ABI.
pub(crate) const STACK_TOP: u64 = 0x7fff_ffff_d000;
/// RFLAGS: interrupts on, and the bit that is always set. Above all no single-stepping, which a crashed child may have
/// switched on.
pub(crate) const PLAIN_FLAGS: u64 = 0x202;

/// Registers of a thread on either kernel at most (`seL4_UserContext`): 18 general ones, the bases of FS and GS. seL4 5.0.0 has one
/// base and leaves out what is too much.
const REGISTERS: usize = 20;

const _: () = assert!(2 + REGISTERS <= message::INVOCATION_WORDS);

/// The message that starts a thread: flags (bit 0: resume), number of registers, then they in the order of `seL4_UserContext`, of
/// which the fourth is RAX. All others are zero, so that the thread finds nothing of what it did before.
const fn start_message(entry: u64, reason: u64) -> [u64; 2 + REGISTERS] {
    let mut words = [0; 2 + REGISTERS];
    (words[0], words[1]) = (1, REGISTERS as u64);
    (words[2], words[3], words[4], words[5]) = (entry, STACK_TOP, PLAIN_FLAGS, reason);
    words
}

/// A child protection domain, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child(usize);

impl Child {
    /// The child with this id.
    pub const fn new(id: usize) -> Child {
        assert!(id <= MAX_ID, "child ids end at 61");
        Child(id)
    }

    /// Its id.
    pub const fn index(self) -> usize {
        self.0
    }

    pub(crate) fn tcb(self) -> u64 {
        CHILDREN + self.0 as u64
    }

    /// Starts the child anew at `entry` ([`Self::ENTRY`] for all programs of this project), on its own stack's top, with
    /// plain processor flags. The kernel ends whatever it was waiting in.
    pub fn restart(self, entry: u64) -> Result<(), sel4::Refused> {
        self.begin(entry, 0)
    }

    /// The same for another tenant: the child is to clear what the last one left in the memory that it keeps
    /// ([`crate::scrub`]).
    pub fn restart_for_another(self, entry: u64) -> Result<(), sel4::Refused> {
        self.begin(entry, crate::scrub::ANOTHER)
    }

    fn begin(self, entry: u64, reason: u64) -> Result<(), sel4::Refused> {
        message::invoke(
            self.tcb(),
            sel4::label::TCB_WRITE_REGISTERS,
            &start_message(entry, reason),
        )
    }

    /// Stops the child. A call or receive that it waits in is begun anew when it is resumed.
    pub fn stop(self) -> Result<(), sel4::Refused> {
        sel4::tcb_suspend(self.tcb())
    }

    /// Lets a stopped child go on.
    pub fn resume(self) -> Result<(), sel4::Refused> {
        sel4::tcb_resume(self.tcb())
    }

    /// The first instruction of every program that `runtime/pd-build` links.
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

    proptest! {
        #[test]
        fn a_set_lists_each_channel_once_from_the_lowest(ids in proptest::collection::btree_set(0..=MAX_ID, 0..20)) {
            let set = ChannelSet::new(ids.iter().fold(0, |bits, id| bits | 1 << id));
            prop_assert_eq!(set.iter().map(Channel::index).collect::<Vec<_>>(), ids.iter().copied().collect::<Vec<_>>());
            for id in 0..=MAX_ID {
                prop_assert_eq!(set.contains(Channel::new(id)), ids.contains(&id));
            }
        }
    }
}
