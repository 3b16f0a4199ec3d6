//! ARP and neighbour discovery messages that smoltcp does not send by itself: announcements of our own addresses (RFC 5227 3,
//! RFC 4861 7.2.6), so that neighbours learn where we are after a (re)start, questions for one neighbour's address, and answers to
//! such questions of others.

use crate::eth::device::Tx;
use core::net::{Ipv4Addr, Ipv6Addr};
use smoltcp::phy::{ChecksumCapabilities, PacketMeta};
use smoltcp::wire::IpAddress;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet,
    Icmpv6Repr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Tells all neighbours that `address` is at `mac`.
pub fn announce(tx: &mut Tx, mac: [u8; 6], address: IpAddress) {
    match address {
        IpAddress::Ipv4(address) => arp(tx, mac, address, address),
        IpAddress::Ipv6(address) => {
            let advert = NdiscRepr::NeighborAdvert {
                flags: NdiscNeighborFlags::OVERRIDE,
                target_addr: address,
                lladdr: Some(EthernetAddress(mac).into()),
            };
            ndp(
                tx,
                mac,
                address,
                ALL_NODES,
                group_station(ALL_NODES),
                &Icmpv6Repr::Ndisc(advert),
            );
        }
    }
}

/// Answers the ARP request of the station `to`, whose address is `requester`, for our `address`.
pub fn answer(tx: &mut Tx, mac: [u8; 6], address: Ipv4Addr, to: [u8; 6], requester: Ipv4Addr) {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress(to),
        target_protocol_addr: requester,
    };
    arp_frame(tx, mac, to, &repr);
}

/// Answers a neighbour solicitation for our `address` (RFC 4861, 7.2.4): to who asked and its station, or to all where that one has
/// no address yet.
pub fn advertise(tx: &mut Tx, mac: [u8; 6], address: Ipv6Addr, requester: Option<(Ipv6Addr, [u8; 6])>) {
    let solicited = match requester {
        Some(_) => NdiscNeighborFlags::SOLICITED,
        None => NdiscNeighborFlags::empty(),
    };
    let advert = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE | solicited,
        target_addr: address,
        lladdr: Some(EthernetAddress(mac).into()),
    };
    let (dst, station) = requester.unwrap_or((ALL_NODES, group_station(ALL_NODES)));
    ndp(tx, mac, address, dst, station, &Icmpv6Repr::Ndisc(advert));
}

/// Asks who has `target`, as `source`. Mixed families ask nobody.
pub fn solicit(tx: &mut Tx, mac: [u8; 6], source: IpAddress, target: IpAddress) {
    match (source, target) {
        (IpAddress::Ipv4(source), IpAddress::Ipv4(target)) => arp(tx, mac, source, target),
        (IpAddress::Ipv6(source), IpAddress::Ipv6(target)) => {
            let question = NdiscRepr::NeighborSolicit {
                target_addr: target,
                lladdr: Some(EthernetAddress(mac).into()),
            };
            let [.., a, b, c] = target.octets();
            let low = u16::from_be_bytes([b, c]);
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low);
            ndp(
                tx,
                mac,
                source,
                group,
                group_station(group),
                &Icmpv6Repr::Ndisc(question),
            );
        }
        _ => {}
    }
}

fn arp(tx: &mut Tx, mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    arp_frame(tx, mac, EthernetAddress::BROADCAST.0, &repr);
}

fn arp_frame(tx: &mut Tx, mac: [u8; 6], to: [u8; 6], repr: &ArpRepr) {
    let len = EthernetFrame::<&[u8]>::buffer_len(repr.buffer_len());
    tx.send(len, PacketMeta::default(), |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_dst_addr(EthernetAddress(to));
        frame.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    });
}

/// The station of a group (RFC 2464, 7).
fn group_station(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn ndp(
    tx: &mut Tx,
    mac: [u8; 6],
    source: Ipv6Addr,
    dst: Ipv6Addr,
    station: [u8; 6],
    message: &Icmpv6Repr<'_>,
) {
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let len = EthernetFrame::<&[u8]>::buffer_len(header.buffer_len() + message.buffer_len());
    tx.send(len, PacketMeta::default(), |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_dst_addr(EthernetAddress(station));
        frame.set_ethertype(EthernetProtocol::Ipv6);
        let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
        header.emit(&mut packet);
        let mut payload = Icmpv6Packet::new_unchecked(packet.payload_mut());
        message.emit(&source, &dst, &mut payload, &ChecksumCapabilities::default());
    });
}
