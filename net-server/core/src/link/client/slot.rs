//! One slot of a client: which socket it holds, and the copying between that socket and the client's rings.
//!
//! The rings lie in memory that the client writes; their indices and records are allegations, checked by `brane_abi`. A
//! lie comes back as [`RingError::Peer`] and ends the client's link.

use crate::stack::Stack;
use crate::transport::tcp::connection::{Connection, HANDSHAKE, State};
use crate::transport::udp::groups::GroupOptions;
use crate::transport::udp::{Datagram, UdpSocket};
use brane_abi::ring::{Consumer, Producer, RingError};
use brane_abi::socket::DatagramHeader;
use brane_abi::stream::{StreamConsumer, StreamProducer};
use smoltcp::wire::IpEndpoint;
use zerocopy::IntoBytes;

/// Datagrams taken from one socket before another's turn.
const DATAGRAM_BUDGET: usize = 64;

/// What a slot is.
pub enum Use {
    /// Nothing.
    Free,
    /// A listener of the stack.
    Listener(usize),
    /// Waits for a connection of that listener.
    Waiting {
        /// The stack's listener.
        listener: usize,
        /// The rings for the connection.
        stream: Stream,
    },
    /// A TCP connection.
    Stream(Stream),
    /// A UDP socket.
    Udp(Datagrams),
    /// A listener or UDP socket whose address is gone; the client has not closed it yet.
    Over,
}

/// A slot.
pub struct Slot {
    /// What it is.
    pub what: Use,
    /// Which use of it, as the client numbers them.
    pub generation: u32,
}

/// What has become of the connection in a slot; for the client's ears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The connection that the client opened is established.
    Connected,
    /// It is refused, or nobody answered: one of [`brane_abi::socket::error`].
    Failed(u32),
    /// The other end has closed its direction, and all it sent is in the ring.
    PeerClosed,
    /// Reset or timed out.
    Reset,
    /// The client closed it, and all is handed over.
    Released,
}

/// How far the client has closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Closing {
    /// Not at all.
    Open,
    /// It will send no more.
    Shutdown,
    /// It wants no more of it.
    Close,
}

/// A connection and its rings.
pub struct Stream {
    /// The stack's connection; `None` before there is one, and when it is over.
    pub conn: Option<usize>,
    rx: StreamProducer,
    tx: StreamConsumer,
    tx_capacity: usize,
    /// Bytes taken from the transmit ring since the client was last told of room.
    untold: usize,
    /// What the client asked for.
    pub closing: Closing,
    /// FIN was handed to the stack.
    finished: bool,
    /// The client knows that the connection is established.
    pub told_connected: bool,
    told_eof: bool,
}

impl Stream {
    /// Over fresh rings; the transmit ring holds `tx_capacity` bytes.
    pub fn new(rx: StreamProducer, tx: StreamConsumer, tx_capacity: usize) -> Stream {
        Stream {
            conn: None,
            rx,
            tx,
            tx_capacity,
            untold: 0,
            closing: Closing::Open,
            finished: false,
            told_connected: false,
            told_eof: false,
        }
    }

    /// The connection is gone. Returns true if the client must hear of a reset.
    pub fn lose(&mut self) -> bool {
        self.conn = None;
        self.told_connected && self.closing != Closing::Close && !(self.told_eof && self.finished)
    }

    /// Copies what can be copied, both ways, and says what has changed: whether the client's doorbell must ring, and news.
    pub fn pump(&mut self, now: u64, stack: &mut Stack) -> Result<(bool, Option<News>), RingError> {
        let Some(id) = self.conn else {
            let over = (self.closing == Closing::Close).then_some(News::Released);
            return Ok((false, over));
        };
        let Some(conn) = stack.tcp.conns.get_mut(id) else {
            self.conn = None;
            let news = if self.told_eof && self.finished {
                return Ok((false, None));
            } else if self.told_connected {
                News::Reset
            } else {
                News::Failed(brane_abi::socket::error::UNREACHABLE)
            };
            return Ok((false, Some(news)));
        };
        let (since, failure) = (conn.since, conn.failure);
        let socket = &mut conn.socket;
        let mut ring = false;
        while socket.can_receive() {
            if self.closing == Closing::Close {
                let _ = socket.receive(|bytes| (bytes.len(), ()));
                continue;
            }
            let moved = self.rx.write_with(|room| {
                let n = socket.receive(|bytes| copy(bytes, room)).unwrap_or(0);
                (n, n)
            })?;
            if moved == 0 {
                break;
            }
            ring = true;
        }
        let mut left = self.tx.available()?;
        while left != 0 && socket.can_send() {
            let moved = self.tx.read_with(|bytes| {
                let n = socket.send(|room| copy(bytes, room)).unwrap_or(0);
                (n, n)
            })?;
            if moved == 0 {
                break;
            }
            self.untold += moved;
            left = self.tx.available()?;
        }
        // The client waits for room only when the ring looked full to it, and it may know of no more room than it was told of.
        if self.untold + left >= self.tx_capacity && self.untold != 0 {
            self.untold = 0;
            ring = true;
        }
        let state = socket.state();
        if self.closing != Closing::Open && left == 0 && !self.finished {
            self.finished = true;
            if self.closing == Closing::Shutdown {
                socket.close();
            }
        }
        let news = if self.closing == Closing::Close && (self.finished && left == 0 || state == State::Closed)
        {
            self.conn = None;
            stack.tcp.release(now, id);
            Some(News::Released)
        } else if state == State::Closed {
            self.conn = None;
            stack.tcp.remove(id);
            if !self.told_connected {
                let patient = now.saturating_sub(since) >= HANDSHAKE.total_micros() * 1000;
                Some(News::Failed(match failure {
                    Some(failure) => failure,
                    None if patient => brane_abi::socket::error::TIMED_OUT,
                    None => brane_abi::socket::error::REFUSED,
                }))
            } else if self.told_eof && self.finished {
                None
            } else {
                stack.net.counters.tcp_resets += 1;
                Some(News::Reset)
            }
        } else if !self.told_connected && conn.established {
            self.told_connected = true;
            Some(News::Connected)
        } else if !self.told_eof && state.peer_is_done() && conn.socket.receive_queue() == 0 {
            self.told_eof = true;
            Some(News::PeerClosed)
        } else {
            None
        };
        Ok((ring, news))
    }
}

