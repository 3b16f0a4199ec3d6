//! Checksum offload on a tap device: a hostile brane cannot use it to change bytes that the driver has
//! checked.

use anyhow::{Context, Result, ensure};
use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use image_tests::capture::Capture;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::netns::NetNs;
use image_tests::probe;
use image_tests::{BRANES, until_well};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// MAC address of blue, which forges frames (`tests/pds/core/src/brane.rs`), and the IPv4 address that it
/// claims.
const BLUE_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 2];
const CLAIMED_IP: [u8; 4] = [10, 0, 2, 66];
/// IP packets of its own address to wait for. It sends one in each round, together with one of each forged
/// frame.
const ROUNDS: usize = 50;
/// Time limit for that many rounds.
const PATIENCE: Duration = Duration::from_secs(100);
const ROUTER_ADVERTISEMENT: u8 = 134;

#[test]
fn an_offload_request_cannot_rewrite_a_checked_address() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let mut capture = ns.enter(Capture::start)?;
    let mut guest = Guest::boot(Boot {
        config: "limits",
        net: Net::Tap(&ns),
        release: true,
        ..Boot::default()
    })?;
    let end = Instant::now() + PATIENCE;
    let mut honest = 0;
    while honest < ROUNDS {
        let captured = capture
            .receive(end)?
            .with_context(|| format!("blue sent {honest} honest packets:\n{}", guest.log()))?;
        let frame = &captured.frame;
        if frame.get(6..12) != Some(&BLUE_MAC[..]) {
            continue;
        }
        let forged = what_is_forged(frame);
        ensure!(forged.is_none(), "{forged:?} left: {frame:02x?}");
        let from_own =
            frame.get(12..14) == Some(&[8, 0]) && frame.get(26..30) == Some(&BRANES[2].v4.octets()[..]);
        honest += usize::from(from_own);
    }
    let refused = until_well(|| guest.counter("vnic2", "tx_malformed"))?;
    ensure!(
        refused >= 3 * ROUNDS as u64,
        "blue's vif counted {refused} malformed frames"
    );
    ensure!(
        guest.log().contains("HOST_TSO4"),
        "no offloads here:\n{}",
        guest.log()
    );

    // The driver does not refuse frames of the honest stacks, and these leave their checksums to the device.
    let mut offloaded = [0; 2];
    for (brane, count) in BRANES.iter().zip(&mut offloaded) {
        ns.enter(|| -> Result<()> {
            probe::page(SocketAddr::new(brane.v4.into(), 80), &[brane.name])?;
            probe::page(SocketAddr::new(brane.v6.into(), 80), &[brane.name])?;
            probe::udp_echo(SocketAddr::new(brane.v4.into(), 7))
        })?;
        let soon = Instant::now() + Duration::from_secs(1);
        while let Some(captured) = capture.receive(soon)? {
            let ours = captured.frame.get(26..30) == Some(&brane.v4.octets()[..]);
            *count += usize::from(ours && captured.offloaded);
        }
    }
    ensure!(
        offloaded.iter().all(|n| *n > 0),
        "packets left to the device: {offloaded:?}"
    );
    for vif in ["vnic0", "vnic1"] {
        let refused = guest.counter(vif, "tx_malformed")?;
        ensure!(
            refused == 0,
            "{vif} counted {refused} malformed frames of an honest stack"
        );
    }
    Ok(())
}

/// Returns the forged property of a frame, if there is one.
fn what_is_forged(frame: &[u8]) -> Option<&'static str> {
    if frame.get(12..14) == Some(&EtherType::ARP.0.to_be_bytes()[..]) {
        return (frame.get(28..32) == Some(&CLAIMED_IP[..])).then_some("an ARP sender");
    }
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net, packet.transport) {
        (Some(NetSlice::Ipv4(ip)), _) if ip.header().source() == CLAIMED_IP => Some("an IPv4 source"),
        (_, Some(TransportSlice::Icmpv6(icmp))) if icmp.type_u8() == ROUTER_ADVERTISEMENT => {
            Some("a router advertisement")
        }
        _ => None,
    }
}
