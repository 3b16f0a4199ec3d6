//! The branes that one subscriber has been notified of. A transition that does not follow from this state is left out.
//! So a subscriber's notifications of a brane are balanced, whatever happens to the brane, the subscriber and the
//! subscription.

use super::selection::selects;
use crate::snapshot::BraneSnapshot;
use alloc::vec::Vec;
use brane_abi::subscription::{Subscription, Transition};

/// The known branes, by number, in the state of their last notification.
#[derive(Debug, Default)]
pub(super) struct KnownBranes(Vec<BraneSnapshot>);

impl KnownBranes {
    /// Records a transition. Returns true if the subscriber must be notified of it.
    pub(super) fn update(
        &mut self,
        subscription: &Subscription,
        brane: &BraneSnapshot,
        transition: Transition,
    ) -> bool {
        let place = self.0.binary_search_by_key(&brane.id, |known| known.id);
        match (transition, place) {
            (Transition::AfterCreate, Err(place)) if selects(subscription, &brane.name) => {
                let known = BraneSnapshot {
                    started: false,
                    ..brane.clone()
                };
                self.0.insert(place, known);
                true
            }
            (Transition::AfterCreate, _) | (_, Err(_)) => false,
            (Transition::AfterStart, Ok(k)) => !core::mem::replace(&mut self.0[k].started, true),
            (Transition::BeforeShutdown, Ok(k)) => core::mem::take(&mut self.0[k].started),
            (Transition::BeforeDestroy | Transition::Failed, Ok(k)) => {
                self.0.remove(k);
                true
            }
            (Transition::Renamed, Ok(k)) => {
                self.0[k].name.clone_from(&brane.name);
                true
            }
        }
    }

    /// Removes all branes. Returns the inverse of the subscriber's notifications, in the order in which to send it.
    pub(super) fn unwind(&mut self) -> Vec<(BraneSnapshot, Transition)> {
        let mut inverse = Vec::new();
        for brane in core::mem::take(&mut self.0).into_iter().rev() {
            if brane.started {
                inverse.push((brane.clone(), Transition::BeforeShutdown));
            }
            inverse.push((brane, Transition::BeforeDestroy));
        }
        inverse
    }
}
