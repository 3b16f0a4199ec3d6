//! A hostile link, spoken to a brane by a grammar: router advertisements, neighbour discovery, MLD, ARP, DHCP, IGMP, ICMP, and
//! datagrams and segments that make the brane use what it has learnt. Each message is mostly sound, so that it gets far.
//! Included by the fuzz target and by tests that want it.
#![allow(dead_code)]

use crate::common::*;
use arbitrary::{Result, Unstructured};
use brane_abi::port::FrameMeta;
use brane_socket::ListenOptions;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use net_server_core::ip::checksum;

const OWN: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const STEPS: usize = 200;

type Bytes<'a, 'b> = &'a mut Unstructured<'b>;

/// The brane, and what the link has seen of it.
pub struct Link {
    pub host: Host,
    /// The last transaction of its DHCP client.
    xid: [u8; 4],
    /// Addresses that the brane has had.
    had: Vec<IpAddr>,
}

impl Link {
    /// A brane with fixed addresses, DHCP and SLAAC, and echo servers at port 7.
    pub fn new() -> Link {
        let mut config = interface(1, &["10.0.2.1/24", "fec0::1/64"]);
        (config.dhcp4, config.slaac) = (true, true);
        let mut host = Host::new(config, 0);
        host.settle();
        echo::serve(&mut host, ListenOptions::default().backlog);
        echo::join(&mut host);
        let mut link = Link {
            host,
            xid: [0; 4],
            had: Vec::new(),
        };
        link.sent();
        link
    }

