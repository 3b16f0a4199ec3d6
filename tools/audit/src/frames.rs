//! From single pages, as readers find them, to what each domain and device sees. A page is known by the object that it is,
//! so that one page in two address spaces is seen as such, whatever it is called.

use std::collections::{BTreeMap, BTreeSet};

use crate::authority::{Authority, Memory, Pci, View, joined};

/// Who sees a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    Domain(String),
    Device(Pci),
}

/// A page in an address space.
pub struct Page<Id> {
    pub user: User,
    /// Where.
    pub at: u64,
    /// Which.
    pub frame: Id,
    pub read: bool,
    pub write: bool,
    pub cached: bool,
}

/// What is known of a page itself.
#[derive(Clone, Default)]
pub struct Frame {
    /// The region of the description that it belongs to, and the offset there.
    pub region: Option<(String, u64)>,
    pub physical: Option<u64>,
    pub bits: u8,
}

/// Enters all pages into the domains and devices that see them. Pages outside all regions are told apart by who sees them.
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
            authority.strange.push(format!(
                "{} sees a page that is none at {:#x}",
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
