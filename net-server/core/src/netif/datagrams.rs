//! Datagrams through an interface: out for all UDP sockets by one of smoltcp's, in past it, and fragments out.
//!
//! Frames come from any host, by way of the trusted driver; what is sent was checked by [`crate::stack`].

use super::{EGRESS_BUDGET, NetIf, instant, nanos};
use crate::counters::Counters;
use crate::eth::device::Device;
use crate::neighbor::queue::{self, QueuedDatagram};
use smoltcp::socket::udp;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// Longest UDP payload that is sent, in bytes: what smoltcp's buffer for fragments takes (see `Cargo.toml`).
pub const UDP_LONGEST: usize = 16384 - 28;

/// Distance in nanoseconds of the datagrams that [`NetIf::refresh`] shows to smoltcp, which forgets a silent neighbour after 60 s.
const REFRESH: u64 = 100_000_000;

impl NetIf {
    /// Whether [`Self::refresh`] wants the next datagram.
    #[inline]
    pub fn refresh_is_due(&self, now: u64) -> bool {
        now >= self.refresh_at
    }

    /// Shows smoltcp a datagram that is delivered without it, now and then, so that it knows that the sender's link-layer
    /// address still holds. It goes to a socket that has no room for it.
    pub fn refresh(&mut self, now: u64, frame: &[u8], port: u16) {
        if !self.refresh_is_due(now) {
            return;
        }
        self.refresh_at = now + REFRESH;
        let socket = self.udp.get_mut::<udp::Socket>(self.udp_handle);
        if socket.endpoint().port != port {
            socket.close();
            let _ = socket.bind(port);
        }
        if let Some(iface) = self.iface.as_deref_mut() {
            iface.poll_ingress_single(
                instant(now),
                &mut Device::mute(frame, &mut self.tx),
                &mut self.udp,
            );
        }
    }

    /// Sends the rest of a packet that leaves in fragments.
    fn drain_fragments(&mut self, now: u64) -> u64 {
        let Some(iface) = self.iface.as_deref_mut() else {
            return u64::MAX;
        };
        let at = instant(now);
        for _ in 0..EGRESS_BUDGET {
            match iface.poll_at(at, &self.control) {
                Some(when) if when <= at && !self.tx.blocked => {
                    iface.poll_egress(at, &mut Device::idle(&mut self.tx), &mut self.control);
                }
                when => return when.map_or(u64::MAX, nanos),
            }
        }
        now
    }

    /// Sends a datagram of `len` bytes that `fill` writes. `false` when the neighbour's address is not known yet; nothing
    /// of it is left behind then.
    pub fn send_udp(
        &mut self,
        now: u64,
        (src_port, local): (u16, Option<IpAddress>),
        remote: IpEndpoint,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        if !self.resolve(now, remote.addr) {
            return false;
        }
        let Some(iface) = self.iface.as_deref_mut() else {
            return true;
        };
        let socket = self.udp.get_mut::<udp::Socket>(self.udp_handle);
        if socket.endpoint().port != src_port {
            socket.close();
            let _ = socket.bind(src_port);
        }
        let mut meta = udp::UdpMetadata::from(remote);
        meta.local_address = local;
        // Not `send_with`, which finds no room for a second long datagram, as it does not begin the empty buffer anew.
        let Ok(room) = socket.send(len, meta) else {
            socket.close();
            return true;
        };
        fill(room);
        let at = instant(now);
        iface.poll_egress(at, &mut Device::idle(&mut self.tx), &mut self.udp);
        // It has room for one, so it is full while that one is there.
        if !self.udp.get::<udp::Socket>(self.udp_handle).can_send() && !self.tx.blocked {
            self.show_again(now, remote.addr);
        }
        if !self.udp.get::<udp::Socket>(self.udp_handle).can_send() {
            // smoltcp keeps it and waits; we keep it elsewhere, so that others need not wait behind it.
            let smoltcp::socket::Socket::Udp(mut socket) = self.udp.remove(self.udp_handle) else {
                return true;
            };
            socket.close();
            self.udp_handle = self.udp.add(socket);
            return false;
        }
        if len + 28 > usize::from(self.info.mtu) {
            self.deadline = self.deadline.min(self.drain_fragments(now));
        }
        true
    }

    /// Lets a datagram wait. The caller has looked whether there is room.
    pub fn enqueue(&mut self, now: u64, datagram: QueuedDatagram) {
        if self.queue.is_empty() {
            self.retry_at = now + queue::RETRY;
        }
        self.deadline = self.deadline.min(self.retry_at);
        self.queue.push_back(datagram);
    }

    /// Sends what waits for this neighbour. Other datagrams are not touched.
    pub fn flush_pending(&mut self, now: u64, hop: IpAddress, counters: &mut Counters) {
        for _ in 0..self.queue.len() {
            let Some(waiting) = self.queue.pop_front() else {
                return;
            };
            if waiting.hop != hop {
                self.queue.push_back(waiting);
                continue;
            }
            counters.udp_retried += 1;
            let from = (waiting.src_port, waiting.local);
            let fill = |room: &mut [u8]| room.copy_from_slice(&waiting.payload);
            if self.send_udp(now, from, waiting.remote, waiting.payload.len(), fill) {
                counters.udp_sent += 1;
            } else {
                self.queue.push_back(waiting);
            }
        }
    }

    /// Asks again for the neighbours that datagrams wait for, and drops datagrams that have waited long enough. Does nothing
    /// before it is time for that.
    pub fn retry_pending(&mut self, now: u64, counters: &mut Counters) {
        if self.queue.is_empty() || now < self.retry_at {
            return;
        }
        self.retry_at = now + queue::RETRY;
        let mut ready = None;
        for _ in 0..self.queue.len() {
            let Some(waiting) = self.queue.pop_front() else {
                break;
            };
            if now.saturating_sub(waiting.since) >= queue::PATIENCE {
                counters.udp_unreachable += 1;
                continue;
            }
            let hop = waiting.hop;
            self.queue.push_back(waiting);
            if ready.is_none() && self.resolve(now, hop) {
                ready = Some(hop);
            }
        }
        if let Some(hop) = ready {
            self.flush_pending(now, hop, counters);
            // There may be others.
            self.retry_at = now;
        }
        self.deadline = self.deadline.min(self.retry_at.max(now + 1));
    }
}