    /// Takes what the brane has sent. Its sources are its own, and each of its addresses can be a host's.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        for (_, netif) in self.host.brane.stack.net.netifs.iter().skip(1) {
            for cidr in netif.addresses() {
                let address = IpAddr::from(cidr.address());
                let one = match address {
                    IpAddr::V4(a) => !a.is_multicast() && !a.is_broadcast() && !a.is_loopback(),
                    IpAddr::V6(a) => !a.is_multicast() && !a.is_loopback() && a.to_ipv4_mapped().is_none(),
                };
                assert!(one && !address.is_unspecified(), "the brane has {address}");
                if !self.had.contains(&address) {
                    self.had.push(address);
                }
            }
        }
        let sent: Vec<Vec<u8>> = self
            .host
            .driver
            .sent(0)
            .into_iter()
            .map(|(frame, _)| frame)
            .collect();
        for frame in &sent {
            let source: Option<IpAddr> = match frame[12..14] {
                [0x08, 0x00] => Some(<[u8; 4]>::try_from(&frame[26..30]).unwrap().into()),
                [0x86, 0xdd] => Some(<[u8; 16]>::try_from(&frame[22..38]).unwrap().into()),
                _ => None,
            };
            let own = source.is_none_or(|source| source.is_unspecified() || self.had.contains(&source));
            assert!(own, "sent from {source:?}: {frame:02x?}");
            if frame[12..14] == [8, 0] && frame[23] == 17 && frame[34..38] == [0, 68, 0, 67] {
                self.xid.copy_from_slice(&frame[46..50]);
            }
        }
        sent
    }

    /// Takes steps until `bytes` are used up.
    pub fn run(&mut self, bytes: &[u8], mut each: impl FnMut(&mut Link)) {
        let mut u = Unstructured::new(bytes);
        for _ in 0..STEPS {
            if u.is_empty() || self.step(&mut u).is_err() {
                return;
            }
            each(self);
        }
    }

    /// One message, or some time.
    fn step(&mut self, u: Bytes) -> Result<()> {
        let frame = match u.int_in_range(0..=15)? {
            0..=2 => advertisement(u)?,
            3 | 4 => discovery(u)?,
            5 | 6 => mld(u)?,
            7 | 8 => self.dhcp(u)?,
            9 => arp(u)?,
            10 => igmp(u)?,
            11 | 12 => datagram(u)?,
            13 => segment(u)?,
            14 => echo(u)?,
            _ => {
                let time = *u.choose(&[
                    MS,
                    100 * MS,
                    SECOND,
                    10 * SECOND,
                    61 * SECOND,
                    1801 * SECOND,
                    86400 * SECOND,
                ])?;
                self.host.clock.0.set(self.host.now() + time);
                self.host.settle();
                return Ok(());
            }
        };
        let flags = *u.choose(&[0, 0, brane_abi::port::FLAG_DATA_VALID])?;
        let meta = FrameMeta {
            flags,
            ..FrameMeta::default()
        };
        self.host.driver.give(0, &(frame, meta));
        self.host.settle();
        // Time enough for what is due at once.
        self.host.clock.0.set(self.host.now() + MS);
        self.host.settle();
        Ok(())
    }

    fn dhcp(&self, u: Bytes) -> Result<Vec<u8>> {
        let mut message = vec![2, 1, 6, 0];
        let xid = match u.ratio(1, 16)? {
            true => u.arbitrary()?,
            false => self.xid,
        };
        message.extend(xid);
        message.extend([0; 8]);
        message.extend(address4(u)?.octets());
        message.extend([0; 8]);
        message.extend(OWN);
        message.resize(236, 0);
        message.extend([0x63, 0x82, 0x53, 0x63]);
        message.extend([53, 1, *u.choose(&[2, 5, 2, 5, 6, 1])?]);
        message.extend([54, 4, 10, 0, 2, 2]);
        let mask = *u.choose(&[
            [255, 255, 255, 0],
            [255, 255, 255, 0],
            [0; 4],
            [255; 4],
            [255, 0, 255, 0],
            [128, 0, 0, 0],
        ])?;
        message.extend([1, 4]);
        message.extend(mask);
        for _ in 0..u.int_in_range(0..=4)? {
            let time: u32 = *u.choose(&[0, 1, 60, 3600, u32::MAX])?;
            match u.int_in_range(0..=5)? {
                0 | 1 => {
                    message.extend([3, 4]);
                    message.extend(address4(u)?.octets());
                }
                2 => {
                    message.extend([6, 8]);
                    message.extend(address4(u)?.octets());
                    message.extend(address4(u)?.octets());
                }
                3 => {
                    message.extend([*u.choose(&[51, 58, 59])?, 4]);
                    message.extend(time.to_be_bytes());
                }
                4 => {
                    let len = u.int_in_range(0..=6)?;
                    message.extend(u.arbitrary::<[u8; 2]>()?);
                    message.extend(u.bytes(len)?);
                }
                _ => message.push(0),
            }
        }
        message.push(255);
        let src = match u.ratio(1, 3)? {
            true => address4(u)?,
            false => Ipv4Addr::new(10, 0, 2, 2),
        };
        let to_one = u.arbitrary()?;
        let dst = if to_one {
            Ipv4Addr::new(10, 0, 2, 1)
        } else {
            Ipv4Addr::BROADCAST
        };
        let udp = udp(src.into(), dst.into(), 67, 68, &message);
        ipv4(u, if to_one { OWN } else { [0xff; 6] }, src, dst, 17, &udp)
    }
}

/// An IPv4 address: mostly one that means something here.
fn address4(u: Bytes) -> Result<Ipv4Addr> {
    let own = Ipv4Addr::new(10, 0, 2, 1);
    Ok(match u.int_in_range(0..=15)? {
        0..=3 => Ipv4Addr::new(10, 0, 2, 9),
        4 => own,
        5 => Ipv4Addr::new(10, 0, 2, 77),
        6 => Ipv4Addr::new(10, 0, 2, 255),
        7 => Ipv4Addr::BROADCAST,
        8 => Ipv4Addr::UNSPECIFIED,
        9 => Ipv4Addr::LOCALHOST,
        10 => Ipv4Addr::new(224, 0, 0, 1),
        11 => Ipv4Addr::new(240, 0, 0, 1),
        12 => Ipv4Addr::new(192, 0, 2, 1),
        13 => Ipv4Addr::new(10, 0, 2, 0),
        14 => Ipv4Addr::new(239, 0, 0, 1),
        _ => u.arbitrary::<[u8; 4]>()?.into(),
    })
}

