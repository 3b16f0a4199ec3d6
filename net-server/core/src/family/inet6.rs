//! The family `inet6` (IPv6): its protocols, and packets with extension headers.

use super::{Account, Charge, Shortage};
use crate::headers::wire::number;
use crate::neighbor::discovery::Discovery;
use crate::net::COPY;
use crate::protosw::{Entry, State};
use crate::transport::mld::Mld;
use alloc::boxed::Box;
use alloc::vec::Vec;
use brane_abi::control::Protocol;

/// Protocols of the family, in the order of their creation.
pub const PROTOCOLS: &[Entry] = &[
    Entry::built_in(number::ICMPV6, "nd", || Box::new(Discovery)).wants(Discovery::wants),
    Entry::part_of_family(number::ICMPV6, "mld", State::Mld).wants(Mld::wants),
    Entry::new(number::ICMPV6, "icmp6", Protocol::Icmp6, State::Icmp),
    Entry::new(number::UDP, "udp", Protocol::Udp, State::Udp),
    Entry::new(number::TCP, "tcp", Protocol::Tcp, State::Tcp),
];

/// What the family has beside its protocols.
#[derive(Default)]
pub struct Inet6 {
    /// A packet without its extension headers.
    pub(crate) stripped: Vec<u8>,
    charge: Option<Charge>,
}

impl Inet6 {
    pub(crate) fn create(&mut self, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        self.stripped = purchase.vec(COPY)?;
        self.charge = Some(purchase.commit());
        Ok(())
    }

    pub(crate) fn destroy(&mut self, account: &mut Account) {
        self.stripped = Vec::new();
        self.charge
            .take()
            .into_iter()
            .for_each(|charge| account.refund(charge));
    }
}
