//! The event loop, and the trait for a protection domain's reactions to events.
//!
//! Owns the wait for events. On the other side are the kernel (trusted) and the domains that call, notify or fault:
//! their messages are passed to the [`Handler`] unchecked.

use crate::{Channel, ChannelSet, Child, DeferredAction, INPUT, MessageInfo, message, symbols};
use alloc::boxed::Box;
use core::fmt;
use sel4::Origin;

pub use core::convert::Infallible;

/// The type without values. As a [`Handler`] it is for domains that never wait.
pub type Never = Infallible;

/// A protection domain's reactions to events. An error ends the domain, with the error's text as its panic message.
pub trait Handler {
    /// Reason why the domain cannot continue.
    type Error: fmt::Display;

    /// Handles the channels and interrupts that were signalled. The default panics.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        panic!("unexpected notification from channels {}", channels.display())
    }

    /// Answers a protected call. The default panics.
    fn protected(&mut self, channel: Channel, msg_info: MessageInfo) -> Result<MessageInfo, Self::Error> {
        panic!("unexpected protected procedure call from channel {channel:?} with msg_info={msg_info:?}")
    }

    /// Returns false if the caller of the protected call just handled must get no answer. A parent needs this if it
    /// stopped the caller during the call ([`Child::stop`]): the caller begins the call anew when it is resumed.
    fn answers(&mut self) -> bool {
        true
    }

    /// Handles the fault of a child. `Ok(Some(_))` answers the fault, so the child continues; `Ok(None)` leaves the child
    /// stopped. The default panics.
    fn fault(&mut self, child: Child, msg_info: MessageInfo) -> Result<Option<MessageInfo>, Self::Error> {
        panic!("unexpected fault from protection domain {child:?} with msg_info={msg_info:?}")
    }

    /// Returns an action to execute before the next wait. Called after every event.
    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        None
    }

    /// Handles events forever. Returns at the first error.
    #[doc(hidden)]
    fn run(&mut self) -> Result<Never, Self::Error> {
        // An interrupt that came before the domain waited for it is still unacknowledged.
        for irq in ChannelSet::new(symbols::irqs()).iter() {
            let _ = irq.irq_ack();
        }
        let mut reply: Option<MessageInfo> = None;
        loop {
            let (info, badge) = match reply.take() {
                Some(answer) => message::reply_recv(INPUT, answer),
                None => message::recv(INPUT),
            };
            match sel4::origin(badge) {
                Origin::Call(id) => {
                    let answer = self.protected(Channel::new(id % 62), info)?;
                    reply = self.answers().then_some(answer);
                }
                Origin::Fault(id) => reply = self.fault(Child::new(id % 62), info)?,
                Origin::Notification(bits) => self.notified(ChannelSet::new(bits))?,
            }
            if let Some(action) = self.take_deferred_action() {
                // As with the SDK's joined system call, a refusal is not reported.
                let _ = action.execute_now();
            }
        }
    }
}

/// A handler for domains that expect no event.
#[derive(Debug)]
pub struct NullHandler(());

impl NullHandler {
    /// Makes the handler.
    #[allow(
        clippy::new_without_default,
        reason = "the upstream crate has no default either"
    )]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Handler for NullHandler {
    type Error = Infallible;
}

impl Handler for Never {
    type Error = Infallible;
}

impl<T: Handler + ?Sized> Handler for Box<T> {
    type Error = T::Error;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        (**self).notified(channels)
    }

    fn protected(&mut self, channel: Channel, msg_info: MessageInfo) -> Result<MessageInfo, Self::Error> {
        (**self).protected(channel, msg_info)
    }

    fn answers(&mut self) -> bool {
        (**self).answers()
    }

    fn fault(&mut self, child: Child, msg_info: MessageInfo) -> Result<Option<MessageInfo>, Self::Error> {
        (**self).fault(child, msg_info)
    }

    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        (**self).take_deferred_action()
    }

    fn run(&mut self) -> Result<Never, Self::Error> {
        (**self).run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Handler for Echo {
        type Error = String;

        fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, String> {
            match channel.index() {
                0 => Ok(info),
                other => Err(format!("channel {other}")),
            }
        }

        fn answers(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn a_boxed_handler_is_the_handler_in_it() {
        let mut boxed: Box<dyn Handler<Error = String>> = Box::new(Echo);
        let info = MessageInfo::new(7, 2);
        assert_eq!(boxed.protected(Channel::new(0), info.clone()), Ok(info.clone()));
        assert_eq!(
            boxed.protected(Channel::new(1), info),
            Err("channel 1".to_owned())
        );
        assert!(!boxed.answers());
        assert_eq!(boxed.take_deferred_action(), None);
    }

    #[test]
    #[should_panic(expected = "unexpected notification from channels {2, 9}")]
    fn a_null_handler_expects_nothing() {
        let _ = NullHandler::new().notified(ChannelSet::new(1 << 2 | 1 << 9));
    }
}
