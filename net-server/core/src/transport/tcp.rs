//! TCP (RFC 9293): connections and listeners of a brane.
//!
//! Segments come from any host. Connections are found by their addresses and ports. What the brane needs of a connection is the
//! trait [`connection::Connection`], which smoltcp implements. A connection that comes in gets a socket and buffers when its
//! handshake is complete, never before.

pub mod buffers;
pub mod connection;
mod connections;
mod errors;
mod flows;
pub mod isn;
pub mod opener;
mod passive;
mod rows;
pub mod segment;
pub mod sources;
pub mod syncache;

use crate::family::{Account, Charge, Shortage};
use crate::headers::Packet;
use crate::net::Net;
use crate::pfil::Pfil;
use crate::protosw::{Outcome, Protocol};
use crate::query::SocketRows;
use crate::table::Table;
use crate::transport::Ports;
use crate::transport::icmp::ErrorReport;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::layout::sock;
use connection::{Pool, Strangers, TcpSocket};
use core::hash::{Hash, Hasher};
use flows::Flows;
use foldhash::fast::FixedState;
use rand_chacha::rand_core::RngCore;
use segment::Segment;
use smoltcp::wire::IpAddress;
use sources::{SourceId, Sources};
use syncache::SynCache;

/// Smallest, default and largest buffer in bytes.
const BUFFER: (usize, usize, usize) = (buffers::SMALLEST, 16 << 10, buffers::LARGEST);

/// Connections that one frame, or one poll of a connection, can have reset for the sake of others.
const EVICTED: usize = 16;

/// Connections at most, in whatever state.
pub const CONNECTIONS: usize = 512;

/// Time for the last bytes of a connection that no client holds any more, in nanoseconds.
pub const LINGER: u64 = 60_000_000_000;

/// Which connection a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Index of the interface.
    pub netif: usize,
    /// Our address.
    pub local: IpAddress,
    /// The other's.
    pub remote: IpAddress,
    /// Our port.
    pub local_port: u16,
    /// The other's.
    pub remote_port: u16,
}

fn word(address: IpAddress) -> u128 {
    match address {
        IpAddress::Ipv4(a) => u128::from(a.to_bits()),
        IpAddress::Ipv6(a) => a.to_bits(),
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(word(self.remote));
        state.write_u128(word(self.local));
        state.write_u64(
            u64::from(self.local_port) | u64::from(self.remote_port) << 16 | (self.netif as u64) << 32,
        );
    }
}

/// Sizes of a connection's two buffers, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Receive.
    pub rx: usize,
    /// Transmit.
    pub tx: usize,
}

impl Sizes {
    /// What a client gets for what it asked: powers of two within bounds; 0 stands for the default.
    pub fn granted(rx: u32, tx: u32) -> Sizes {
        let size = |wanted: u32| match wanted as usize {
            0 => BUFFER.1,
            n => n.clamp(BUFFER.0, BUFFER.2).next_power_of_two(),
        };
        Sizes {
            rx: size(rx),
            tx: size(tx),
        }
    }

    /// Bytes that the receive buffer holds: one less than a power of two. smoltcp takes the window of a SYN ACK, which is not
    /// scaled, for a scaled one, and would accept segments up to twice a power of two. It would count their bytes as received
    /// without having kept them.
    pub fn receive(self) -> usize {
        self.rx - 1
    }

    /// The window scale that goes with the receive buffer, as smoltcp computes it (RFC 7323, 2.3). The brane's own SYN ACK must
    /// announce this one, because smoltcp shifts the windows that follow by it.
    pub fn scale(self) -> u8 {
        (usize::BITS - self.receive().leading_zeros()).saturating_sub(16) as u8
    }
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A listener. No client has accepted the connection yet.
    Listener(usize),
    /// A client's slot.
    Slot {
        /// Which client.
        client: usize,
        /// Which slot.
        slot: usize,
    },
    /// The brane itself, which ends the connection. No client has it any more.
    Nobody,
}

/// A connection.
pub struct Conn {
    /// Its socket.
    pub socket: TcpSocket,
    /// Its addresses.
    pub key: FlowKey,
    /// Who holds it.
    pub owner: Owner,
    /// When it must be looked at, in nanoseconds.
    pub deadline: u64,
    /// True if the connection is in the list of connections to poll.
    pub queued: bool,
    /// The handshake is complete.
    pub established: bool,
    /// Its neighbour was known when it was last looked for.
    pub resolved: bool,
    /// When to look for it again.
    pub resolve_at: u64,
    /// Since when it has been in the hands of its owner.
    pub since: u64,
    /// The sequence number behind the peer's FIN. Means nothing before that FIN has come.
    pub peer_end: u32,
    /// When its last segment came, in nanoseconds.
    pub heard: u64,
    /// Who opened it; `None` if a client of the brane did.
    pub source: Option<SourceId>,
    /// The listener that it came to, if it came in.
    pub listener: Option<usize>,
    /// Initial sequence number of a connection that a client opens.
    pub iss: Option<u32>,
    /// Why a connection was not established, if another host said so: one of [`brane_abi::socket::error`].
    pub failure: Option<u32>,
}

/// A port that takes connections.
pub struct Listener {
    /// Which client's.
    pub client: usize,
    /// In which slot.
    pub slot: usize,
    /// Its address; `None` for any.
    pub local: Option<IpAddress>,
    /// Its port.
    pub port: u16,
    /// How many connections may be pending.
    pub backlog: usize,
    /// How many slots of the client were freed for connections that wait, and have not accepted one yet.
    pub owed: usize,
    /// Buffers of each.
    pub sizes: Sizes,
    /// Connections that no client has accepted, oldest first.
    pub pending: VecDeque<usize>,
    /// Slots that wait for a connection, first come first served.
    pub waiting: VecDeque<usize>,
}

