//! Follows the notifications of a subscriber, and fails if they are not a sequence of whole lifecycles.

use brane_abi::control::{Family, Protocol};
use brane_abi::subscription::{Notification, Transition};
use std::collections::BTreeMap;

/// An item of a brane: the brane's identity, family and protocol.
type Item = (u64, Family, Option<Protocol>);

/// The state of each item as notified to a subscriber to all transitions: its generation, name, and whether it is
/// started.
#[derive(Clone, Debug, Default)]
pub struct Balance(BTreeMap<Item, (u32, String, bool)>);

impl Balance {
    /// Checks and records a notification. Panics if it does not follow from the earlier ones.
    pub fn check(&mut self, notification: &Notification) {
        let item = (notification.identity, notification.family, notification.protocol);
        let known = self.0.get_mut(&item);
        match (notification.transition, known) {
            (Transition::AfterCreate, None) => {
                let same_name = self.0.iter().find(|((identity, ..), (_, name, _))| {
                    *name == notification.brane && *identity != notification.identity
                });
                assert_eq!(same_name, None, "two branes have one name: {notification:?}");
                self.0
                    .insert(item, (notification.generation, notification.brane.clone(), false));
            }
            (Transition::AfterCreate, Some(known)) => {
                panic!("created twice: {notification:?}, known: {known:?}")
            }
            (_, None) => panic!("not created: {notification:?}"),
            (Transition::Renamed, Some((_, name, _))) => {
                assert_eq!(
                    notification.former_name.as_ref(),
                    Some(&*name),
                    "{notification:?}"
                );
                name.clone_from(&notification.brane);
            }
            (transition, Some((generation, name, started))) => {
                assert_eq!(
                    (notification.generation, &notification.brane),
                    (*generation, &*name),
                    "{notification:?}"
                );
                match transition {
                    Transition::AfterStart => {
                        assert!(
                            !core::mem::replace(started, true),
                            "started twice: {notification:?}"
                        )
                    }
                    Transition::BeforeShutdown => {
                        assert!(core::mem::take(started), "not started: {notification:?}")
                    }
                    _ => {
                        assert!(
                            transition == Transition::Failed || !*started,
                            "destroyed without a shutdown: {notification:?}"
                        );
                        self.0.remove(&item);
                    }
                }
            }
        }
    }

    /// Returns true if no brane is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
