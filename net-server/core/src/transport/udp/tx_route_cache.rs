//! The short way out for datagrams to where one went a moment ago.
//!
//! smoltcp decides route, source and link-layer address of a datagram, and its answer is kept for a short time; datagrams that
//! follow meanwhile are written straight into the driver's ring. Clients say where their datagrams go; what they say is the
//! key here, compared in full, so one destination never gets another's answer.

use crate::eth::device::Tx;
use crate::headers::wire::number::UDP;
use crate::headers::wire::{ETHERNET, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, ethertype};
use crate::ip::checksum;
use smoltcp::wire::{IpAddress, IpEndpoint};

/// How long an answer holds, in nanoseconds. smoltcp refreshes its own from then on.
const LIFE: u64 = 500_000_000;

/// Answers kept at a time; a power of two.
const ANSWERS: usize = 32;

/// One answer.
#[derive(Clone, Copy)]
pub struct Answer {
    /// Where to.
    pub remote: IpAddress,
    /// Which source the client named.
    pub named: Option<IpAddress>,
    /// Which source it is.
    pub source: IpAddress,
    /// By which interface.
    pub netif: usize,
    /// Our link-layer address there.
    pub from: [u8; 6],
    /// Whose link-layer address the frame carries.
    pub to: [u8; 6],
    until: u64,
}

impl Answer {
    /// What smoltcp has just done with a datagram.
    pub fn new(
        remote: IpAddress,
        named: Option<IpAddress>,
        source: IpAddress,
        netif: usize,
        from: [u8; 6],
        to: [u8; 6],
    ) -> Answer {
        Answer {
            remote,
            named,
            source,
            netif,
            from,
            to,
            until: 0,
        }
    }
}

/// The answers, each at a place that follows from its destination.
pub struct TxRouteCache([Option<Answer>; ANSWERS]);

impl Default for TxRouteCache {
    fn default() -> Self {
        TxRouteCache([None; ANSWERS])
    }
}

fn place(remote: IpAddress) -> usize {
    let last = match remote {
        IpAddress::Ipv4(a) => a.octets()[3],
        IpAddress::Ipv6(a) => a.octets()[15],
    };
    usize::from(last) % ANSWERS
}

impl TxRouteCache {
    /// What is known of a destination.
    pub fn find(&self, now: u64, remote: IpAddress, named: Option<IpAddress>) -> Option<&Answer> {
        self.0[place(remote)]
            .as_ref()
            .filter(|answer| answer.remote == remote && answer.named == named && now < answer.until)
    }

    /// Keeps an answer.
    pub fn learn(&mut self, now: u64, answer: Answer) {
        self.0[place(answer.remote)] = Some(Answer {
            until: now + LIFE,
            ..answer
        });
    }

    /// Forgets everything: addresses, routes or links have changed.
    pub fn clear(&mut self) {
        *self = TxRouteCache::default();
    }
}

/// Writes a datagram of `len` bytes. The caller has made sure that it fits the interface's MTU.
pub fn send(
    tx: &mut Tx,
    answer: &Answer,
    src_port: u16,
    remote: IpEndpoint,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) {
    let udp_len = UDP_HEADER + len;
    let mut header = [0; ETHERNET + IPV6_HEADER];
    header[..6].copy_from_slice(&answer.to);
    header[6..12].copy_from_slice(&answer.from);
    let ip = match (answer.source, answer.remote) {
        (IpAddress::Ipv4(src), IpAddress::Ipv4(dst)) => {
            header[12..14].copy_from_slice(&ethertype::IPV4.to_be_bytes());
            let ip = &mut header[ETHERNET..ETHERNET + IPV4_HEADER];
            // Version and length; no identification, because it may not be fragmented (RFC 6864, 4.1).
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&((IPV4_HEADER + udp_len) as u16).to_be_bytes());
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&src.octets());
            ip[16..20].copy_from_slice(&dst.octets());
            let sum = !checksum::sum(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            IPV4_HEADER
        }
        (IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            header[12..14].copy_from_slice(&ethertype::IPV6.to_be_bytes());
            let ip = &mut header[ETHERNET..ETHERNET + IPV6_HEADER];
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
            ip[6] = UDP;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&src.octets());
            ip[24..40].copy_from_slice(&dst.octets());
            IPV6_HEADER
        }
        _ => return,
    };
    let pseudo = checksum::pseudo_header(answer.source, answer.remote, UDP, udp_len).unwrap_or(0);
    let start = ETHERNET + ip;
    tx.send_datagram(start, udp_len, pseudo, |frame| {
        frame[..start].copy_from_slice(&header[..start]);
        let udp = &mut frame[start..];
        udp[..2].copy_from_slice(&src_port.to_be_bytes());
        udp[2..4].copy_from_slice(&remote.port.to_be_bytes());
        udp[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
        udp[6..8].copy_from_slice(&[0; 2]);
        fill(&mut udp[8..]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_half_a_second_and_for_its_destination_and_source_only() {
        let (remote, source) = (IpAddress::v4(10, 0, 2, 2), IpAddress::v4(10, 0, 2, 1));
        // The same place in the table.
        let other = IpAddress::v4(10, 0, 3, 2);
        let mut tx_route_cache = TxRouteCache::default();
        tx_route_cache.learn(5, Answer::new(remote, None, source, 1, [2; 6], [4; 6]));
        for (now, holds) in [(5, true), (5 + LIFE - 1, true), (5 + LIFE, false)] {
            let found = tx_route_cache.find(now, remote, None).map(|answer| answer.to);
            assert_eq!(found, holds.then_some([4; 6]), "{now}");
        }
        assert!(tx_route_cache.find(5, other, None).is_none());
        assert!(tx_route_cache.find(5, remote, Some(source)).is_none());
        tx_route_cache.clear();
        assert!(tx_route_cache.find(5, remote, None).is_none());
    }
}
