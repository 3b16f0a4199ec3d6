//! The family `inet` (IPv4): its protocols, and the reassembly of its packets. ARP is part of it.

use super::{Account, Charge, Shortage};
use crate::headers::wire::number;
use crate::ip::fragments::Fragments;
use crate::netif::dhcp::Dhcp;
use crate::protosw::{Entry, State};
use alloc::boxed::Box;
use brane_abi::control::Protocol;

/// Protocols of the family, in the order of their creation.
pub const PROTOCOLS: &[Entry] = &[
    Entry::built_in(number::UDP, "dhcp", || Box::new(Dhcp)).wants(Dhcp::wants),
    Entry::part_of_family(number::IGMP, "igmp", State::Igmp),
    Entry::new(number::ICMP, "icmp", Protocol::Icmp, State::Icmp),
    Entry::new(number::UDP, "udp", Protocol::Udp, State::Udp),
    Entry::new(number::TCP, "tcp", Protocol::Tcp, State::Tcp),
];

/// What the family has beside its protocols.
pub struct Inet {
    /// Packets that have come in part.
    pub(crate) fragments: Fragments,
    charge: Option<Charge>,
}

impl Inet {
    /// Makes the family without tables. `seed` must be unpredictable.
    pub fn new(seed: u64) -> Inet {
        Inet {
            fragments: Fragments::new(seed),
            charge: None,
        }
    }

    pub(crate) fn create(&mut self, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        let created = self.fragments.create(&mut purchase);
        match created {
            Ok(()) => self.charge = Some(purchase.commit()),
            Err(_) => self.fragments.destroy(),
        }
        created
    }

    pub(crate) fn destroy(&mut self, account: &mut Account) {
        self.fragments.destroy();
        self.charge
            .take()
            .into_iter()
            .for_each(|charge| account.refund(charge));
    }
}
