//! Subscriptions to the life cycle of branes: messages between the manager and a subscriber.
//!
//! The region `subscription-K` between manager (side A) and subscriber (side B) has the layout [`crate::layout::ctl`]. Records
//! carry their kind in meta word 0 and a token in word 1. The manager does not trust subscribers. It quarantines a subscriber
//! that does not acknowledge in time, violates the rings' rules or faults, and the transition goes on.
//!
//! **Items.** The manager notifies a transition of a brane once for each item of the subscription that the brane has. An item is
//! a family, or a protocol of a family if the subscription names protocols.
//!
//! **Order.** After create and after start are the way up. On the way up, families and protocols come in the order of their
//! creation, and subscribers in the order of `system.xml`. For all other transitions both orders are inverse. The manager
//! notifies the next subscriber when the previous one has acknowledged all items.
//!
//! **Balance.** For each brane a subscriber sees a sequence of whole lives: after create, any number of pairs after start and
//! before shutdown, then before destroy. `failed` may come at any point and ends the incarnation. The brane goes on when all
//! subscribers have acknowledged. The brane does not wait for the acknowledgements of `failed`, `renamed` and replays.
//!
//! **Replay.** If a subscriber subscribes late, the manager first sends what it missed: for each brane, by number, after create,
//! then after start if the brane is started. If a subscriber leaves or changes its subscription, the manager first sends the
//! inverse, from the last brane to the first.
//!
//! **Identity.** A name can pass to another brane. [`Notification::identity`] never does: with the generation it identifies an
//! incarnation. A subscription by name selects the brane that has the name now, and keeps this brane under any name until it is
//! destroyed.

use crate::control::{Family, Protocol};
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Kinds of records from the subscriber.
pub mod request {
    /// CBOR [`super::Subscription`]. It replaces an earlier one. Answer: `SUBSCRIBED`, then the missed transitions, or `REFUSED`.
    pub const SUBSCRIBE: u32 = 1;
    /// No payload: acknowledges the notification with this token.
    pub const ACK: u32 = 2;
    /// No payload. Answer: the inverse of the earlier notifications, then `LEFT`.
    pub const LEAVE: u32 = 3;
}

/// Kinds of records from the manager.
pub mod notice {
    /// CBOR [`super::Notification`]. The subscriber answers `ACK` with its token.
    pub const TRANSITION: u32 = 1;
    /// No payload: subscribed.
    pub const SUBSCRIBED: u32 = 2;
    /// No payload: the subscription has ended.
    pub const LEFT: u32 = 3;
    /// UTF-8: the reason for which the subscription is refused.
    pub const REFUSED: u32 = 4;
}

/// A point in the life of a brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Transition {
    /// The brane's protocols are created, and no frame has passed yet. The brane waits.
    #[n(0)]
    AfterCreate,
    /// The brane is started. Its next transition waits.
    #[n(1)]
    AfterStart,
    /// The brane will be shut down. It waits.
    #[n(2)]
    BeforeShutdown,
    /// The brane will be destroyed. It waits.
    #[n(3)]
    BeforeDestroy,
    /// The incarnation has ended without a command: the brane faulted, hung or violated a protocol. If it restarts, after create
    /// follows with the next generation. The brane does not wait.
    #[n(4)]
    Failed,
    /// The brane has another name. It does not wait.
    #[n(5)]
    Renamed,
}

impl Transition {
    /// All transitions.
    pub const ALL: [Transition; 6] = [
        Transition::AfterCreate,
        Transition::AfterStart,
        Transition::BeforeShutdown,
        Transition::BeforeDestroy,
        Transition::Failed,
        Transition::Renamed,
    ];

    /// Returns the transition's name, such as `after-create`.
    pub const fn name(self) -> &'static str {
        match self {
            Transition::AfterCreate => "after-create",
            Transition::AfterStart => "after-start",
            Transition::BeforeShutdown => "before-shutdown",
            Transition::BeforeDestroy => "before-destroy",
            Transition::Failed => "failed",
            Transition::Renamed => "renamed",
        }
    }

    /// Returns true if families, protocols and subscribers come in the order of their creation, false if in the inverse order.
    pub const fn is_up(self) -> bool {
        matches!(self, Transition::AfterCreate | Transition::AfterStart)
    }

    /// Returns true if the brane waits for the acknowledgements.
    pub const fn waits(self) -> bool {
        !matches!(self, Transition::Failed | Transition::Renamed)
    }
}

/// Selection of the notifications that a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Subscription {
    /// Selects the brane of this name, and keeps it when it is renamed. `None`: all branes.
    #[n(0)]
    pub brane: Option<String>,
    /// Selects this family. `None`: all families.
    #[n(1)]
    pub family: Option<Family>,
    /// Selects these transitions, each at most once.
    #[n(2)]
    pub transitions: Vec<Transition>,
    /// Selects these protocols of the families, each at most once. Empty: one notification for each family as a whole.
    #[n(3)]
    #[cbor(default)]
    pub protocols: Vec<Protocol>,
}

impl Subscription {
    /// Selects all transitions of all families of all branes.
    pub fn all() -> Subscription {
        Subscription {
            brane: None,
            family: None,
            transitions: Vec::from(Transition::ALL),
            protocols: Vec::new(),
        }
    }
}

/// A transition of a brane, for one family or protocol.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Notification {
    /// The transition.
    #[n(0)]
    pub transition: Transition,
    /// The brane's name at this transition.
    #[n(1)]
    pub brane: String,
    /// Number of the brane's instance (protection domain). A later brane may get this number.
    #[n(2)]
    pub id: u32,
    /// Counts the brane's restarts after failures.
    #[n(3)]
    pub generation: u32,
    /// The family.
    #[n(4)]
    pub family: Family,
    /// The subscriber missed this transition, or leaves and this is the inverse. The brane does not wait.
    #[n(5)]
    pub replay: bool,
    /// Counts the branes created since the manager's start. No other brane gets this number.
    #[n(6)]
    pub identity: u64,
    /// The protocol, if the subscription names protocols.
    #[n(7)]
    pub protocol: Option<Protocol>,
    /// The earlier name, for `renamed` only.
    #[n(8)]
    pub former_name: Option<String>,
}
