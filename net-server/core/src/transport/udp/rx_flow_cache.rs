//! The short way in for datagrams of a flow whose last one was delivered a moment ago.
//!
//! What decides where a datagram goes stands in a few of its bytes: the Ethernet header, the addresses, the ports. Where all of
//! them are those of a datagram that the long way ([`crate::headers`], [`crate::stack`]) has delivered, so is the answer; lengths
//! and the header's checksum are looked at for each. Frames come from any host: what is kept is compared in full, so no
//! sender gets another's answer, and one that changes its ports with each datagram costs a little more and nothing else.
//!
//! The owner forgets everything when sockets, addresses, interfaces or links change; whether the protocol is served is asked
//! for each datagram.

use super::Header;
use crate::headers::wire::number::UDP;
use crate::headers::wire::{ETHERNET, IPV4_HEADER, IPV6_HEADER, UDP_HEADER};
use crate::ip::checksum;
use brane_abi::control::Family;
use brane_abi::net::SockAddr;
use brane_abi::socket::DatagramHeader;
use smoltcp::wire::IpAddress;

/// Flows kept at a time: a power of two.
const FLOWS: usize = 16;

/// Whose a datagram is, and what its receiver is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which client's.
    pub client: usize,
    /// In which slot.
    pub slot: usize,
    /// What precedes it in the client's ring.
    pub header: DatagramHeader,
}

impl Delivery {
    /// The delivery of that datagram to that socket.
    pub fn new(client: usize, slot: usize, datagram: &Header) -> Delivery {
        let abi = |address: IpAddress, port| SockAddr::new(Some(address.into()), port);
        Delivery {
            client,
            slot,
            header: DatagramHeader {
                remote: abi(datagram.src, datagram.src_port),
                local: abi(datagram.dst, datagram.dst_port),
            },
        }
    }
}

/// What the datagrams of a flow have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Both stations and the type: bytes 0 to 7 and 6 to 13 of the frame.
    link: [u64; 2],
    /// Both IP addresses, as they stand there; for IPv4 in the first word.
    addresses: [u64; 4],
    /// Both ports, as they stand there.
    ports: u32,
    /// The interface.
    netif: u32,
}

impl Flow {
    #[inline]
    fn is(&self, other: &Flow) -> bool {
        let differ = (self.link[0] ^ other.link[0])
            | (self.link[1] ^ other.link[1])
            | (self.addresses[0] ^ other.addresses[0])
            | (self.addresses[1] ^ other.addresses[1])
            | (self.addresses[2] ^ other.addresses[2])
            | (self.addresses[3] ^ other.addresses[3])
            | u64::from((self.ports ^ other.ports) | (self.netif ^ other.netif));
        differ == 0
    }

    #[inline]
    fn place(&self) -> usize {
        // Fibonacci hashing, as in the driver's table.
        let word = self.addresses[0] ^ u64::from(self.ports);
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % FLOWS
    }
}

/// A frame that holds nothing but a whole datagram behind plain headers, whose lengths fit: its family, its flow, its payload.
/// `None` for any other, which the long way then judges; addresses and the datagram's checksum are not looked at.
#[inline]
pub fn plain(netif: usize, frame: &[u8]) -> Option<(Family, Flow, &[u8])> {
    let word = |at: usize| Some(u64::from_le_bytes(*frame.get(at..)?.first_chunk()?));
    let head = frame.first_chunk::<{ ETHERNET + IPV4_HEADER + UDP_HEADER }>()?;
    let mut flow = Flow {
        link: [word(0)?, word(6)?],
        netif: netif as u32,
        ..Flow::default()
    };
    let (family, start, room) = match head[12..15] {
        [0x08, 0x00, 0x45] => {
            let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
            // Neither "more fragments" nor an offset.
            let whole = head[20] & 0x3f | head[21] == 0;
            let header = head[ETHERNET..].first_chunk::<IPV4_HEADER>()?;
            if head[23] != UDP || !whole || total > frame.len() - ETHERNET || !checksum::is_ipv4(header) {
                return None;
            }
            flow.addresses[0] = word(26)?;
            let room = total.checked_sub(IPV4_HEADER)?;
            (Family::Inet, ETHERNET + IPV4_HEADER, room)
        }
        [0x86, 0xdd, first] if first >> 4 == 6 => {
            let room = usize::from(u16::from_be_bytes([head[18], head[19]]));
            if head[20] != UDP || room > frame.len().checked_sub(ETHERNET + IPV6_HEADER)? {
                return None;
            }
            flow.addresses = [word(22)?, word(30)?, word(38)?, word(46)?];
            (Family::Inet6, ETHERNET + IPV6_HEADER, room)
        }
        _ => return None,
    };
    let udp = frame.get(start..)?.first_chunk::<UDP_HEADER>()?;
    let len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if len < UDP_HEADER || len > room {
        return None;
    }
    flow.ports = u32::from_le_bytes([udp[0], udp[1], udp[2], udp[3]]);
    Some((family, flow, frame.get(start + UDP_HEADER..start + len)?))
}

