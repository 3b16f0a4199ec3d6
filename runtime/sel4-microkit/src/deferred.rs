//! An action just before the next wait, with the upstream crate's names.
//!
//! Owns at most one action. The kernel of the Microkit SDK can join such an action with the wait in one system call; this
//! runtime makes two, so an action saves no time here.

use crate::{Channel, IrqAckError};

/// An action for [`crate::Handler::take_deferred_action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferredAction {
    channel: Channel,
    interface: DeferredActionInterface,
}

/// The kind of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredActionInterface {
    /// Notify the channel.
    Notify,
    /// Acknowledge the interrupt.
    IrqAck,
}

impl DeferredAction {
    /// Makes an action.
    pub const fn new(channel: Channel, interface: DeferredActionInterface) -> Self {
        Self { channel, interface }
    }

    /// Makes an action that notifies a channel.
    pub const fn new_notify(channel: Channel) -> DeferredAction {
        Self::new(channel, DeferredActionInterface::Notify)
    }

    /// Makes an action that acknowledges an interrupt.
    pub const fn new_irq_ack(channel: Channel) -> DeferredAction {
        Self::new(channel, DeferredActionInterface::IrqAck)
    }

    /// Returns the channel or interrupt.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Returns the kind.
    pub const fn interface(&self) -> DeferredActionInterface {
        self.interface
    }

    /// Executes the action now.
    pub fn execute_now(self) -> Result<(), IrqAckError> {
        match self.interface {
            DeferredActionInterface::Notify => {
                self.channel.notify();
                Ok(())
            }
            DeferredActionInterface::IrqAck => self.channel.irq_ack(),
        }
    }
}

/// Stores at most one action; [`crate::Handler::take_deferred_action`] removes it.
#[derive(Debug, Default)]
pub struct DeferredActionSlot {
    inner: Option<DeferredAction>,
}

impl DeferredActionSlot {
    /// Makes an empty slot.
    pub const fn new() -> Self {
        Self { inner: None }
    }

    /// Removes and returns the action.
    pub fn take(&mut self) -> Option<DeferredAction> {
        self.inner.take()
    }

    /// Stores an action for the next wait. If an earlier action waits, executes that one now.
    pub fn defer(&mut self, action: DeferredAction) -> Result<(), IrqAckError> {
        match self.inner.replace(action) {
            Some(earlier) => earlier.execute_now(),
            None => Ok(()),
        }
    }

    /// Notifies a channel at the next wait.
    pub fn defer_notify(&mut self, channel: Channel) -> Result<(), IrqAckError> {
        self.defer(DeferredAction::new_notify(channel))
    }

    /// Acknowledges an interrupt at the next wait.
    pub fn defer_irq_ack(&mut self, channel: Channel) -> Result<(), IrqAckError> {
        self.defer(DeferredAction::new_irq_ack(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_the_last_action() {
        let mut slot = DeferredActionSlot::new();
        assert_eq!(slot.take(), None);
        let action = DeferredAction::new_notify(Channel::new(7));
        slot.defer(action).unwrap();
        assert_eq!(action.interface(), DeferredActionInterface::Notify);
        assert_eq!(slot.take(), Some(action));
        assert_eq!(slot.take(), None);
    }

    #[test]
    #[should_panic(expected = "irq_ack: not valid for channel '3'")]
    fn a_second_action_has_the_first_done() {
        let mut slot = DeferredActionSlot::new();
        slot.defer_irq_ack(Channel::new(3)).unwrap();
        let _ = slot.defer_notify(Channel::new(4));
    }
}
