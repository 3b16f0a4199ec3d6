//! One TCP connection: what the brane needs of it, and its implementation by smoltcp.
//!
//! smoltcp visits every socket of a set for every segment, so each connection is a set by itself. Segments come from any host;
//! [`super::segment`] has checked lengths and checksum.

use super::buffers::{self, Block, Buffers};
use super::opener::{self, Handshake};
use super::{FlowKey, Sizes};
use crate::family::Shortage;
use crate::netif::NetIf;
use alloc::vec::Vec;
use rand_chacha::rand_core::RngCore;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{self, CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Duration;

/// Time for the handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(15);
/// An idle connection is probed this often (RFC 1122, 4.2.3.6, with an interval of our own) ...
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// ... and given up after this time without an answer.
const SILENCE: Duration = Duration::from_secs(180);

/// State of a connection (RFC 9293, 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl State {
    /// Returns its name, as RFC 9293 writes it.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::Listen => "LISTEN",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        }
    }

    /// Returns true if the handshake was completed, and the connection has not ended.
    pub const fn is_synchronized(self) -> bool {
        !matches!(
            self,
            State::Listen | State::SynSent | State::SynReceived | State::Closed
        )
    }

    /// Returns true if the peer's FIN has been received.
    pub const fn peer_is_done(self) -> bool {
        matches!(
            self,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        )
    }
}

impl From<tcp::State> for State {
    fn from(state: tcp::State) -> State {
        match state {
            tcp::State::Closed => State::Closed,
            tcp::State::Listen => State::Listen,
            tcp::State::SynSent => State::SynSent,
            tcp::State::SynReceived => State::SynReceived,
            tcp::State::Established => State::Established,
            tcp::State::FinWait1 => State::FinWait1,
            tcp::State::FinWait2 => State::FinWait2,
            tcp::State::CloseWait => State::CloseWait,
            tcp::State::Closing => State::Closing,
            tcp::State::LastAck => State::LastAck,
            tcp::State::TimeWait => State::TimeWait,
        }
    }
}

/// A connection: a state machine between an interface and two buffers.
pub trait Connection {
    /// Opens a closed connection with the initial sequence number `iss`. Returns false if that is impossible.
    fn open(&mut self, now: u64, key: &FlowKey, iss: u32, rng: &mut impl RngCore) -> bool;
    /// Makes of a closed connection one whose SYN has come and whose SYN-ACK has gone. Returns false if that is impossible.
    fn accept(&mut self, now: u64, key: &FlowKey, handshake: &Handshake, rng: &mut impl RngCore) -> bool;
    /// Handles a segment of the connection, in a frame that came in by an interface.
    fn segment(&mut self, now: u64, netif: &mut NetIf, frame: &[u8]);
    /// Sends what may be sent. Returns the time at which it must be called again.
    fn egress(&mut self, now: u64, netif: &mut NetIf) -> u64;
    /// Returns the state.
    fn state(&self) -> State;
    /// Applies the settings of an established connection.
    fn established(&mut self);
    /// Sends a FIN behind the data in the transmit buffer.
    fn close(&mut self);
    /// Ends the connection. The next [`Self::egress`] sends a reset if the peer must be told.
    fn abort(&mut self);
    /// Returns true if the receive buffer has data.
    fn can_receive(&self) -> bool;
    /// Hands received data to `take`, which returns how many bytes it took. Returns `None` if no more data can come.
    fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R>;
    /// Returns true if the transmit buffer has room and data may be sent.
    fn can_send(&self) -> bool;
    /// Hands room in the transmit buffer to `fill`, which returns how many bytes it wrote. Returns `None` if no data may be sent.
    fn send<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R>;
    /// Returns the bytes in the receive buffer.
    fn receive_queue(&self) -> usize;
    /// Returns the bytes in the transmit buffer.
    fn send_queue(&self) -> usize;
    /// Returns the bytes of the larger buffer.
    fn largest(&self) -> usize;
}

/// A smoltcp socket in its set, with its buffers. [`Pool::give`] takes it back.
pub struct TcpSocket {
    /// The set, for smoltcp. The socket stays in it.
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    /// Memory of the two buffers. Declared after the set: the socket that uses it is dropped first.
    blocks: [Block; 2],
}

