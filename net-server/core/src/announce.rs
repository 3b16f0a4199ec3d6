//! ARP and neighbour discovery messages that smoltcp does not send by itself: announcements of our own addresses (RFC 5227 3,
//! RFC 4861 7.2.6), so that neighbours learn where we are after a (re)start, and questions for one neighbour's address.

use crate::device::Tx;
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
            ndp(tx, mac, address, ALL_NODES, &Icmpv6Repr::Ndisc(advert));
        }
    }
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
            ndp(tx, mac, source, group, &Icmpv6Repr::Ndisc(question));
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
    let len = EthernetFrame::<&[u8]>::buffer_len(repr.buffer_len());
    tx.send(len, PacketMeta::default(), |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_dst_addr(EthernetAddress::BROADCAST);
        frame.set_ethertype(EthernetProtocol::Arp);
        repr.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    });
}

fn ndp(tx: &mut Tx, mac: [u8; 6], source: Ipv6Addr, dst: Ipv6Addr, message: &Icmpv6Repr<'_>) {
    let header = Ipv6Repr {
        src_addr: source,
        dst_addr: dst,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let len = EthernetFrame::<&[u8]>::buffer_len(header.buffer_len() + message.buffer_len());
    let [.., a, b, c, d] = dst.octets();
    tx.send(len, PacketMeta::default(), |buffer| {
        let mut frame = EthernetFrame::new_unchecked(buffer);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_dst_addr(EthernetAddress([0x33, 0x33, a, b, c, d]));
        frame.set_ethertype(EthernetProtocol::Ipv6);
        let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
        header.emit(&mut packet);
        let mut payload = Icmpv6Packet::new_unchecked(packet.payload_mut());
        message.emit(&source, &dst, &mut payload, &ChecksumCapabilities::default());
    });
}
