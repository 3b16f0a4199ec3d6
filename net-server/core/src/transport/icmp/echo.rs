//! Echo requests of the brane itself (RFC 792, RFC 4443 4), for the query `ping`.
//!
//! smoltcp sends them, because it finds the neighbour. Replies come from any host, checked by [`crate::headers`], and are matched
//! by identifier, sequence number and sender.

use super::Icmp;
use crate::net::Net;
use crate::query::{Requester, until};
use alloc::vec;
use brane_abi::query::{Answer, Refusal};
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp::{Endpoint, PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress};

/// Most bytes of data.
const LONGEST: u16 = 1400;

/// One request under way.
pub struct Ping {
    pub requester: Requester,
    pub netif: usize,
    pub handle: SocketHandle,
    to: IpAddress,
    ident: u16,
    sequence: u16,
    since: u64,
    pub until: u64,
}

impl Icmp {
    /// Sends an echo request.
    pub(crate) fn ping(
        &mut self,
        now: u64,
        net: &mut Net,
        requester: Requester,
        to: IpAddress,
        sequence: u16,
        size: u16,
        timeout_ms: u32,
    ) -> Result<(), Refusal> {
        if size > LONGEST {
            return Err(Refusal::TooMuchData { size, most: LONGEST });
        }
        let netif = net.route(to).filter(|_| to.is_unicast());
        let netif = netif.ok_or(Refusal::NoRoute(to.into()))?;
        let source = net.source(netif, to);
        let source = source.ok_or(Refusal::NoRoute(to.into()))?;
        let ident = net.random() as u16;
        let data: vec::Vec<u8> = (0..size).map(|n| n as u8).collect();
        let checksums = ChecksumCapabilities::default();
        let bytes = match (source, to) {
            (IpAddress::Ipv6(source), IpAddress::Ipv6(to)) => {
                let repr = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no: sequence,
                    data: &data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                let mut packet = Icmpv6Packet::new_unchecked(&mut bytes[..]);
                repr.emit(&source, &to, &mut packet, &checksums);
                bytes
            }
            _ => {
                let repr = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no: sequence,
                    data: &data,
                };
                let mut bytes = vec![0; repr.buffer_len()];
                repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &checksums);
                bytes
            }
        };
        let none = PacketBuffer::new(vec![PacketMetadata::EMPTY; 1], vec![]);
        let out = PacketBuffer::new(vec![PacketMetadata::EMPTY; 1], vec![0; bytes.len()]);
        let mut socket = Socket::new(none, out);
        let sent = socket.bind(Endpoint::Ident(ident)).is_ok() && socket.send_slice(&bytes, to).is_ok();
        if !sent {
            return Err(Refusal::CannotSend(to.into()));
        }
        net.netifs[netif].resolve(now, to);
        let handle = net.netifs[netif].add_control(socket, now);
        self.pings.push(Ping {
            requester,
            netif,
            handle,
            to,
            ident,
            sequence,
            since: now,
            until: until(now, timeout_ms),
        });
        Ok(())
    }

    /// Ends the requests whose time is over.
    pub(crate) fn end_pings(&mut self, now: u64, net: &mut Net) {
        let Icmp { pings, done, .. } = self;
        for ping in pings.extract_if(.., |ping| ping.until <= now) {
            net.netifs[ping.netif].remove_control(ping.handle);
            done.push((ping.requester, Answer::Refused(Refusal::NoReply(ping.to.into()))));
        }
    }

    /// Handles a received ICMP packet whose IP header begins at `start`. If it is the reply to a ping, the ping is answered.
    pub fn echo_reply(&mut self, now: u64, net: &mut Net, frame: &[u8], start: usize) {
        let Some(packet) = frame.get(start..) else {
            return;
        };
        let Some((from, ttl, icmp)) = read(packet) else {
            return;
        };
        let [kind @ (0 | 129), 0, _, _, a, b, c, d, ref data @ ..] = *icmp else {
            return;
        };
        let (ident, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let mine = |ping: &Ping| {
            (ping.to, ping.ident, ping.sequence) == (from, ident, sequence)
                && (kind == 129) == matches!(from, IpAddress::Ipv6(_))
        };
        let Some(at) = self.pings.iter().position(mine) else {
            return;
        };
        let ping = self.pings.swap_remove(at);
        net.netifs[ping.netif].remove_control(ping.handle);
        let answer = Answer::Echo {
            from: from.into(),
            size: data.len() as u16,
            ttl,
            rtt_us: (now.saturating_sub(ping.since) / 1000).min(u32::MAX.into()) as u32,
        };
        self.done.push((ping.requester, answer));
    }
}

/// Returns sender, time to live and payload of an IP packet that [`crate::headers`] has passed.
fn read(packet: &[u8]) -> Option<(IpAddress, u8, &[u8])> {
    if packet.first()? >> 4 == 4 {
        let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let from: [u8; 4] = *packet.get(12..)?.first_chunk()?;
        let icmp = packet.get(usize::from(packet[0] & 15) * 4..total)?;
        Some((IpAddress::Ipv4(from.into()), *packet.get(8)?, icmp))
    } else {
        let len = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
        let from: [u8; 16] = *packet.get(8..)?.first_chunk()?;
        Some((
            IpAddress::Ipv6(from.into()),
            *packet.get(7)?,
            packet.get(40..40 + len)?,
        ))
    }
}
