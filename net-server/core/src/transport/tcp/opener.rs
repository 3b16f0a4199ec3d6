//! Opens smoltcp's sockets with numbers that the brane has chosen.
//!
//! smoltcp draws initial sequence numbers, DNS ids and ports from a 64-bit congruential generator inside its `Interface`, with
//! public constants: who has seen three of its numbers can compute the next ones. So no number that must be secret is drawn from
//! the generator of an interface that sends. Here each draw comes from an interface of its own that is made for it, has no
//! address, sends nothing, and is dropped afterwards. Its seed is either fresh from the brane's ChaCha generator, so numbers that
//! were seen before tell nothing about the next, or computed so that the draw is a number that the brane wants.
//!
//! The numbers wanted are those of [`crate::transport::tcp::isn`] and of SYN cookies. The handshake of a connection that comes in is over before
//! its socket exists (`syncache.rs`), so it is played again: smoltcp sees the SYN, and its SYN-ACK, which the peer has long had,
//! is caught here and compared.

use crate::netif::instant;
use crate::transport::tcp::FlowKey;
use crate::transport::tcp::connection::{Connection, State, TcpSocket};
use crate::transport::tcp::segment::Options;
use rand_chacha::rand_core::RngCore;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{
    HardwareAddress, IpListenEndpoint, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

/// Longest SYN or SYN-ACK with its IP header, in bytes: both headers and 20 bytes of options.
const LONGEST: usize = 40 + 20 + 20;

/// smoltcp's generator (its `rand.rs`): `s = s * MULTIPLIER + INCREMENT`, then the output is 32 bits of `s` from bit
/// `29 - (s >> 61)` on.
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const INCREMENT: u64 = 0x7590_ef39;
const INVERSE: u64 = inverse(MULTIPLIER);

/// The inverse of an odd number modulo 2^64, by Newton's iteration: each step doubles the number of right bits.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

const fn before(state: u64) -> u64 {
    state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE)
}

/// A seed for an interface whose first draw is `wanted`. A new interface draws its first packet id before; again if it is zero.
fn seed(wanted: u32, rng: &mut impl RngCore) -> u64 {
    let mut seed = 0;
    for _ in 0..4 {
        // The upper three bits are zero, so the output begins at bit 29.
        let state = u64::from(wanted) << 29 | u64::from(rng.next_u32() >> 3);
        let first = before(state);
        seed = before(first);
        let output = (first >> (29 - (first >> 61))) as u32;
        if (output ^ output >> 16) as u16 != 0 {
            break;
        }
    }
    seed
}

/// Bytes of an IP packet on its way to or from the interface.
#[derive(Clone, Copy)]
struct Packet {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Packet {
    const NONE: Packet = Packet {
        bytes: [0; LONGEST],
        len: 0,
    };

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The device of an interface that is made for one draw: it delivers one packet and keeps one.
struct Desk {
    received: Option<Packet>,
    sent: Packet,
}

impl Desk {
    const fn empty() -> Desk {
        Desk {
            received: None,
            sent: Packet::NONE,
        }
    }
}

struct Rx(Packet);
struct Out<'a>(&'a mut Packet);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.bytes())
    }
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.0.bytes.get_mut(..len) {
            Some(room) => {
                self.0.len = len;
                f(room)
            }
            // Longer than any SYN-ACK: smoltcp is not taken at its word, and the comparison will fail.
            None => f(&mut alloc::vec![0; len]),
        }
    }
}

impl phy::Device for Desk {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Out<'_>)> {
        Some((Rx(self.received.take()?), Out(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1280;
        caps.checksum = ChecksumCapabilities::ignored();
        caps
    }
}

fn interface(now: u64, seed: u64, desk: &mut Desk) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut iface = Interface::new(config, desk, instant(now));
    // Addresses are the caller's to check.
    iface.set_any_ip(true);
    iface
}

/// Runs `draw` with an interface whose first draw is `wanted`.
pub fn with_number<R>(
    now: u64,
    wanted: u32,
    rng: &mut impl RngCore,
    draw: impl FnOnce(&mut Interface) -> R,
) -> R {
    draw(&mut interface(now, seed(wanted, rng), &mut Desk::empty()))
}

/// Runs `draw` with an interface whose draws nobody can predict.
pub fn with_random<R>(now: u64, rng: &mut impl RngCore, draw: impl FnOnce(&mut Interface) -> R) -> R {
    draw(&mut interface(now, rng.next_u64(), &mut Desk::empty()))
}

/// The sequence numbers of a handshake, and the peer's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The peer's initial sequence number.
    pub irs: u32,
    /// Ours.
    pub iss: u32,
    /// Options of the peer's SYN.
    pub options: Options,
}

