//! The event loop and what a protection domain does at each event.

use crate::{Channel, ChannelSet, Child, DeferredAction, INPUT, MessageInfo, message, symbols};
use core::fmt;
use sel4::Origin;

pub use core::convert::Infallible;

/// The type without values.
pub type Never = Infallible;

/// What a protection domain does at each event. An error ends it, with the error's text as its panic message.
pub trait Handler {
    /// Why the domain cannot go on.
    type Error: fmt::Display;

    /// Channels or interrupts were signalled; handle all of them.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        panic!("unexpected notification, channels {:#x}", channels.bits())
    }

    /// A protected call; the answer goes back to the caller.
    fn protected(&mut self, channel: Channel, info: MessageInfo) -> Result<MessageInfo, Self::Error> {
        panic!(
            "unexpected call with label {} on channel {}",
            info.label(),
            channel.index()
        )
    }

    /// Asked after each protected call. `false` leaves the caller without an answer: for a caller that was stopped during its call
    /// ([`Child::stop`]), which begins the call anew when it is resumed.
    fn answers(&mut self) -> bool {
        true
    }

    /// A child faulted. `Ok(Some(_))` answers the fault, which lets the child go on; `Ok(None)` leaves it stopped.
    fn fault(&mut self, child: Child, info: MessageInfo) -> Result<Option<MessageInfo>, Self::Error> {
        panic!("unexpected fault {} of child {}", info.label(), child.index())
    }

    /// Asked for after every event.
    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        None
    }
}

/// A handler for domains that expect nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullHandler;

impl Handler for NullHandler {
    type Error = Never;
}

/// Runs `init` and then the event loop, for ever. Called by what `#[protection_domain]` generates.
pub fn run<H: Handler>(init: impl FnOnce() -> H) -> ! {
    let mut handler = init();
    // An interrupt that came before anybody listened is still unacknowledged.
    for irq in ChannelSet::new(symbols::irqs()).iter() {
        let _ = irq.irq_ack();
    }
    let Err(error) = events(&mut handler);
    panic!("{error}")
}

fn events<H: Handler>(handler: &mut H) -> Result<Never, H::Error> {
    let mut reply: Option<MessageInfo> = None;
    loop {
        if let Some(action) = handler.take_deferred_action() {
            action.execute();
        }
        let (info, badge) = match reply.take() {
            Some(answer) => message::reply_recv(INPUT, answer),
            None => message::recv(INPUT),
        };
        match sel4::origin(badge) {
            Origin::Call(id) => {
                let answer = handler.protected(Channel::new(id % 62), info)?;
                reply = handler.answers().then_some(answer);
            }
            Origin::Fault(id) => reply = handler.fault(Child::new(id % 62), info)?,
            Origin::Notification(bits) => handler.notified(ChannelSet::new(bits))?,
        }
    }
}
