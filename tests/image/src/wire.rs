//! The host's end of a wire to the guest's NIC: sends and receives exact frames.
//!
//! QEMU's `socket` network device carries each frame over a TCP connection on loopback, preceded by its
//! length in four bytes (big endian). Nothing in between changes a frame, so tests can send malformed frames
//! and see every frame of the guest.

use crate::patience::PATIENCE;
use crate::wire6::advertisement_for;
use anyhow::{Context, Result, bail, ensure};
use etherparse::{
    ArpOperation, ArpPacket, EtherType, IcmpEchoHeader, Icmpv4Type, PacketBuilder, SlicedPacket,
    TransportSlice,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The host's address on the wire. It differs from every brane's address in so many bytes that no mutated
/// frame makes a brane believe that the host has another brane's address. The switch would correctly not send
/// frames for such an address to the wire.
pub const HOST_MAC: Mac = [0x06, 0x9a, 0xab, 0xbc, 0xcd, 0xde];
/// The host's IPv4 address on the wire.
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Returns the host's address in the network of a test's own address, `10.A.B.0/24`. It is number 2 there
/// too.
pub fn host_near(ip: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = ip.octets();
    Ipv4Addr::new(a, b, c, 2)
}

fn is_host(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 10 && ip == host_near(ip)
}

/// A listening wire to which QEMU has not connected yet.
pub struct Socket(TcpListener);

impl Socket {
    /// Listens on a free port of loopback.
    pub fn new() -> Result<Socket> {
        Ok(Socket(TcpListener::bind("127.0.0.1:0")?))
    }

    /// Returns the address to which QEMU has to connect.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Waits until QEMU has connected, for at most ten seconds. Returns the wire.
    pub fn accept(self) -> Result<Wire> {
        self.0.set_nonblocking(true)?;
        let limit = Instant::now() + PATIENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    return Ok(Wire {
                        stream,
                        pending: Vec::new(),
                    });
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => return Err(e).context("waiting for QEMU to connect to the wire"),
            }
        }
    }
}

/// The connected wire.
pub struct Wire {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Wire {
    /// Sends one frame without checking it.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        let mut out = Vec::with_capacity(frame.len() + 4);
        out.extend((frame.len() as u32).to_be_bytes());
        out.extend(frame);
        self.stream.write_all(&out).context("sending a frame")
    }

    /// Returns a second sending half for a thread that only sends. From then on only that thread may send, or
    /// frames would interleave.
    pub fn sender(&self) -> Result<Sender> {
        Ok(Sender(self.stream.try_clone()?))
    }

    /// Returns the next frame from the guest, or `None` at the deadline.
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(head) = self.pending.first_chunk::<4>() {
                let len = u32::from_be_bytes(*head) as usize;
                ensure!(len <= 1 << 17, "a frame of {len} bytes");
                if self.pending.len() >= 4 + len {
                    let frame = self.pending[4..4 + len].to_vec();
                    self.pending.drain(..4 + len);
                    return Ok(Some(frame));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 1 << 16];
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("QEMU closed the wire"),
                Ok(n) => self.pending.extend(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(e) => return Err(e).context("receiving a frame"),
            }
        }
    }

    /// Returns the first result of `want` for a frame within `limit`. Answers ARP requests for the host
    /// meanwhile.
    pub fn wait_for<R>(
        &mut self,
        limit: Duration,
        mut want: impl FnMut(&[u8]) -> Option<R>,
    ) -> Result<Option<R>> {
        let deadline = Instant::now() + limit;
        while let Some(frame) = self.receive(deadline)? {
            if let Some(reply) = arp_reply_for(&frame).or_else(|| advertisement_for(&frame)) {
                self.send(&reply)?;
            }
            if let Some(found) = want(&frame) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns all frames within `limit`. Answers ARP requests for the host meanwhile.
    pub fn listen(&mut self, limit: Duration) -> Result<Vec<Vec<u8>>> {
        let mut heard = Vec::new();
        self.wait_for(limit, |frame| {
            heard.push(frame.to_vec());
            None::<()>
        })?;
        Ok(heard)
    }

    /// Resolves `ip` by ARP, for at most `limit`.
    pub fn resolve(&mut self, ip: Ipv4Addr, limit: Duration) -> Result<Mac> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            self.send(&arp(
                ArpOperation::REQUEST,
                [0xff; 6],
                HOST_MAC,
                host_near(ip),
                [0; 6],
                ip,
            ))?;
            let mac = self.wait_for(Duration::from_millis(200), |frame| {
                let (operation, mac, sender) = parse_arp(frame)?;
                (operation == ArpOperation::REPLY && sender == ip).then_some(mac)
            })?;
            if let Some(mac) = mac {
                return Ok(mac);
            }
        }
        bail!("no ARP reply for {ip}")
    }

    /// Sends one ICMP echo request to `ip` at `mac`. Returns true if it was answered within `limit`.
    pub fn ping(&mut self, mac: Mac, ip: Ipv4Addr, seq: u16, limit: Duration) -> Result<bool> {
        self.send(&echo_request(mac, ip, seq))?;
        let answered = self.wait_for(limit, |frame| {
            let packet = SlicedPacket::from_ethernet(frame).ok()?;
            let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else {
                return None;
            };
            matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(IcmpEchoHeader { id: 0x77, seq: s }) if s == seq)
                .then_some(())
        })?;
        Ok(answered.is_some())
    }
}

