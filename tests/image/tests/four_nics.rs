//! Four NICs, and branes with four interfaces each: every NIC and every interface carries only its own frames.

use anyhow::{Context, Result, ensure};
use image_tests::PATIENCE;
use image_tests::guest::{Boot, Guest, Net};
use image_tests::wire::{self, Mac, Socket, Wire};
use std::net::Ipv4Addr;
use std::time::Duration;

/// Network, host and NIC of each interface of main and red, as in `four-nics.toml`. red has all four interfaces at nic0.
const MAIN: [(u8, usize); 4] = [(2, 0), (3, 1), (4, 2), (5, 3)];
const RED: [(u8, usize); 4] = [(2, 0), (12, 0), (22, 0), (32, 0)];

/// Pings an address at this wire. Returns its MAC address.
fn ping(wire: &mut Wire, ip: Ipv4Addr) -> Result<Mac> {
    let mac = wire.resolve(ip, PATIENCE)?;
    for sequence in 1..=3 {
        ensure!(wire.ping(mac, ip, sequence, PATIENCE)?, "{ip} does not answer");
    }
    Ok(mac)
}

#[test]
fn each_of_four_nics_and_each_of_four_interfaces_carries_its_own_traffic() -> Result<()> {
    let sockets = [Socket::new()?, Socket::new()?, Socket::new()?, Socket::new()?];
    let mut nets = Vec::new();
    for socket in &sockets {
        nets.push(Net::Wire(socket.address()?));
    }
    let mut guest = Guest::boot(Boot {
        config: "four-nics",
        net: nets[0],
        more_nets: &nets[1..],
        release: true,
        ..Boot::default()
    })?;
    let mut wires = Vec::new();
    for socket in sockets {
        wires.push(socket.accept()?);
    }
    let mut seen = Vec::new();
    for (brane, host, interfaces) in [("main", 15, MAIN), ("red", 16, RED), ("blue", 17, MAIN)] {
        for (net, nic) in interfaces {
            let ip = Ipv4Addr::new(10, 0, net, host);
            let mac = ping(&mut wires[nic], ip)
                .with_context(|| format!("{brane} at nic{nic}:\n{}", guest.log()))?;
            seen.push((mac, ip, nic));
        }
    }
    let mut macs: Vec<Mac> = seen.iter().map(|(mac, ..)| *mac).collect();
    macs.sort_unstable();
    macs.dedup();
    ensure!(
        macs.len() == 12,
        "twelve interfaces have {} MAC addresses",
        macs.len()
    );
    // An interface is only at its own NIC: the next wire carries no frame to it, and none from it.
    for (mac, ip, nic) in &seen {
        wires[(nic + 1) % 4].send(&wire::echo_request(*mac, *ip, 9))?;
    }
    for (nic, wire) in wires.iter_mut().enumerate() {
        for frame in wire.listen(Duration::from_millis(500))? {
            let stray = seen
                .iter()
                .find(|(mac, _, at)| wire::source(&frame) == Some(*mac) && *at != nic);
            ensure!(stray.is_none(), "on the wire of nic{nic}: a frame of {stray:?}");
        }
    }
    for mac in ["02:77:f0", "02:77:01", "02:77:02", "02:77:03"] {
        let started = format!("virtio-net {mac}:00:00:00, link up");
        ensure!(
            guest.log().contains(&started),
            "not \"{started}\":\n{}",
            guest.log()
        );
    }
    guest.wait_until_serving()?;
    guest.untroubled()
}
