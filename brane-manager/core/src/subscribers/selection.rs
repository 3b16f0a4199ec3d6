//! The items of a brane that a subscription selects: each is a family or a protocol of a family.

use crate::snapshot::BraneSnapshot;
use alloc::vec::Vec;
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::subscription::{Subscription, Transition};

/// The subject of one notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub family: Family,
    pub protocol: Option<Protocol>,
}

/// Returns true if the subscription selects branes of this name.
pub(super) fn selects(subscription: &Subscription, name: &str) -> bool {
    subscription.brane.as_deref().is_none_or(|brane| brane == name)
}

/// Returns the selected items of the families, in the order in which this transition is notified.
pub(super) fn items(
    subscription: &Subscription,
    families: &[FamilyConfig],
    transition: Transition,
) -> Vec<Item> {
    let mut items = Vec::new();
    let created = Family::ALL
        .iter()
        .filter_map(|family| families.iter().find(|has| has.family == *family));
    for has in created.filter(|has| subscription.family.is_none_or(|family| family == has.family)) {
        let family = has.family;
        if subscription.protocols.is_empty() {
            items.push(Item {
                family,
                protocol: None,
            });
            continue;
        }
        let protocols = family.protocols().iter();
        let selected = protocols
            .filter(|protocol| has.protocols.contains(protocol) && subscription.protocols.contains(protocol));
        items.extend(selected.map(|&protocol| Item {
            family,
            protocol: Some(protocol),
        }));
    }
    if !transition.is_up() {
        items.reverse();
    }
    items
}

/// Returns true if the subscription has a notification of this transition of the brane.
pub(super) fn wants(subscription: &Subscription, brane: &BraneSnapshot, transition: Transition) -> bool {
    subscription.transitions.contains(&transition)
        && selects(subscription, &brane.name)
        && !items(subscription, &brane.families, transition).is_empty()
}
