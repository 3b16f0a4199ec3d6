//! Hosts on the wire that speak TCP by hand, one segment at a time. Included by the tests that want them.
#![allow(dead_code)]

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::*;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

const BRANE: Ipv4Address = Ipv4Address::new(10, 0, 2, 1);
const BRANE_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

/// A host's port.
#[derive(Clone, Debug)]
pub struct Peer {
    pub mac: [u8; 6],
    pub ip: Ipv4Address,
    pub port: u16,
    pub isn: u32,
}

/// What a segment of the brane says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack: bool,
    pub data: Vec<u8>,
}

impl Peer {
    /// Host 10.0.2.`host`, each with a station address of its own.
    pub fn new(host: u8, port: u16) -> Peer {
        Peer {
            mac: [0x52, 0x54, 0, 0, 1, host],
            ip: Ipv4Address::new(10, 0, 2, host),
            port,
            isn: u32::from(host) << 24 | u32::from(port),
        }
    }

    fn frame(&self, repr: TcpRepr) -> Vec<u8> {
        let caps = ChecksumCapabilities::default();
        let (src, dst) = (IpAddress::Ipv4(self.ip), IpAddress::Ipv4(BRANE));
        let ip = IpRepr::new(src, dst, IpProtocol::Tcp, repr.buffer_len(), 64);
        let mut frame = vec![0; 14 + ip.buffer_len()];
        frame[..6].copy_from_slice(&BRANE_MAC);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12] = 8;
        ip.emit(&mut frame[14..], &caps);
        repr.emit(&mut TcpPacket::new_unchecked(&mut frame[34..]), &src, &dst, &caps);
        frame
    }

    fn repr<'a>(&self, to: u16) -> TcpRepr<'a> {
        TcpRepr {
            src_port: self.port,
            dst_port: to,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(self.isn as i32),
            ack_number: None,
            window_len: 4000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }

    /// A SYN as most hosts send it.
    pub fn syn(&self, to: u16) -> Vec<u8> {
        self.frame(TcpRepr {
            control: TcpControl::Syn,
            window_scale: Some(7),
            max_seg_size: Some(1460),
            sack_permitted: true,
            ..self.repr(to)
        })
    }

    /// A segment whose sequence number is `off` behind the initial one.
    pub fn segment(&self, to: u16, flags: u8, off: u32, ack: u32, data: &[u8]) -> Vec<u8> {
        self.frame(TcpRepr {
            control: match flags & (FIN | RST) {
                FIN => TcpControl::Fin,
                RST => TcpControl::Rst,
                _ => TcpControl::None,
            },
            seq_number: TcpSeqNumber(self.isn.wrapping_add(off) as i32),
            ack_number: (flags & ACK != 0).then_some(TcpSeqNumber(ack as i32)),
            payload: data,
            ..self.repr(to)
        })
    }

    /// Asks by ARP for the brane, as a host does that wants to send to it.
    pub fn arp(&self) -> Vec<u8> {
        let repr = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.mac),
            source_protocol_addr: self.ip,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: BRANE,
        };
        let mut frame = vec![0; 14 + repr.buffer_len()];
        frame[..6].copy_from_slice(&[0xff; 6]);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..14].copy_from_slice(&[8, 6]);
        repr.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
        frame
    }

    /// A segment from the brane to this host's port.
    pub fn read(&self, frame: &[u8]) -> Option<Segment> {
        self.parse(frame, Some(self.port))
    }

    /// A segment from the brane to this host.
    pub fn read_any(&self, frame: &[u8]) -> Option<Segment> {
        self.parse(frame, None)
    }

    fn parse(&self, frame: &[u8], port: Option<u16>) -> Option<Segment> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        assert!(ip.verify_checksum());
        if ip.next_header() != IpProtocol::Tcp || ip.dst_addr() != self.ip {
            return None;
        }
        assert_eq!(
            ethernet.dst_addr().0,
            self.mac,
            "for the address, but not to its station"
        );
        let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        let repr =
            TcpRepr::parse(&tcp, &src, &dst, &ChecksumCapabilities::default()).expect("a sound segment");
        if port.is_some_and(|port| port != repr.dst_port) {
            return None;
        }
        Some(Segment {
            flags: ip.payload()[13] & (FIN | SYN | RST | ACK),
            seq: repr.seq_number.0 as u32,
            ack: repr.ack_number.map_or(0, |ack| ack.0 as u32),
            mss: repr.max_seg_size,
            scale: repr.window_scale,
            sack: repr.sack_permitted,
            data: repr.payload.to_vec(),
        })
    }
}

/// The generator that smoltcp draws its numbers from (its `rand.rs`).
pub struct Pcg(pub u64);

impl Iterator for Pcg {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self
            .0
            .wrapping_mul(0xbb2e_fcec_3c39_611d)
            .wrapping_add(0x7590_ef39);
        Some((self.0 >> (29 - (self.0 >> 61))) as u32)
    }
}

/// The first words that a brane draws that was given this seed: its interfaces' generators begin with one of them, if with any.
pub fn draws_of_chacha(seed: [u8; 32], count: usize) -> Vec<u64> {
    let mut rng = ChaCha12Rng::from_seed(seed);
    (0..count).map(|_| rng.next_u64()).collect()
}