/// Copies as much as fits; how much that was, once for the queue and once for its caller.
fn copy(from: &[u8], to: &mut [u8]) -> (usize, usize) {
    let n = from.len().min(to.len());
    to[..n].copy_from_slice(&from[..n]);
    (n, n)
}

/// A UDP socket and its rings.
pub struct Datagrams {
    /// Its place in the stack.
    pub udp: UdpSocket,
    rx: Producer,
    tx: Consumer,
    tx_capacity: usize,
    /// How it sends to groups.
    pub options: GroupOptions,
    /// Bytes given back in the transmit ring since the client was last told of room.
    untold: usize,
}

impl Datagrams {
    /// Over fresh rings; the transmit ring holds `tx_capacity` bytes.
    pub fn new(udp: UdpSocket, rx: Producer, tx: Consumer, tx_capacity: usize) -> Datagrams {
        Datagrams {
            udp,
            rx,
            tx,
            tx_capacity,
            options: GroupOptions::default(),
            untold: 0,
        }
    }

    /// Copies a received datagram into the client's ring. Not visible to it before [`Self::publish`].
    pub fn deliver(&mut self, header: &DatagramHeader, payload: &[u8]) -> Result<(), RingError> {
        let header = header.as_bytes();
        let len = header.len() + payload.len();
        let room = self.rx.reserve(len)?;
        room[..header.len()].copy_from_slice(header);
        room[header.len()..].copy_from_slice(payload);
        self.rx.commit(len, [0; 3]);
        Ok(())
    }

    /// Makes what was delivered visible. `true` when the client's doorbell must ring.
    pub fn publish(&mut self) -> bool {
        self.rx.publish()
    }

    /// Sends what the client has put into its ring. Returns whether its doorbell must ring, and whether there is more.
    pub fn send(&mut self, now: u64, stack: &mut Stack) -> Result<(bool, bool), RingError> {
        const HEADER: usize = size_of::<DatagramHeader>();
        let mut more = true;
        for _ in 0..DATAGRAM_BUDGET {
            let Some(record) = self.tx.peek()? else {
                more = false;
                break;
            };
            let size = Consumer::size_of(&record);
            let mut header = DatagramHeader::default();
            let remote = if record.copy_at(0, header.as_mut_bytes()) {
                header.remote.address().ok().flatten()
            } else {
                None
            };
            match (remote, header.local.address()) {
                (Some(remote), Ok(local)) => {
                    let datagram = Datagram {
                        src_port: self.udp.port,
                        local: local.map(Into::into).or(self.udp.local),
                        remote: IpEndpoint {
                            addr: remote.into(),
                            port: header.remote.port,
                        },
                        len: record.len() - HEADER,
                        options: &self.options,
                    };
                    stack.send_udp(now, datagram, |room| {
                        record.copy_at(HEADER, room);
                    });
                }
                _ => stack.net.counters.udp_bad_request += 1,
            }
            self.tx.pop(size);
        }
        self.untold += self.tx.unreleased() as usize;
        self.tx.release();
        // As for streams; but a record needs a gap of its own length, so room is told earlier. A client that waits has at
        // least half of its ring in use (`brane_abi::socket`), so this comes true when all of that has been taken.
        let ring = self.untold >= self.tx_capacity / 4;
        if ring {
            self.untold = 0;
        }
        Ok((ring, more))
    }
}
