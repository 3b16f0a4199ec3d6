//! What families and protocols take to be created: memory for their tables, of which a brane has a fixed amount.

use crate::transport::tcp::{CONNECTIONS, Conn};
use alloc::format;
use alloc::string::String;
use brane_abi::control::{Family, Protocol};
use brane_abi::layout::sock;

/// What is created as one: a family itself, or one of its protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(pub Family, pub Option<Protocol>);

impl Part {
    /// As in `inet` and `inet tcp`.
    pub fn name(self) -> String {
        match self {
            Part(family, None) => family.name().into(),
            Part(family, Some(protocol)) => format!("{} {}", family.name(), protocol.name()),
        }
    }

    /// Bytes that its tables take when they are full, without the buffers of connections, which have an account of their own.
    fn bytes(self) -> usize {
        match self.1 {
            // Addresses, routes, neighbours: smoltcp's tables are part of each interface.
            None => 4096,
            Some(Protocol::Tcp) => CONNECTIONS * size_of::<Conn>(),
            Some(Protocol::Udp) => sock::SLOTS * size_of::<crate::transport::udp::UdpSocket>(),
            Some(Protocol::Icmp | Protocol::Icmp6) => 1024,
        }
    }
}

/// Where parts get what they need.
pub trait Means {
    /// Takes what a part needs. Error: why there is not enough; nothing is taken then.
    fn take(&mut self, part: Part) -> Result<(), String>;
    /// Gives it back.
    fn give(&mut self, part: Part);
}

/// The brane's account of memory for tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    limit: usize,
    used: usize,
}

impl Default for Account {
    /// As much as the heap of a brane has beside the buffers of connections.
    fn default() -> Account {
        Account::new(1 << 20)
    }
}

impl Account {
    /// With so many bytes.
    pub fn new(limit: usize) -> Account {
        Account { limit, used: 0 }
    }
}

impl Means for Account {
    fn take(&mut self, part: Part) -> Result<(), String> {
        let (bytes, left) = (part.bytes(), self.limit - self.used);
        if bytes > left {
            return Err(format!("no memory: {bytes} bytes, {left} left"));
        }
        self.used += bytes;
        Ok(())
    }

    fn give(&mut self, part: Part) {
        self.used = self.used.saturating_sub(part.bytes());
    }
}