/// An IPv6 address: mostly one that means something here.
fn address6(u: Bytes) -> Result<Ipv6Addr> {
    let fixed = [
        "fe80::9",
        "fe80::9",
        "fe80::9",
        "fe80::ff",
        "fec0::9",
        "fec0::9",
        "fec0::1",
        "fe80::77:ff:fe00:1",
        "ff02::1",
        "ff02::2",
        "ff02::1:ff00:1",
        "ff02::1:ff00:9",
        "ff05::1",
        "ff01::1",
        "ffff::",
        "::",
        "::1",
        "::ffff:10.0.2.9",
        "2001:db8::1",
        "fec0::2:1",
        "fd12::",
        "fec0::",
        "ff02::",
        "fe80::",
        "fe80:0:0:1::",
        "fd13::77:ff:fe00:1",
    ];
    match u.int_in_range(0..=fixed.len())? {
        n if n < fixed.len() => Ok(fixed[n].parse().unwrap()),
        _ => Ok(u.arbitrary::<[u8; 16]>()?.into()),
    }
}

fn ethernet(to: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &PEER, &ethertype.to_be_bytes(), packet].concat()
}

fn ipv4(
    u: Bytes,
    to: [u8; 6],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    // Sometimes a fragment of something.
    let fragment: u16 = *u.choose(&[0, 0, 0, 0, 0, 0, 0, 0x2000, 1, 0x2001])?;
    header.extend([0, 7]);
    header.extend(fragment.to_be_bytes());
    // IGMP does not pass routers.
    header.extend([if protocol == 2 { 1 } else { 64 }, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = !checksum::sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    Ok(ethernet(to, 0x0800, &header))
}

/// An IPv6 packet, sometimes behind extension headers.
fn ipv6(
    u: Bytes,
    to: [u8; 6],
    ends: (Ipv6Addr, Ipv6Addr),
    next: u8,
    hops: u8,
    payload: &[u8],
) -> Result<Vec<u8>> {
    let (mut first, mut chain) = (next, Vec::new());
    if u.ratio(1, 4)? {
        let mut kinds = Vec::new();
        for _ in 0..u.int_in_range(1..=3)? {
            kinds.push(*u.choose(&[0, 60, 43, 60, 44])?);
        }
        for (at, kind) in kinds.iter().enumerate() {
            let behind = kinds.get(at + 1).copied().unwrap_or(next);
            match kind {
                43 => chain.extend([
                    behind,
                    0,
                    *u.choose(&[0, 2, 4])?,
                    *u.choose(&[0, 0, 1])?,
                    0,
                    0,
                    0,
                    0,
                ]),
                _ => {
                    let option = *u.choose(&[1, 1, 5, 0, 0x3e, 0x7e, 0xbe, 0xfe])?;
                    chain.extend([behind, 0, option, *u.choose(&[4, 4, 4, 2, 9])?, 0, 0, 0, 0]);
                }
            }
        }
        first = kinds[0];
    }
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(((chain.len() + payload.len()) as u16).to_be_bytes());
    header.extend([first, hops]);
    header.extend(ends.0.octets());
    header.extend(ends.1.octets());
    header.extend(chain);
    header.extend(payload);
    Ok(ethernet(to, 0x86dd, &header))
}

fn mac_for(dst: Ipv6Addr) -> [u8; 6] {
    match dst.octets() {
        [0xff, .., a, b, c, d] => [0x33, 0x33, a, b, c, d],
        _ => OWN,
    }
}

/// An ICMPv6 message with its checksum.
fn icmp6(u: Bytes, ends: (Ipv6Addr, Ipv6Addr), hops: u8, mut message: Vec<u8>) -> Result<Vec<u8>> {
    message[2..4].fill(0);
    let pseudo = checksum::pseudo_header(ends.0.into(), ends.1.into(), 58, message.len()).unwrap();
    let sum = !checksum::add(pseudo, checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(u, mac_for(ends.1), ends, 58, hops, &message)
}

/// Options of neighbour discovery.
fn options(u: Bytes, message: &mut Vec<u8>) -> Result<()> {
    for _ in 0..u.int_in_range(0..=3)? {
        match u.int_in_range(0..=7)? {
            0..=3 => {
                let prefix = address6(u)?;
                let time = |u: Bytes| u.choose(&[0u32, 1, 100, 7200, u32::MAX]).copied();
                message.extend([3, 4, *u.choose(&[64, 64, 64, 0, 56, 127, 128, 129, 255])?]);
                message.push(*u.choose(&[0xc0, 0xc0, 0x40, 0x80, 0])?);
                message.extend(time(u)?.to_be_bytes());
                message.extend(time(u)?.to_be_bytes());
                message.extend([0; 4]);
                message.extend(prefix.octets());
            }
            4 => {
                message.extend([*u.choose(&[1, 2])?, 1]);
                message.extend(*u.choose(&[PEER, OWN, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]])?);
            }
            5 => {
                message.extend([25, 3, 0, 0, 0, 0, 0, 60]);
                message.extend(address6(u)?.octets());
            }
            6 => message.extend([5, 1, 0, 0, 0, 0, 5, 0]),
            _ => {
                let units = *u.choose(&[0, 1, 1, 2, 6])?;
                message.extend([*u.choose(&[1, 2, 3, 4, 5, 14, 254])?, units]);
                message.resize(message.len() + (usize::from(units) * 8).saturating_sub(2), 0x11);
            }
        }
    }
    Ok(())
}

fn hops(u: Bytes, right: u8) -> Result<u8> {
    Ok(if u.ratio(1, 10)? { u.arbitrary()? } else { right })
}

fn advertisement(u: Bytes) -> Result<Vec<u8>> {
    let src = if u.ratio(1, 8)? {
        address6(u)?
    } else {
        "fe80::ff".parse().unwrap()
    };
    let dst = if u.ratio(1, 8)? {
        address6(u)?
    } else {
        "ff02::1".parse().unwrap()
    };
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(u.choose(&[0u16, 1, 1800, u16::MAX])?.to_be_bytes());
    message.extend([0; 8]);
    options(u, &mut message)?;
    let hops = hops(u, 255)?;
    icmp6(u, (src, dst), hops, message)
}

fn discovery(u: Bytes) -> Result<Vec<u8>> {
    let ends = (address6(u)?, address6(u)?);
    let kind = *u.choose(&[135, 135, 136, 136, 133, 137])?;
    let mut message = vec![kind, 0, 0, 0, *u.choose(&[0, 0x20, 0x60, 0xe0])?, 0, 0, 0];
    if kind != 133 {
        message.extend(address6(u)?.octets());
    }
    if kind == 137 {
        message.extend(address6(u)?.octets());
    }
    options(u, &mut message)?;
    let hops = hops(u, 255)?;
    icmp6(u, ends, hops, message)
}

fn mld(u: Bytes) -> Result<Vec<u8>> {
    let group = address6(u)?;
    let dst = if u.arbitrary()? { group } else { address6(u)? };
    let src = if u.ratio(1, 8)? {
        address6(u)?
    } else {
        "fe80::9".parse().unwrap()
    };
    let kind = *u.choose(&[130, 130, 130, 131, 132, 143])?;
    let mut message = vec![kind, 0, 0, 0];
    message.extend(u.choose(&[0u16, 1, 1000, u16::MAX])?.to_be_bytes());
    message.extend([0, 0]);
    message.extend(group.octets());
    if u.ratio(7, 8)? {
        message.extend([2, 125, 0, 0]);
    }
    let hops = hops(u, 1)?;
    let mut frame = icmp6(u, (src, dst), hops, message)?;
    if u.ratio(7, 8)? && frame.len() >= 54 && frame[20] == 58 {
        // A router alert before the message, without which it is dropped.
        let len = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(8);
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        let number = std::mem::replace(&mut frame[20], 0);
        frame.splice(54..54, [number, 0, 5, 2, 0, 0, 1, 0]);
    }
    Ok(frame)
}

fn arp(u: Bytes) -> Result<Vec<u8>> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, *u.choose(&[1, 2, 3])?];
    packet.extend(*u.choose(&[PEER, PEER, OWN, [0xff; 6]])?);
    packet.extend(address4(u)?.octets());
    packet.extend([0; 6]);
    packet.extend(
        if u.arbitrary()? {
            Ipv4Addr::new(10, 0, 2, 1)
        } else {
            address4(u)?
        }
        .octets(),
    );
    Ok(ethernet(*u.choose(&[[0xff; 6], OWN])?, 0x0806, &packet))
}

