//! The families of a brane, their protocols, and the life cycle of both.
//!
//! A brane has an array of families (`inet`, `inet6`), each with an array of protocols, and one protocol switch of its own
//! ([`Protosw`]). Each protocol adds itself to the switch when it is created. A packet reaches a protocol through the switch or not
//! at all. The manager (trusted) decides which families and protocols there are. Nothing is shared between branes.
//!
//! To add a protocol, write a file with a [`crate::protosw::Protocol`] and add a line to the array of its family.
//!
//! Types enforce the order of the life cycle. Creation may fail, and leaves nothing behind then. What is created can be started
//! without failure. What is started is shut down before it is destroyed, and destruction cannot fail.
//!
//! ```
//! use brane_abi::control::all_families;
//! use net_server_core::family::Families;
//! use net_server_core::stack::Stack;
//! let mut stack = Stack::new([1; 32], 0);
//! let created = Families::create(&all_families(), &mut stack).unwrap();
//! let started = created.start(&mut stack);
//! let draining = started.shutdown(&mut stack);
//! draining.drained(&mut stack).destroy(&mut stack);
//! assert_eq!((stack.switch, stack.account), Default::default());
//! ```
//!
//! What is not started cannot be shut down:
//!
//! ```compile_fail,E0599
//! # use brane_abi::control::all_families;
//! # use net_server_core::{family::Families, stack::Stack};
//! # let mut stack = Stack::new([1; 32], 0);
//! let created = Families::create(&all_families(), &mut stack).unwrap();
//! created.shutdown(&mut stack);
//! ```
//!
//! nor can what is started be destroyed before it was shut down:
//!
//! ```compile_fail,E0599
//! # use brane_abi::control::all_families;
//! # use net_server_core::{family::Families, stack::Stack};
//! # let mut stack = Stack::new([1; 32], 0);
//! let created = Families::create(&all_families(), &mut stack).unwrap();
//! created.start(&mut stack).destroy(&mut stack);
//! ```
//!
//! nor started twice:
//!
//! ```compile_fail,E0382
//! # use brane_abi::control::all_families;
//! # use net_server_core::{family::Families, stack::Stack};
//! # let mut stack = Stack::new([1; 32], 0);
//! let created = Families::create(&all_families(), &mut stack).unwrap();
//! created.start(&mut stack);
//! created.start(&mut stack);
//! ```

mod account;
pub mod inet;
pub mod inet6;

pub use crate::protosw::{Counts, Entry, Protosw, Stage};
pub use account::{Account, Charge, DEFAULT_LIMIT, Purchase, Shortage, hash_bytes};

use alloc::vec::Vec;
use brane_abi::control::{Family, FamilyConfig, Protocol};
use core::fmt;
use core::marker::PhantomData;

/// What is created as one: a family itself, or one of its protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(pub Family, pub Option<Protocol>);

impl fmt::Display for Part {
    /// Writes its name, such as `inet` or `inet tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())?;
        match self.1 {
            Some(protocol) => write!(f, " {}", protocol.name()),
            None => Ok(()),
        }
    }
}

/// Why a part was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The family cannot have the protocol.
    Foreign,
    /// The configuration names the part twice.
    Twice,
    /// There is no memory for its tables.
    Shortage(Shortage),
}

/// A part that was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The part.
    pub part: Part,
    /// Why.
    pub why: Why,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match self.why {
            Why::Foreign => write!(f, "{part}: no protocol of this family"),
            Why::Twice => write!(f, "{part}: there twice"),
            Why::Shortage(shortage) => write!(f, "{part}: {shortage}"),
        }
    }
}

/// The owner of the state of families and protocols: a brane's stack.
pub trait Owner {
    /// Creates a part and adds it to the protocol switch. Leaves nothing behind if that fails.
    fn create(&mut self, part: Part) -> Result<(), Shortage>;
    /// Brings a part to a stage.
    fn mark(&mut self, part: Part, stage: Stage);
    /// Removes a part from the protocol switch and destroys it.
    fn destroy(&mut self, part: Part);
}