impl TcpSocket {
    /// Returns the socket.
    pub(super) fn get(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    /// Applies the settings of a new connection.
    pub(super) fn begin(&mut self) {
        let socket = self.get();
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_nagle_enabled(false);
        // smoltcp sends a probe at once if keep-alive is set on a connection that stands. Set before the handshake, it is armed
        // by the handshake's last segment, and the first probe comes after the idle time (RFC 9293, 3.8.4).
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(HANDSHAKE));
    }
}

impl Connection for TcpSocket {
    fn open(&mut self, now: u64, key: &FlowKey, iss: u32, rng: &mut impl RngCore) -> bool {
        let socket = self.get();
        opener::with_number(now, iss, rng, |iface| {
            let (remote, local) = ((key.remote, key.remote_port), (key.local, key.local_port));
            socket.connect(iface.context(), remote, local).is_ok()
        })
    }

    fn accept(&mut self, now: u64, key: &FlowKey, handshake: &Handshake, rng: &mut impl RngCore) -> bool {
        opener::accept(now, self, key, handshake, rng)
    }

    fn segment(&mut self, now: u64, netif: &mut NetIf, frame: &[u8]) {
        netif.ingress(now, frame, Some(&mut self.set));
    }

    fn egress(&mut self, now: u64, netif: &mut NetIf) -> u64 {
        netif.egress(now, &mut self.set)
    }

    fn state(&self) -> State {
        self.socket().state().into()
    }

    fn established(&mut self) {
        self.get().set_timeout(Some(SILENCE));
    }

    fn close(&mut self) {
        self.get().close();
    }

    fn abort(&mut self) {
        self.get().abort();
    }

    fn can_receive(&self) -> bool {
        self.socket().can_recv()
    }

    fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        self.get().recv(take).ok()
    }

    fn can_send(&self) -> bool {
        self.socket().can_send()
    }

    fn send<R>(&mut self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> Option<R> {
        self.get().send(fill).ok()
    }

    fn receive_queue(&self) -> usize {
        self.socket().recv_queue()
    }

    fn send_queue(&self) -> usize {
        self.socket().send_queue()
    }

    fn largest(&self) -> usize {
        self.blocks.iter().map(Block::len).max().unwrap_or_default()
    }
}

/// Answers segments that belong to no connection: smoltcp resets them where that is allowed.
pub struct Strangers(SocketSet<'static>);

impl Default for Strangers {
    fn default() -> Strangers {
        Strangers(SocketSet::new(Vec::new()))
    }
}

impl Strangers {
    /// Handles a segment that belongs to no connection.
    pub fn segment(&mut self, now: u64, netif: &mut NetIf, frame: &[u8]) {
        netif.resolve_for_stranger(now, frame);
        netif.ingress(now, frame, Some(&mut self.0));
    }
}

/// Memory for connections: makes their sockets and takes them back.
#[derive(Default)]
pub struct Pool {
    /// `None` before TCP is created.
    buffers: Option<Buffers>,
}

impl Pool {
    /// Allocates the memory of all buffers. The region has a fixed size and is not part of the brane's account.
    pub fn create(&mut self) -> Result<(), Shortage> {
        let wanted = buffers::MEMORY;
        self.buffers = Some(Buffers::new().ok_or(Shortage::Heap { wanted })?);
        Ok(())
    }

    /// A closed socket with these buffers. Returns `None` if there is no memory for it.
    pub fn take(&mut self, sizes: Sizes) -> Option<TcpSocket> {
        let mut place = Vec::new();
        place.try_reserve_exact(1).ok()?;
        let pool = self.buffers.as_mut()?;
        let rx = pool.take(sizes.rx)?;
        let Some(tx) = pool.take(sizes.tx) else {
            pool.give(rx);
            return None;
        };
        // SAFETY: both blocks have just been taken. The socket that gets their bytes is dropped in `give` before they are
        // given back; if a `TcpSocket` is dropped without `give`, its blocks stay in use for ever.
        let bytes = |buffers: &mut Buffers, block| unsafe { buffers.bytes(block) };
        let receive = bytes(pool, &rx);
        let receive = &mut receive[..sizes.receive()];
        let socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(bytes(pool, &tx)));
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
        if let Some(buffers) = &mut self.buffers {
            blocks.into_iter().for_each(|block| buffers.give(block));
        }
    }

    /// Bytes of all buffers in use.
    pub fn bytes(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::used)
    }
}