fn igmp(u: Bytes) -> Result<Vec<u8>> {
    let mut message = vec![*u.choose(&[0x11, 0x16, 0x17, 0x12, 0x22])?, u.arbitrary()?, 0, 0];
    message.extend(address4(u)?.octets());
    if u.ratio(1, 2)? {
        message.extend(u.bytes(4)?);
    }
    let sum = !checksum::sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let (src, dst) = (address4(u)?, address4(u)?);
    ipv4(u, [1, 0, 0x5e, 0, 0, 1], src, dst, 2, &message)
}

fn udp(src: IpAddr, dst: IpAddr, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = [
        from.to_be_bytes(),
        to.to_be_bytes(),
        (8 + data.len() as u16).to_be_bytes(),
        [0; 2],
    ]
    .concat();
    bytes.extend(data);
    let pseudo = checksum::pseudo_header(src.into(), dst.into(), 17, bytes.len()).unwrap();
    let sum = match !checksum::add(pseudo, checksum::sum(&bytes)) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// To the echo server, or to a port that nobody has.
fn datagram(u: Bytes) -> Result<Vec<u8>> {
    let port = *u.choose(&[7, 7, 7, 9, 53, 68])?;
    let data = u.bytes(4)?;
    if u.arbitrary()? {
        let src = address4(u)?;
        let dst = if u.ratio(1, 4)? {
            address4(u)?
        } else {
            Ipv4Addr::new(10, 0, 2, 1)
        };
        let udp = udp(src.into(), dst.into(), *u.choose(&[5, 53])?, port, data);
        let to = *u.choose(&[OWN, OWN, [0xff; 6]])?;
        return ipv4(u, to, src, dst, 17, &udp);
    }
    let src = address6(u)?;
    let dst = if u.ratio(1, 4)? {
        address6(u)?
    } else {
        "fec0::1".parse().unwrap()
    };
    let udp = udp(src.into(), dst.into(), 5, port, data);
    ipv6(u, mac_for(dst), (src, dst), 17, 64, &udp)
}

fn segment(u: Bytes) -> Result<Vec<u8>> {
    let port: u16 = *u.choose(&[7, 7, 9])?;
    let mut bytes = [u.choose(&[1000u16, 1001, 0])?.to_be_bytes(), port.to_be_bytes()].concat();
    bytes.extend(u.choose(&[1u32, 2, 3, u32::MAX])?.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([
        0x70,
        *u.choose(&[2, 2, 16, 18, 4, 17, 20, 1])?,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend([3, 3, 7, 2, 4, *u.choose(&[0, 5])?, 0xb4, 0]);
    let (v4, src4, src6) = (u.arbitrary()?, address4(u)?, address6(u)?);
    let (own4, own6) = (Ipv4Addr::new(10, 0, 2, 1), "fec0::1".parse::<Ipv6Addr>().unwrap());
    let ends: (IpAddr, IpAddr) = match v4 {
        true => (src4.into(), own4.into()),
        false => (src6.into(), own6.into()),
    };
    let pseudo = checksum::pseudo_header(ends.0.into(), ends.1.into(), 6, bytes.len()).unwrap();
    let sum = !checksum::add(pseudo, checksum::sum(&bytes));
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    match v4 {
        true => ipv4(u, OWN, src4, own4, 6, &bytes),
        false => ipv6(u, OWN, (src6, own6), 6, 64, &bytes),
    }
}

fn echo(u: Bytes) -> Result<Vec<u8>> {
    let len = *u.choose(&[0usize, 4, 56, 1400])?;
    if u.arbitrary()? {
        let mut message = vec![*u.choose(&[8, 8, 0, 3, 13])?, 0, 0, 0, 0, 1, 0, 1];
        message.resize(8 + len, 0x33);
        let sum = !checksum::sum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let (src, dst) = (address4(u)?, address4(u)?);
        return ipv4(u, OWN, src, dst, 1, &message);
    }
    let mut message = vec![*u.choose(&[128, 128, 129, 1, 4, 200])?, 0, 0, 0, 0, 1, 0, 1];
    message.resize(8 + len, 0x33);
    let ends = (address6(u)?, address6(u)?);
    icmp6(u, ends, 64, message)
}
