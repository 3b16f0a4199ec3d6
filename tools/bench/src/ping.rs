//! ICMP echo from a raw socket (RFC 792, RFC 4443).
//!
//! Owns: the socket. On the other side: the guest. Its replies are only compared with what was sent. Raw sockets need root.

use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

static IDENT: AtomicU16 = AtomicU16::new(0x4200);
/// Bit that is set in the sequence numbers of [`Pinger::until_answer`].
const FIRST: u16 = 0x8000;

/// An echo socket with an identifier of its own.
pub struct Pinger {
    socket: Socket,
    to: SocketAddr,
    ident: u16,
    /// Number of pings of [`Pinger::until_answer`].
    next: AtomicU16,
}

impl Pinger {
    /// Opens a socket towards `to`, in the network namespace of the calling thread.
    pub fn new(to: IpAddr) -> io::Result<Pinger> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_recv_buffer_size(1 << 20)?;
        Ok(Pinger {
            socket,
            to: SocketAddr::new(to, 0),
            ident: IDENT.fetch_add(1, Ordering::Relaxed),
            next: AtomicU16::new(0),
        })
    }

    /// Sends one echo request.
    ///
    /// # Errors
    /// The socket fails, also if the neighbour's address is not known yet.
    pub fn send(&self, seq: u16) -> io::Result<()> {
        let mut packet = vec![if self.to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
        packet.extend(self.ident.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend([0x5a; 48]);
        if self.to.is_ipv4() {
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.socket.send_to(&packet, &self.to.into()).map(drop)
    }

    /// Returns the sequence number of the next reply to this socket, or `None` at the deadline.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<u16>> {
        let mut buffer = [0u8; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let len = match (&self.socket).read(&mut buffer) {
                Ok(len) => len,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            };
            let packet = match self.to {
                SocketAddr::V4(_) => buffer[..len]
                    .get(usize::from(buffer[0] & 15) * 4..)
                    .unwrap_or(&[]),
                SocketAddr::V6(_) => &buffer[..len],
            };
            let reply = if self.to.is_ipv4() { 0 } else { 129 };
            if packet.len() >= 8 && packet[0] == reply && packet[4..6] == self.ident.to_be_bytes() {
                return Ok(Some(u16::from_be_bytes([packet[6], packet[7]])));
            }
        }
    }

    /// Sends one echo request. Returns `None` if no reply came in time.
    pub fn ping(&self, seq: u16, timeout: Duration) -> io::Result<Option<Duration>> {
        let start = Instant::now();
        if self.send(seq).is_err() {
            // No neighbour yet. Counts as no reply.
            sleep(timeout.min(Duration::from_millis(5)));
            return Ok(None);
        }
        while let Some(got) = self.receive(start + timeout)? {
            if got == seq {
                return Ok(Some(start.elapsed()));
            }
        }
        Ok(None)
    }

    /// Pings every 20 ms until the first reply to any of these pings, for at most `limit`. Returns the time
    /// until then.
    pub fn until_answer(&self, limit: Duration) -> io::Result<Option<Duration>> {
        let start = Instant::now();
        let mut asked = HashSet::new();
        while start.elapsed() < limit {
            let turn = Instant::now() + Duration::from_millis(20);
            let seq = FIRST | self.next.fetch_add(1, Ordering::Relaxed);
            if self.send(seq).is_err() {
                // No neighbour yet. Counts as no reply.
                sleep(Duration::from_millis(5));
                continue;
            }
            asked.insert(seq);
            // A reply may be late, but a reply to an earlier call does not count.
            while let Some(seq) = self.receive(turn)? {
                if asked.contains(&seq) {
                    return Ok(Some(start.elapsed()));
                }
            }
        }
        Ok(None)
    }
}

/// Returns the Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(c[0]) << 8 | u32::from(*c.get(1).unwrap_or(&0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}