/// Returns the protocols of a family.
pub const fn array(family: Family) -> &'static [Entry] {
    match family {
        Family::Inet => inet::PROTOCOLS,
        Family::Inet6 => inet6::PROTOCOLS,
    }
}

/// Stage: everything is there, nothing is served.
#[derive(Debug)]
pub enum Created {}
/// Stage: serves.
#[derive(Debug)]
pub enum Started {}
/// Stage: accepts nothing new and ends what there is.
#[derive(Debug)]
pub enum Draining {}

/// The families of a brane in one stage of their life cycle.
#[derive(Debug)]
#[must_use = "families exist until they are destroyed"]
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

    fn mark(&self, owner: &mut impl Owner, stage: Stage) {
        self.parts.iter().for_each(|part| owner.mark(*part, stage));
    }
}

impl Families<Created> {
    /// Creates families and their protocols in the order of `config`. If one fails, those before it are destroyed in reverse order,
    /// and the reason is returned.
    pub fn create(config: &[FamilyConfig], owner: &mut impl Owner) -> Result<Families<Created>, Refused> {
        let mut families = Families {
            parts: Vec::new(),
            stage: PhantomData,
        };
        let parts = config.iter().flat_map(|f| {
            let protocols = f.protocols.iter().map(|p| Part(f.family, Some(*p)));
            core::iter::once(Part(f.family, None)).chain(protocols)
        });
        for part in parts {
            if let Err(why) = families.create_part(part, owner) {
                families.destroy(owner);
                return Err(Refused { part, why });
            }
        }
        Ok(families)
    }

    fn create_part(&mut self, part: Part, owner: &mut impl Owner) -> Result<(), Why> {
        let Part(family, protocol) = part;
        if protocol.is_some_and(|protocol| !family.protocols().contains(&protocol)) {
            return Err(Why::Foreign);
        }
        if self.parts.contains(&part) {
            return Err(Why::Twice);
        }
        let wanted = size_of::<Part>();
        let reserved = self.parts.try_reserve(1);
        reserved.map_err(|_| Why::Shortage(Shortage::Heap { wanted }))?;
        owner.create(part).map_err(Why::Shortage)?;
        self.parts.push(part);
        Ok(())
    }

    /// Serves from now on.
    pub fn start(self, owner: &mut impl Owner) -> Families<Started> {
        self.mark(owner, Stage::Started);
        self.into_stage()
    }

    /// Destroys them, the last created first.
    pub fn destroy(mut self, owner: &mut impl Owner) {
        while let Some(part) = self.parts.pop() {
            owner.destroy(part);
        }
    }
}

impl Families<Started> {
    /// Accepts nothing new from now on. What there is goes on until [`Families::drained`].
    pub fn shutdown(self, owner: &mut impl Owner) -> Families<Draining> {
        self.mark(owner, Stage::Draining);
        self.into_stage()
    }
}

impl Families<Draining> {
    /// Nothing is left to end, or the time for it is over: they are as they were created.
    pub fn drained(self, owner: &mut impl Owner) -> Families<Created> {
        self.mark(owner, Stage::Created);
        self.into_stage()
    }
}

/// The families of a brane in any stage.
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

/// Returns the family of an address.
pub const fn family_of(address: smoltcp::wire::IpAddress) -> Family {
    match address {
        smoltcp::wire::IpAddress::Ipv4(_) => Family::Inet,
        smoltcp::wire::IpAddress::Ipv6(_) => Family::Inet6,
    }
}

/// Returns the protocol of a family that carries control messages.
pub const fn control_of(family: Family) -> Protocol {
    match family {
        Family::Inet => Protocol::Icmp,
        Family::Inet6 => Protocol::Icmp6,
    }
}
