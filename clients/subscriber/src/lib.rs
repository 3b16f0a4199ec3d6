//! A subscription to the life cycle of branes, for any protection domain that shares a region `subscription-K` with the manager.
//!
//! It owns side B of that region. On the other side is the manager, which is trusted. If a notification cannot be decoded, the
//! subscriber reports it and does not act on it. The manager starts, restarts, shuts down and deletes a brane only when each
//! subscriber has acknowledged. It quarantines a subscriber that takes longer than half a second.
//!
//! To register a protection domain:
//!
//! ```ignore
//! let subscriber = Subscriber::start(regions::SUBSCRIPTION.shared(), Subscription::all(), || MANAGER.notify()).expect("a region of 64 KiB");
//! // in `notified`, after each wake:
//! self.subscriber.run(|event| match event {
//!     Event::Transition(notification) => logln!("{} {}", notification.transition.name(), notification.brane),
//!     other => logln!("{other:?}"),
//! });
//! ```
//!
//! [`Subscriber::run`] acknowledges each transition when the closure returns. A domain that needs longer, or wants to leave,
//! fetches its events with [`Subscriber::next_event`] and acknowledges with [`Subscriber::acknowledge`].
//!
//! It knows nothing of seL4: the caller passes the function that notifies the manager.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{CONTROL_BIT, MAX_MESSAGE};
use brane_abi::endpoint::{Endpoint, LinkEvent, RingPair};
use brane_abi::layout::ctl;
use brane_abi::link::Side;
use brane_abi::shared::SharedRegion;
use brane_abi::subscription::{notice, request};

pub use brane_abi::subscription::{Notification, Subscription, Transition};

/// Identifies the transition of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u32);

/// Event that a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The manager has accepted the subscription. Transitions of existing branes follow.
    Subscribed,
    /// A brane is at this transition. It waits for the acknowledgement if [`Transition::waits`].
    Transition(Notification),
    /// The manager has refused the subscription, for this reason.
    Refused(String),
    /// The subscription has ended, after [`Subscriber::leave`].
    Left,
    /// A record of this kind that this version cannot decode.
    Unknown(u32),
    /// The link to the manager is lost. The subscription is sent again when the manager has restarted.
    Lost,
}

/// The subscriber's end of its region.
pub struct Subscriber {
    endpoint: Endpoint<RingPair>,
    notify: Box<dyn Fn()>,
    /// Subscription that is sent to each incarnation of the manager.
    wanted: Option<Subscription>,
    /// True if the subscription has been sent to the manager's present incarnation.
    sent: bool,
    buffer: Vec<u8>,
}

impl Subscriber {
    /// Starts the subscriber's side of the link and notifies the manager. It subscribes when the link comes up. Returns `None`
    /// if the region is too small or not aligned.
    pub fn start(
        region: SharedRegion,
        subscription: impl Into<Option<Subscription>>,
        notify: impl Fn() + 'static,
    ) -> Option<Subscriber> {
        let mut subscriber = Subscriber {
            endpoint: Endpoint::start(region, Side::B, ctl::brane_rings(region)?)?,
            notify: Box::new(notify),
            wanted: subscription.into(),
            sent: false,
            buffer: alloc::vec![0; MAX_MESSAGE],
        };
        subscriber.flush(0);
        Some(subscriber)
    }

    /// Passes all events to `handle`, acknowledges the transitions, and announces sleep. Call it after each wake.
    pub fn run(&mut self, mut handle: impl FnMut(Event)) {
        loop {
            while let Some((token, event)) = self.next_event() {
                handle(event);
                if let Some(token) = token {
                    self.acknowledge(token);
                }
            }
            // The manager is trusted, so it does not ring the doorbell for ever.
            if self.arm() {
                return;
            }
        }
    }

    /// Returns the next event. A transition has a token; the brane waits until the transition is acknowledged.
    pub fn next_event(&mut self) -> Option<(Option<Token>, Event)> {
        let _ = self.endpoint.wake();
        let mut event = self.endpoint.poll();
        if event == LinkEvent::PeerRestarted {
            self.endpoint.accept();
            self.sent = false;
            self.flush(0);
            event = self.endpoint.poll();
        }
        if matches!(event, LinkEvent::Lost | LinkEvent::Incompatible) {
            return Some((None, Event::Lost));
        }
        if !self.endpoint.is_up() {
            return None;
        }
        if !self.sent
            && let Some(wanted) = &self.wanted
        {
            self.sent = true;
            // Writing to a vector cannot fail.
            let bytes = minicbor::to_vec(wanted).unwrap_or_default();
            self.send(request::SUBSCRIBE, 0, &bytes);
        }
        self.receive()
    }

    /// Announces sleep. Returns false if there are events; then handle them instead of sleeping.
    #[must_use = "a false result means that there are events"]
    pub fn arm(&self) -> bool {
        self.endpoint.arm()
    }

    /// Acknowledges a transition. The brane goes on when all subscribers have acknowledged.
    pub fn acknowledge(&mut self, token: Token) {
        self.send(request::ACK, token.0, &[]);
    }

    /// Subscribes, or replaces the subscription. The answer is [`Event::Subscribed`] or [`Event::Refused`].
    pub fn subscribe(&mut self, subscription: Subscription) {
        self.wanted = Some(subscription);
        self.sent = false;
    }

    /// Ends the subscription. The manager sends the inverse of all transitions first, then [`Event::Left`].
    pub fn leave(&mut self) {
        if self.wanted.take().is_some() && self.sent {
            self.send(request::LEAVE, 0, &[]);
        }
    }

    /// Returns the end of the link to the manager.
    pub fn endpoint(&mut self) -> &mut Endpoint<RingPair> {
        &mut self.endpoint
    }

    fn receive(&mut self) -> Option<(Option<Token>, Event)> {
        let Self { endpoint, buffer, .. } = self;
        let taken = endpoint.rings.rx.take(|record| {
            let len = record.copy_to(buffer).len();
            (record.meta, len)
        });
        let ([kind, token, _], len) = match taken {
            Ok(taken) => taken?,
            // After a restart, the next poll reports it.
            Err(_) => return self.endpoint.violation().then_some((None, Event::Lost)),
        };
        if self.endpoint.rings.rx.release() {
            self.flush(CONTROL_BIT);
        }
        let text = &self.buffer[..len];
        Some(match kind {
            notice::TRANSITION => match minicbor::decode(text) {
                Ok(notification) => (Some(Token(token)), Event::Transition(notification)),
                Err(_) => (None, Event::Unknown(kind)),
            },
            notice::SUBSCRIBED => (None, Event::Subscribed),
            notice::LEFT => (None, Event::Left),
            notice::REFUSED => (None, Event::Refused(String::from_utf8_lossy(text).into())),
            kind => (None, Event::Unknown(kind)),
        })
    }

    /// Enqueues a record. The manager has one open notification at a time, so the ring has room for the answers.
    fn send(&mut self, kind: u32, token: u32, payload: &[u8]) {
        if !self.endpoint.is_up() {
            return;
        }
        let reports = &mut self.endpoint.rings.tx;
        if reports.push(&[payload], [kind, token, 0]).is_ok() && reports.publish() {
            self.flush(CONTROL_BIT);
        }
    }

    fn flush(&mut self, bits: u64) {
        if self.endpoint.flush(bits) {
            (self.notify)();
        }
    }
}