/// The sending half of a wire.
pub struct Sender(TcpStream);

impl Sender {
    /// Sends frames one after another. Waits while the guest's device has no buffers.
    pub fn send_all(&mut self, frames: &[&[u8]]) -> Result<()> {
        let mut out = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 4).sum());
        for frame in frames {
            out.extend((frame.len() as u32).to_be_bytes());
            out.extend(*frame);
        }
        self.0.write_all(&out).context("sending frames")
    }
}

/// Returns an ICMP echo request from the host's address in the network of `ip`.
pub fn echo_request(mac: Mac, ip: Ipv4Addr, seq: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ipv4(host_near(ip).octets(), ip.octets(), 64);
    built(builder.icmpv4_echo_request(0x77, seq), &[0x5a; 48])
}

/// Returns a UDP datagram from the host's port 4000.
pub fn udp(mac: Mac, ip: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ipv4(HOST_IP.octets(), ip.octets(), 64);
    let builder = builder.udp(4000, port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).expect("writing to memory");
    frame
}

/// Returns a TCP SYN from the host's port `from`.
pub fn tcp_syn(mac: Mac, ip: Ipv4Addr, from: u16, port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(HOST_MAC, mac).ipv4(HOST_IP.octets(), ip.octets(), 64);
    let builder = builder.tcp(from, port, 1000, 64000).syn();
    let mut frame = Vec::with_capacity(builder.size(0));
    builder.write(&mut frame, &[]).expect("writing to memory");
    frame
}

fn built(builder: etherparse::PacketBuilderStep<etherparse::Icmpv4Header>, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).expect("writing to memory");
    frame
}

/// Returns an ARP frame (RFC 826).
pub fn arp(
    operation: ArpOperation,
    to: Mac,
    sender: Mac,
    sender_ip: Ipv4Addr,
    target: Mac,
    target_ip: Ipv4Addr,
) -> Vec<u8> {
    let packet = ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender,
        &sender_ip.octets(),
        &target,
        &target_ip.octets(),
    )
    .expect("addresses of Ethernet and IPv4");
    let builder = PacketBuilder::ethernet2(sender, to).arp(packet);
    let mut frame = Vec::with_capacity(builder.size());
    builder.write(&mut frame).expect("writing to memory");
    frame
}

/// Returns operation, sender's MAC address and sender's IP address of an ARP frame for IPv4.
pub fn parse_arp(frame: &[u8]) -> Option<(ArpOperation, Mac, Ipv4Addr)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::NetSlice::Arp(arp)) = packet.net else {
        return None;
    };
    let mac = Mac::try_from(arp.sender_hw_addr()).ok()?;
    let ip = <[u8; 4]>::try_from(arp.sender_protocol_addr()).ok()?;
    Some((arp.operation(), mac, ip.into()))
}

/// Returns the ARP reply to a frame that asks for the host.
pub fn arp_reply_for(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::NetSlice::Arp(request)) = packet.net else {
        return None;
    };
    let asked = Ipv4Addr::from(<[u8; 4]>::try_from(request.target_protocol_addr()).ok()?);
    let (_, mac, ip) = parse_arp(frame)?;
    if request.operation() != ArpOperation::REQUEST || !is_host(asked) || asked == ip {
        return None;
    }
    Some(arp(ArpOperation::REPLY, mac, HOST_MAC, asked, mac, ip))
}

/// Returns the source MAC address of a frame.
pub fn source(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok()
}
