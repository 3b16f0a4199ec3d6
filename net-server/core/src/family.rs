//! The families of a brane, their protocols, and the life of both.
//!
//! A brane has an array of families (`inet`, `inet6`), each with an array of protocols, and one protocol switch of its own
//! ([`Protosw`]) to which each protocol adds itself when it is created; a packet reaches a protocol through the switch or not
//! at all. The manager (trusted) says which there are. Nothing is shared between branes.
//!
//! The order of a life is in the types: creation may fail and then leaves nothing behind, what is created can be started
//! without fail, what is started is shut down before it ends, and ending cannot fail.
//!
//! ```
//! use brane_abi::control::all_families;
//! use net_server_core::family::{Account, Families, Protosw};
//! let (mut switch, mut account) = (Protosw::default(), Account::default());
//! let created = Families::create(&all_families(), &mut switch, &mut account).unwrap();
//! let started = created.start(&mut switch);
//! let draining = started.shutdown(&mut switch);
//! draining.drained(&mut switch).destroy(&mut switch, &mut account);
//! assert_eq!((switch, account), Default::default());
//! ```
//!
//! What is not started cannot be shut down:
//!
//! ```compile_fail,E0599
//! # use brane_abi::control::all_families;
//! # use net_server_core::family::{Account, Families, Protosw};
//! # let (mut switch, mut account) = (Protosw::default(), Account::default());
//! let created = Families::create(&all_families(), &mut switch, &mut account).unwrap();
//! created.shutdown(&mut switch);
//! ```
//!
//! nor can what is started be destroyed before it was shut down:
//!
//! ```compile_fail,E0599
//! # use brane_abi::control::all_families;
//! # use net_server_core::family::{Account, Families, Protosw};
//! # let (mut switch, mut account) = (Protosw::default(), Account::default());
//! let created = Families::create(&all_families(), &mut switch, &mut account).unwrap();
//! created.start(&mut switch).destroy(&mut switch, &mut account);
//! ```
//!
//! nor started twice:
//!
//! ```compile_fail,E0382
//! # use brane_abi::control::all_families;
//! # use net_server_core::family::{Account, Families, Protosw};
//! # let (mut switch, mut account) = (Protosw::default(), Account::default());
//! let created = Families::create(&all_families(), &mut switch, &mut account).unwrap();
//! created.start(&mut switch);
//! created.start(&mut switch);
//! ```

mod account;

pub use crate::protosw::{Counts, Protosw, Stage};
pub use account::{Account, Means, Part};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::{Family, FamilyConfig, Protocol};
use core::marker::PhantomData;

/// Stage: everything is there, nothing is served.
#[derive(Debug)]
pub enum Created {}
/// Stage: serves.
#[derive(Debug)]
pub enum Started {}
/// Stage: takes nothing new and ends what there is.
#[derive(Debug)]
pub enum Draining {}

/// The families of a brane in one stage of their life.
#[derive(Debug)]
#[must_use = "families live until they are destroyed"]
pub struct Families<S> {
    /// In the order of their creation, family before its protocols.
    parts: Vec<Part>,
    stage: PhantomData<S>,
}

impl<S> Families<S> {
    fn into_stage<T>(self) -> Families<T> {
        Families {
            parts: self.parts,
            stage: PhantomData,
        }
    }

    fn mark(&self, switch: &mut Protosw, stage: Stage) {
        self.parts.iter().for_each(|part| switch.mark(part, stage));
    }
}

impl Families<Created> {
    /// Creates families and their protocols in the order of `config`; each takes what it needs from `means` and adds itself to
    /// `switch`. Where one fails, those before it are destroyed in reverse order, and the reason is returned.
    pub fn create(
        config: &[FamilyConfig],
        switch: &mut Protosw,
        means: &mut impl Means,
    ) -> Result<Families<Created>, String> {
        let mut families = Families {
            parts: Vec::new(),
            stage: PhantomData,
        };
        let parts = config.iter().flat_map(|f| {
            let protocols = f.protocols.iter().map(|p| Part(f.family, Some(*p)));
            core::iter::once(Part(f.family, None)).chain(protocols)
        });
        for part in parts {
            if let Err(why) = families.create_part(part, switch, means) {
                families.destroy(switch, means);
                return Err(format!("{}: {why}", part.name()));
            }
        }
        Ok(families)
    }

    fn create_part(
        &mut self,
        part: Part,
        switch: &mut Protosw,
        means: &mut impl Means,
    ) -> Result<(), String> {
        let Part(family, protocol) = part;
        if protocol.is_some_and(|protocol| !family.protocols().contains(&protocol)) {
            return Err("no protocol of this family".into());
        }
        if self.parts.contains(&part) {
            return Err("there twice".into());
        }
        means.take(part)?;
        switch.add(&part);
        self.parts.push(part);
        Ok(())
    }

    /// Serves from now on.
    pub fn start(self, switch: &mut Protosw) -> Families<Started> {
        self.mark(switch, Stage::Started);
        self.into_stage()
    }

    /// Ends them, the last created first.
    pub fn destroy(mut self, switch: &mut Protosw, means: &mut impl Means) {
        while let Some(part) = self.parts.pop() {
            switch.remove(&part);
            means.give(part);
        }
    }
}

impl Families<Started> {
    /// Takes nothing new from now on. What there is goes on until [`Families::drained`].
    pub fn shutdown(self, switch: &mut Protosw) -> Families<Draining> {
        self.mark(switch, Stage::Draining);
        self.into_stage()
    }
}

impl Families<Draining> {
    /// Nothing is left that they have to end, or the time for it is over: they are as they were created.
    pub fn drained(self, switch: &mut Protosw) -> Families<Created> {
        self.mark(switch, Stage::Created);
        self.into_stage()
    }
}

/// The families of a brane, whatever their stage.
#[derive(Debug, Default)]
pub enum Life {
    /// There are none yet.
    #[default]
    Unborn,
    /// See [`Created`].
    Created(Families<Created>),
    /// See [`Started`].
    Started(Families<Started>),
    /// See [`Draining`].
    Draining(Families<Draining>),
}

/// Which family an address belongs to.
pub fn family_of(address: smoltcp::wire::IpAddress) -> Family {
    match address {
        smoltcp::wire::IpAddress::Ipv4(_) => Family::Inet,
        smoltcp::wire::IpAddress::Ipv6(_) => Family::Inet6,
    }
}

/// The protocol of a family that carries control messages.
pub fn control_of(family: Family) -> Protocol {
    match family {
        Family::Inet => Protocol::Icmp,
        Family::Inet6 => Protocol::Icmp6,
    }
}