/// The flows, each at a place that follows from its addresses and ports.
#[derive(Default)]
pub struct RxFlowCache([Option<(Flow, Delivery)>; FLOWS]);

impl RxFlowCache {
    /// Where the datagrams of that flow go.
    #[inline]
    pub fn find(&self, flow: &Flow) -> Option<&Delivery> {
        match &self.0[flow.place()] {
            Some((known, delivery)) if known.is(flow) => Some(delivery),
            _ => None,
        }
    }

    /// The long way has delivered a datagram of that flow.
    pub fn learn(&mut self, flow: Flow, delivery: Delivery) {
        self.0[flow.place()] = Some((flow, delivery));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = RxFlowCache::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{Kind, ethernet};

    use proptest::prelude::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::*;
    use std::vec::Vec;

    const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

    /// The datagram in a frame, if the long way takes it.
    fn long_way(frame: &[u8]) -> Option<Header> {
        match ethernet(frame, MAC, true) {
            Ok(Kind::Packet(packet)) if packet.number == UDP => Header::read(&packet).ok(),
            _ => None,
        }
    }

    fn datagram(v6: bool, payload: &[u8]) -> Vec<u8> {
        let (src, dst): (IpAddress, IpAddress) = match v6 {
            true => ("fec0::2".parse().unwrap(), "fec0::f".parse().unwrap()),
            false => ("10.0.2.2".parse().unwrap(), "10.0.2.15".parse().unwrap()),
        };
        let udp = UdpRepr {
            src_port: 1234,
            dst_port: 7,
        };
        let ip = IpRepr::new(src, dst, IpProtocol::Udp, 8 + payload.len(), 64);
        let mut frame = vec![0; ETHERNET + ip.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_dst_addr(EthernetAddress(MAC));
        ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 9]));
        ethernet.set_ethertype(if v6 {
            EthernetProtocol::Ipv6
        } else {
            EthernetProtocol::Ipv4
        });
        let caps = ChecksumCapabilities::default();
        ip.emit(ethernet.payload_mut(), &caps);
        let room = &mut ethernet.payload_mut()[ip.header_len()..];
        let mut packet = UdpPacket::new_unchecked(room);
        udp.emit(
            &mut packet,
            &src,
            &dst,
            payload.len(),
            |room| room.copy_from_slice(payload),
            &caps,
        );
        frame
    }

    #[test]
    fn plain_datagrams_of_both_families_are_known() {
        for v6 in [false, true] {
            let frame = datagram(v6, b"hello");
            let (family, flow, payload) = plain(3, &frame).expect("a plain datagram");
            assert_eq!((family == Family::Inet6, payload), (v6, &b"hello"[..]));
            let mut rx_flow_cache = RxFlowCache::default();
            assert_eq!(rx_flow_cache.find(&flow), None);
            let Some(udp) = long_way(&frame) else {
                panic!("not a datagram");
            };
            let delivery = Delivery::new(1, 2, &udp);
            rx_flow_cache.learn(flow, delivery);
            assert_eq!(rx_flow_cache.find(&flow), Some(&delivery));
            // Any byte of what decides makes it another flow.
            let (ip, udp) = if v6 { (22, 54) } else { (26, 34) };
            for at in (0..12).chain(ip..udp + 4) {
                let mut other = frame.clone();
                other[at] ^= 1;
                if !v6 {
                    mend(&mut other);
                }
                let (_, flow, _) = plain(3, &other).expect("still plain");
                assert_eq!(rx_flow_cache.find(&flow), None, "byte {at}");
            }
            assert_eq!(rx_flow_cache.find(&plain(4, &frame).unwrap().1), None);
            rx_flow_cache.clear();
            assert_eq!(rx_flow_cache.find(&flow), None);
        }
    }

    /// Senders choose their addresses and ports, so they can make two differences alike.
    #[test]
    fn words_of_a_flow_that_differ_alike_do_not_make_up_for_each_other() {
        let (_, known, _) = plain(3, &datagram(true, b"hello")).expect("a plain datagram");
        let changed = |mut flow: Flow, word: usize| {
            match word {
                0 | 1 => flow.link[word] ^= 1,
                2..6 => flow.addresses[word - 2] ^= 1,
                6 => flow.ports ^= 1,
                _ => flow.netif ^= 1,
            }
            flow
        };
        for first in 0..8 {
            for second in 0..first {
                let other = changed(changed(known, first), second);
                assert!(!known.is(&other), "words {first} and {second}");
            }
        }
    }

    fn mend(frame: &mut [u8]) {
        Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]).fill_checksum();
    }

    proptest! {
        /// Lengths and padding: the short way takes a datagram if and only if the long way does, and the same bytes of it.
        #[test]
        fn lengths_and_padding_decide_alike_on_both_ways(
            v6 in any::<bool>(), payload in prop::collection::vec(any::<u8>(), 0..40), padding in 0usize..40,
            ip in -30i32..50, udp in -30i32..50, honest_ip in any::<bool>(), honest_udp in any::<bool>(),
        ) {
            let mut frame = datagram(v6, &payload);
            frame.resize(frame.len() + padding, 0x55);
            // Where the length of the IP packet stands, and that of the datagram.
            let (ip_at, udp_at) = if v6 { (18, 58) } else { (16, 38) };
            for (at, change, honest) in [(ip_at, ip, honest_ip), (udp_at, udp, honest_udp)] {
                let now = i32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
                let lie = (now + if honest { 0 } else { change }).max(0) as u16;
                frame[at..at + 2].copy_from_slice(&lie.to_be_bytes());
            }
            if !v6 {
                mend(&mut frame);
            }
            let short = plain(0, &frame).map(|(_, _, payload)| payload);
            let long = long_way(&frame).map(|udp| &frame[udp.payload..udp.payload + udp.len]);
            prop_assert_eq!(short, long);
        }

        /// What the short way takes, the long way takes too, with the same payload; and where both look at frames that differ
        /// in no byte of the flow, the same addresses and ports.
        #[test]
        fn takes_nothing_that_the_long_way_does_not(
            v6 in any::<bool>(), payload in prop::collection::vec(any::<u8>(), 0..40), padding in 0usize..20,
            changes in prop::collection::vec((12usize..64, any::<u8>()), 0..4), cut in 0usize..80, whole in any::<bool>(),
            mended in any::<bool>(),
        ) {
            let original = datagram(v6, &payload);
            let mut frame = original.clone();
            frame.resize(frame.len() + padding, 0);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if mended && !v6 && frame[14] == 0x45 {
                mend(&mut frame);
            }
            if !whole {
                frame.truncate(cut);
            }
            let (_, known, _) = plain(0, &original).unwrap();
            if let Some((family, flow, payload)) = plain(0, &frame) && known.is(&flow) {
                let Some(udp) = long_way(&frame) else {
                    return Err(TestCaseError::fail("the long way does not take it"));
                };
                prop_assert_eq!(family == Family::Inet6, v6);
                prop_assert_eq!(payload, &frame[udp.payload..udp.payload + udp.len]);
                let first = long_way(&original).unwrap();
                prop_assert_eq!(Delivery::new(0, 0, &udp), Delivery::new(0, 0, &first));
            }
        }
    }
}
