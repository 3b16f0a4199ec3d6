//! Turns single pages, as readers find them, into the memory of each domain and device. A page is identified
//! by its object. So a page in two address spaces counts as one page, whatever its name.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::{Authority, Memory, Pci, View, joined};

/// The domain or device that maps a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    Domain(String),
    Device(Pci),
}

/// A page in an address space.
pub struct Page<Id> {
    pub user: User,
    pub at: u64,
    pub frame: Id,
    pub read: bool,
    pub write: bool,
    pub cached: bool,
}

/// Properties of a page that do not depend on a mapping.
#[derive(Clone, Default)]
pub struct Frame {
    /// The region of the description that contains the page, and the page's offset in it.
    pub region: Option<(String, u64)>,
    pub physical: Option<u64>,
    pub bits: u8,
}

/// Adds all pages to the domains and devices that map them. Classifies pages outside all regions by the
/// domains that map them.
pub fn enter<Id: Ord + Copy>(pages: &[Page<Id>], frames: &BTreeMap<Id, Frame>, authority: &mut Authority) {
    let mut users: BTreeMap<Id, (BTreeSet<&User>, bool)> = BTreeMap::new();
    for page in pages {
        let (users, written) = users.entry(page.frame).or_default();
        users.insert(&page.user);
        *written |= page.write;
    }
    let mut views: BTreeMap<&User, Vec<View>> = BTreeMap::new();
    for page in pages {
        let Some(frame) = frames.get(&page.frame) else {
            authority.anomalies.push(format!(
                "{} maps at {:#x} something that is no page",
                page.user.name(),
                page.at
            ));
            continue;
        };
        let memory = match (&frame.region, &users[&page.frame]) {
            (Some((name, offset)), _) => Memory::Region(name.clone(), *offset),
            (None, (users, _)) if users.len() == 1 => Memory::Own,
            (None, (_, false)) => Memory::Constant,
            (None, (users, true)) => Memory::Leak(
                users
                    .iter()
                    .map(|user| user.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        };
        views.entry(&page.user).or_default().push(View {
            start: page.at,
            end: page.at.saturating_add(1 << frame.bits),
            memory,
            physical: frame.physical,
            page_bits: frame.bits,
            read: page.read,
            write: page.write,
            cached: page.cached,
        });
    }
    for (user, views) in views {
        match user {
            User::Domain(name) => authority.domains.entry(name.clone()).or_default().memory = joined(views),
            User::Device(pci) => authority.devices.entry(*pci).or_default().memory = joined(views),
        }
    }
}

impl User {
    pub fn name(&self) -> String {
        match self {
            User::Domain(name) => name.clone(),
            User::Device(pci) => format!("device {pci}"),
        }
    }
}