/// TCP of a brane, for both families: its connections and listeners.
pub struct Tcp {
    /// Connections.
    pub conns: Table<Conn>,
    /// Listeners.
    pub listeners: Table<Listener>,
    flows: Flows,
    listening: Ports<usize>,
    pool: Pool,
    /// Connections whose handshake is not complete.
    pub syncache: SynCache,
    /// How many of the connections that came in each source holds.
    sources: Sources,
    /// Slots of clients whose connections were reset for the sake of others, and whose clients do not know it yet.
    pub evicted: Vec<(usize, usize)>,
    /// Connections to poll. A connection that is marked as queued is here or in `blocked`, once; no other is.
    pub dirty: VecDeque<usize>,
    /// Connections that found no room to send in.
    blocked: Vec<usize>,
    /// Connections without an owner, oldest first.
    lingering: VecDeque<usize>,
    /// Answers segments that belong to no connection.
    strangers: Strangers,
    /// The head for incoming connections, while hooks are attached.
    pub(crate) pfil: Option<Pfil>,
    /// No later than the earliest deadline of any connection.
    earliest: u64,
    /// What the tables cost that both families share.
    shared: Option<Charge>,
    /// What the tables of each family cost.
    charges: [Option<Charge>; 2],
}

impl Tcp {
    /// Makes TCP without tables. `rng` must be unpredictable: sequence numbers come from it.
    pub fn new(rng: &mut impl RngCore, hash: FixedState) -> Tcp {
        Tcp {
            conns: Table::default(),
            listeners: Table::default(),
            flows: Flows::new(hash.clone()),
            listening: Ports::new(hash.clone()),
            pool: Pool::default(),
            syncache: SynCache::new(rng),
            sources: Sources::new(hash),
            evicted: Vec::new(),
            dirty: VecDeque::new(),
            blocked: Vec::new(),
            lingering: VecDeque::new(),
            strangers: Strangers::default(),
            pfil: None,
            earliest: u64::MAX,
            shared: None,
            charges: [None, None],
        }
    }

    /// Buys the tables that both families share. What any host can make longer has its full size from the start.
    fn create_shared(&mut self, account: &mut Account) -> Result<(), Shortage> {
        let mut purchase = account.purchase();
        self.conns = purchase.table(CONNECTIONS)?;
        self.listeners = purchase.table(sock::SLOTS)?;
        self.syncache.create(&mut purchase)?;
        self.sources.create(CONNECTIONS, &mut purchase)?;
        self.evicted = purchase.vec(EVICTED)?;
        self.dirty = purchase.queue(CONNECTIONS)?;
        self.blocked = purchase.vec(CONNECTIONS)?;
        self.lingering = purchase.queue(CONNECTIONS)?;
        self.pool.create()?;
        self.shared = Some(purchase.commit());
        Ok(())
    }

    /// Frees the tables that both families share, with all connections in them.
    fn destroy_shared(&mut self, account: &mut Account) {
        for (_, conn) in core::mem::take(&mut self.conns) {
            self.pool.give(conn.socket);
        }
        self.listeners = Table::default();
        self.syncache.destroy();
        self.sources.destroy();
        self.evicted = Vec::new();
        self.dirty = VecDeque::new();
        self.blocked = Vec::new();
        self.lingering = VecDeque::new();
        self.pool = Pool::default();
        self.earliest = u64::MAX;
        self.shared
            .take()
            .into_iter()
            .for_each(|charge| account.refund(charge));
    }
}

impl Protocol for Tcp {
    fn create(&mut self, family: Family, account: &mut Account) -> Result<(), Shortage> {
        if self.shared.is_none()
            && let Err(shortage) = self.create_shared(account)
        {
            self.destroy_shared(account);
            return Err(shortage);
        }
        let mut purchase = account.purchase();
        let created = self
            .flows
            .create(family, CONNECTIONS, &mut purchase)
            .and_then(|()| self.listening.create(family, sock::SLOTS, &mut purchase));
        if let Err(shortage) = created {
            drop(purchase);
            self.destroy(family, account);
            return Err(shortage);
        }
        self.charges[family as usize] = Some(purchase.commit());
        Ok(())
    }

    fn destroy(&mut self, family: Family, account: &mut Account) {
        self.flows.destroy(family);
        self.listening.destroy(family);
        let charge = self.charges[family as usize].take();
        charge.into_iter().for_each(|charge| account.refund(charge));
        if self.charges.iter().all(Option::is_none) {
            self.destroy_shared(account);
        }
    }

    fn input(&mut self, now: u64, net: &mut Net, packet: &Packet<'_>) -> Outcome {
        match Segment::read(packet) {
            Ok(segment) => {
                self.segment(now, net, packet.netif, packet.frame, &segment);
                Outcome::Done
            }
            Err(reason) => Outcome::Malformed(reason),
        }
    }

    fn error_input(&mut self, net: &mut Net, report: &ErrorReport) {
        self.note_error(net, report);
    }

    fn resolved(&mut self, net: &Net, netif: usize, hop: IpAddress) {
        self.poll_waiting(net, netif, hop);
    }

    fn deadline(&self) -> u64 {
        self.earliest.min(self.syncache.deadline())
    }

    fn poll(&mut self, now: u64, net: &mut Net) {
        self.answer_again(now, net);
        self.poll_due(now);
    }

    fn sockets(&mut self, rows: &mut SocketRows) {
        self.list(rows);
    }
}

#[cfg(test)]
#[allow(missing_docs)]
pub mod tests {
    use super::*;

    /// A socket for other modules' tests.
    pub fn socket() -> TcpSocket {
        let mut pool = Pool::default();
        pool.create().expect("memory");
        pool.take(Sizes::granted(0, 0)).expect("memory")
    }
}
