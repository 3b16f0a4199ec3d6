//! TCP connections as the brane keeps them: a smoltcp socket each, in a set of its own, and the memory for their buffers.
//!
//! smoltcp looks at every socket of a set for every segment; so each connection is a set by itself, found by its addresses
//! and ports. A socket comes to be when a handshake is complete, never before, so nothing waits in a set for nothing.

pub mod buffers;
mod connections;
pub mod isn;
pub mod opener;
mod passive;
pub mod segment;
pub mod sources;
pub mod syncache;

use crate::transport::Map;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use brane_abi::layout::sock;
use buffers::{Block, Buffers};
use core::hash::{Hash, Hasher};
use foldhash::fast::FixedState;
use rand_chacha::rand_core::RngCore;
use slab::Slab;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::IpAddress;
use sources::{SourceId, Sources};
use syncache::SynCache;

/// Smallest, default and largest buffer in bytes.
const BUFFER: (usize, usize, usize) = (buffers::SMALLEST, 16 << 10, buffers::LARGEST);

/// Connections that one frame, or one poll of a connection, can have reset for the sake of others.
const EVICTED: usize = 16;

/// Connections at most, in whatever state.
pub const CONNECTIONS: usize = 512;

/// Time for the handshake, and for the last bytes of a connection that no client holds any more.
pub const HANDSHAKE: Duration = Duration::from_secs(15);
/// See [`HANDSHAKE`]; in nanoseconds.
pub const LINGER: u64 = 60_000_000_000;
/// An idle connection is probed this often (RFC 1122, 4.2.3.6, with an interval of our own) ...
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// ... and given up after this time without an answer.
const SILENCE: Duration = Duration::from_secs(180);

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

/// A smoltcp socket in its set, with its buffers. [`Pool::give`] takes it back.
pub struct TcpSocket {
    /// The set, for smoltcp. The socket stays in it.
    pub set: SocketSet<'static>,
    handle: SocketHandle,
    /// Memory of the two buffers. Declared after the set: the socket that uses it goes first.
    blocks: [Block; 2],
}

impl TcpSocket {
    /// The socket.
    pub fn get(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.set.get::<Socket<'static>>(self.handle).state()
    }

    /// Bytes of its larger buffer.
    pub fn largest(&self) -> usize {
        self.blocks.iter().map(Block::len).max().unwrap_or_default()
    }

    /// Settings of a new connection.
    pub fn begin(&mut self) {
        let socket = self.get();
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_nagle_enabled(false);
        // smoltcp sends a probe at once if keep-alive is set on a connection that stands. Set before the handshake, it is armed
        // by the handshake's last segment, and the first probe comes after the idle time (RFC 9293, 3.8.4).
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(HANDSHAKE));
    }

    /// Settings of an established one.
    pub fn established(&mut self) {
        self.get().set_timeout(Some(SILENCE));
    }
}

/// Memory for connections: makes their sockets and takes them back.
#[derive(Default)]
pub struct Pool {
    buffers: Buffers,
}

impl Pool {
    /// A closed socket with these buffers. Returns `None` if there is no memory for it.
    pub fn take(&mut self, sizes: Sizes) -> Option<TcpSocket> {
        let mut place = Vec::new();
        place.try_reserve_exact(1).ok()?;
        let rx = self.buffers.take(sizes.rx)?;
        let Some(tx) = self.buffers.take(sizes.tx) else {
            self.buffers.give(rx);
            return None;
        };
        // SAFETY: both blocks have just been taken. The socket that gets their bytes is dropped in `give` before they are
        // given back; if a `TcpSocket` is dropped without `give`, its blocks stay in use for ever.
        let bytes = |buffers: &mut Buffers, block| unsafe { buffers.bytes(block) };
        let receive = bytes(&mut self.buffers, &rx);
        let receive = &mut receive[..sizes.receive()];
        let socket = Socket::new(
            SocketBuffer::new(receive),
            SocketBuffer::new(bytes(&mut self.buffers, &tx)),
        );
        let mut set = SocketSet::new(place);
        let handle = set.add(socket);
        Some(TcpSocket {
            set,
            handle,
            blocks: [rx, tx],
        })
    }

    /// Takes a socket back that has nothing to send any more.
    pub fn give(&mut self, socket: TcpSocket) {
        let TcpSocket { set, blocks, .. } = socket;
        drop(set);
        for block in blocks {
            self.buffers.give(block);
        }
    }

    /// Bytes of all buffers in use.
    pub fn bytes(&self) -> usize {
        self.buffers.used()
    }
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A listener: nobody has accepted it yet.
    Listener(usize),
    /// A client's slot.
    Slot {
        /// Which client.
        client: usize,
        /// Which slot.
        slot: usize,
    },
    /// Nobody: the brane finishes it by itself.
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
    /// It is in the list of those to look at.
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
    /// Connections that nobody has accepted, oldest first.
    pub pending: VecDeque<usize>,
    /// Slots that wait for a connection, first come first served.
    pub waiting: VecDeque<usize>,
}

/// TCP of a brane: its connections and listeners.
pub struct Tcp {
    /// Connections.
    pub conns: Slab<Conn>,
    /// Listeners.
    pub listeners: Slab<Listener>,
    flows: Map<FlowKey, usize>,
    listening: Map<u16, Vec<usize>>,
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
    /// An empty set of sockets, for segments that belong to no connection.
    nobody: SocketSet<'static>,
    /// No later than the earliest deadline of any connection.
    earliest: u64,
}

impl Tcp {
    /// Makes an empty TCP. `rng` must be unpredictable: sequence numbers come from it.
    pub fn new(rng: &mut impl RngCore, hash: FixedState) -> Tcp {
        Tcp {
            // What any host can make longer has its full size from the start.
            conns: Slab::with_capacity(CONNECTIONS),
            listeners: Slab::with_capacity(sock::SLOTS),
            flows: Map::with_capacity_and_hasher(2 * CONNECTIONS, hash.clone()),
            listening: Map::with_hasher(hash.clone()),
            pool: Pool::default(),
            syncache: SynCache::new(rng),
            sources: Sources::new(CONNECTIONS, hash),
            evicted: Vec::with_capacity(EVICTED),
            dirty: VecDeque::with_capacity(CONNECTIONS),
            blocked: Vec::with_capacity(CONNECTIONS),
            lingering: VecDeque::with_capacity(CONNECTIONS),
            nobody: SocketSet::new(Vec::new()),
            earliest: u64::MAX,
        }
    }
}

#[cfg(test)]
#[allow(missing_docs)]
pub mod tests {
    use super::*;

    /// A socket for other modules' tests.
    pub fn socket() -> TcpSocket {
        Pool::default().take(Sizes::granted(0, 0)).expect("memory")
    }
}
