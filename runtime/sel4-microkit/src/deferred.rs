//! Something to do just before the next wait, with the upstream crate's names.
//!
//! A newer kernel joins such an action with the wait in one system call. On this one it is a call of its own: there is no
//! gain but that programs written for the other run unchanged.

use crate::{Channel, IrqAckError};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredAction {
    /// Notify a channel.
    Notify(Channel),
    /// Acknowledge an interrupt.
    IrqAck(Channel),
}

impl DeferredAction {
    /// Does it now.
    pub fn execute(self) {
        match self {
            DeferredAction::Notify(channel) => channel.notify(),
            DeferredAction::IrqAck(channel) => {
                if let Err(error) = channel.irq_ack() {
                    panic!("{error} (id {})", channel.index());
                }
            }
        }
    }
}

/// At most one action that waits; what [`crate::Handler::take_deferred_action`] gives away.
#[derive(Debug, Default)]
pub struct DeferredActionSlot(Option<DeferredAction>);

impl DeferredActionSlot {
    /// An empty slot.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Takes the waiting action out.
    pub fn take(&mut self) -> Option<DeferredAction> {
        self.0.take()
    }
}

/// Deferring, for whatever keeps a [`DeferredActionSlot`].
pub trait DeferredActionInterface {
    /// The slot.
    fn slot(&mut self) -> &mut DeferredActionSlot;

    /// Keeps an action for the next wait; one that waits already is done now.
    fn defer(&mut self, action: DeferredAction) {
        if let Some(earlier) = self.slot().0.replace(action) {
            earlier.execute();
        }
    }

    /// Notifies a channel at the next wait.
    fn defer_notify(&mut self, channel: Channel) {
        self.defer(DeferredAction::Notify(channel));
    }

    /// Acknowledges an interrupt at the next wait.
    fn defer_irq_ack(&mut self, channel: Channel) -> Result<(), IrqAckError> {
        self.defer(DeferredAction::IrqAck(channel));
        Ok(())
    }
}

impl DeferredActionInterface for DeferredActionSlot {
    fn slot(&mut self) -> &mut DeferredActionSlot {
        self
    }
}