/// Makes of a closed socket that of a connection whose SYN has come and whose SYN-ACK has gone. Returns false if smoltcp does not
/// play along; the socket is of no use then.
pub fn accept(
    now: u64,
    socket: &mut TcpSocket,
    key: &FlowKey,
    handshake: &Handshake,
    rng: &mut impl RngCore,
) -> bool {
    let endpoint = IpListenEndpoint {
        addr: Some(key.local),
        port: key.local_port,
    };
    if socket.get().listen(endpoint).is_err() {
        return false;
    }
    let Some(syn) = syn(key, handshake) else {
        return false;
    };
    let mut desk = Desk {
        received: Some(syn),
        ..Desk::empty()
    };
    let mut iface = interface(now, seed(handshake.iss, rng), &mut desk);
    iface.poll_ingress_single(instant(now), &mut desk, &mut socket.set);
    iface.poll_egress(instant(now), &mut desk, &mut socket.set);
    socket.state() == State::SynReceived && answers(&desk.sent, key, handshake)
}

fn syn(key: &FlowKey, handshake: &Handshake) -> Option<Packet> {
    let tcp = TcpRepr {
        src_port: key.remote_port,
        dst_port: key.local_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(handshake.irs as i32),
        ack_number: None,
        window_len: 0,
        window_scale: handshake.options.scale,
        max_seg_size: Some(handshake.options.mss),
        sack_permitted: handshake.options.sack,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    if key.local.version() != key.remote.version() {
        return None;
    }
    let ip = IpRepr::new(key.remote, key.local, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut packet = Packet::NONE;
    packet.len = ip.buffer_len();
    let room = packet.bytes.get_mut(..packet.len)?;
    let caps = ChecksumCapabilities::ignored();
    ip.emit(&mut *room, &caps);
    let mut segment = TcpPacket::new_unchecked(&mut room[ip.header_len()..]);
    tcp.emit(&mut segment, &key.remote, &key.local, &caps);
    Some(packet)
}

/// Whether a packet is the SYN-ACK that the peer has had.
fn answers(packet: &Packet, key: &FlowKey, handshake: &Handshake) -> bool {
    let header = match key.local {
        smoltcp::wire::IpAddress::Ipv4(_) => 20,
        smoltcp::wire::IpAddress::Ipv6(_) => 40,
    };
    let Some(Ok(segment)) = packet.bytes().get(header..).map(TcpPacket::new_checked) else {
        return false;
    };
    segment.syn()
        && segment.ack()
        && segment.seq_number().0 as u32 == handshake.iss
        && segment.ack_number().0 as u32 == handshake.irs.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_chacha::rand_core::SeedableRng;

    proptest! {
        /// Against smoltcp itself: a socket that connects sends the number that was wanted.
        #[test]
        fn a_draw_is_the_number_that_was_wanted(wanted: u32, seed: [u8; 32]) {
            let mut rng = ChaCha12Rng::from_seed(seed);
            let mut socket = crate::transport::tcp::tests::socket();
            socket.begin();
            let (local, remote) = ("10.0.2.1".parse().unwrap(), "10.0.2.2".parse().unwrap());
            let (local, remote): (smoltcp::wire::IpAddress, smoltcp::wire::IpAddress) = (local, remote);
            with_number(0, wanted, &mut rng, |iface| {
                socket.get().connect(iface.context(), (remote, 80), (local, 5)).unwrap();
                let mut desk = Desk::empty();
                iface.poll_egress(instant(0), &mut desk, &mut socket.set);
                let segment = TcpPacket::new_checked(&desk.sent.bytes()[20..]).unwrap();
                assert!(segment.syn() && !segment.ack());
                assert_eq!(segment.seq_number().0 as u32, wanted);
            });
        }
    }

    /// What smoltcp sends is compared, so a SYN-ACK with another number, or none at all, makes no connection.
    #[test]
    fn only_the_syn_ack_that_the_peer_has_had_is_the_answer() {
        let key = FlowKey {
            netif: 1,
            local: "10.0.2.1".parse().unwrap(),
            remote: "10.0.2.2".parse().unwrap(),
            local_port: 80,
            remote_port: 5,
        };
        let handshake = Handshake {
            irs: u32::MAX,
            iss: 7,
            options: Options {
                mss: 1460,
                scale: None,
                sack: false,
            },
        };
        let segment = |flags: u8, seq: u32, ack: u32| {
            let mut packet = Packet::NONE;
            packet.len = 20 + 20;
            let tcp = &mut packet.bytes[20..40];
            tcp[4..8].copy_from_slice(&seq.to_be_bytes());
            tcp[8..12].copy_from_slice(&ack.to_be_bytes());
            (tcp[12], tcp[13]) = (5 << 4, flags);
            packet
        };
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        for (packet, is_answer) in [
            (segment(SYN | ACK, 7, 0), true),
            (segment(SYN | ACK, 8, 0), false),
            (segment(SYN | ACK, 7, 1), false),
            (segment(SYN, 7, 0), false),
            (segment(ACK, 7, 0), false),
            (Packet::NONE, false),
        ] {
            assert_eq!(
                answers(&packet, &key, &handshake),
                is_answer,
                "{:x?}",
                packet.bytes()
            );
        }
    }

    #[test]
    fn the_inverse_is_one() {
        assert_eq!(INVERSE.wrapping_mul(MULTIPLIER), 1);
    }
}
