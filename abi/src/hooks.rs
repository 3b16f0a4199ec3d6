//! Subscription to the transitions of branes: what a subscriber says to the manager, and what it is told.
//!
//! The region `hooks-K` between manager (side A) and subscriber (side B) has the layout [`crate::layout::ctl`]; records carry
//! their kind in meta word 0 and a token in word 1. Subscribers are not trusted: one that does not answer in time, breaks the
//! rings' rules or faults is cut off, and the transition goes on.
//!
//! **Order.** A transition of a brane is told once for each of its families: `inet` before `inet6` on the way up
//! (after create, after start), the other way round on the way down (before shutdown, before destroy). The brane goes on
//! when all who subscribed to it have answered. Who subscribes late is told first what it missed: for each brane, by number,
//! after create, then after start if it is started. Who leaves is told the inverse, branes from the last to the first:
//! before shutdown if it is started, before destroy; nobody waits for these answers.

use crate::control::Family;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};

/// Kind of what a subscriber says.
pub mod say {
    /// CBOR [`super::Subscription`]; replaces an earlier one. Answer `JOINED` or `REFUSED`, then what was missed.
    pub const SUBSCRIBE: u32 = 1;
    /// No payload: done with the transition of this token.
    pub const DONE: u32 = 2;
    /// No payload: answer `LEFT`, after the inverse of what was told.
    pub const LEAVE: u32 = 3;
}

/// Kind of what a subscriber is told.
pub mod tell {
    /// CBOR [`super::Told`]: answer `DONE` with the same token.
    pub const TRANSITION: u32 = 1;
    /// No payload: subscribed.
    pub const JOINED: u32 = 2;
    /// No payload: nothing more will be told.
    pub const LEFT: u32 = 3;
    /// UTF-8: why not.
    pub const REFUSED: u32 = 4;
}

/// A point in the life of a brane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Transition {
    /// Its protocols are created, nothing has passed yet.
    #[n(0)]
    AfterCreate,
    /// It is started.
    #[n(1)]
    AfterStart,
    /// It will be shut down.
    #[n(2)]
    BeforeShutdown,
    /// It will be destroyed.
    #[n(3)]
    BeforeDestroy,
}

impl Transition {
    /// All of them, in the order of a life.
    pub const ALL: [Transition; 4] = [
        Transition::AfterCreate,
        Transition::AfterStart,
        Transition::BeforeShutdown,
        Transition::BeforeDestroy,
    ];

    /// In words: `after-create` and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Transition::AfterCreate => "after-create",
            Transition::AfterStart => "after-start",
            Transition::BeforeShutdown => "before-shutdown",
            Transition::BeforeDestroy => "before-destroy",
        }
    }
}

/// What somebody wants to be told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Subscription {
    /// Of which brane, by name; `None` for all.
    #[n(0)]
    pub brane: Option<String>,
    /// Of which family; `None` for all.
    #[n(1)]
    pub family: Option<Family>,
    /// Which transitions.
    #[n(2)]
    pub transitions: Vec<Transition>,
}

impl Subscription {
    /// All transitions of all families of all branes.
    pub fn all() -> Subscription {
        Subscription {
            brane: None,
            family: None,
            transitions: Vec::from(Transition::ALL),
        }
    }
}

/// A transition.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Told {
    /// Which.
    #[n(0)]
    pub transition: Transition,
    /// The brane's name.
    #[n(1)]
    pub brane: String,
    /// Its number.
    #[n(2)]
    pub id: u32,
    /// Its generation: how often it was restarted.
    #[n(3)]
    pub generation: u32,
    /// Which of its families.
    #[n(4)]
    pub family: Family,
    /// It was missed, or is the inverse for one that leaves: the brane does not wait.
    #[n(5)]
    pub replay: bool,
}
