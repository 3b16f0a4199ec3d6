//! The drivers' part of the way: allowed source addresses, and the path between two devices.

use super::ends;
use super::gate::Finding;
use super::{Snapshot, Verdict};
use alloc::format;
use alloc::string::String;
use brane_abi::control::InterfaceStatus;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{DevNet, Kind, Mode};
use core::net::{IpAddr, Ipv6Addr};

/// Returns true if an address lies in a prefix.
pub(super) fn within(prefix: &Cidr, address: IpAddr) -> bool {
    let same = |own: u128, other: u128, bits: u8| {
        let shift = u32::from(bits.saturating_sub(prefix.prefix));
        (own ^ other).checked_shr(shift).unwrap_or(0) == 0
    };
    match (prefix.ip, address) {
        (IpAddr::V4(own), IpAddr::V4(other)) => same(own.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

/// Returns the link-local address that follows from a MAC address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> IpAddr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]).into()
}

/// Checks the source address as the driver of a device does.
pub(super) fn guard(device: &DevNet, source: IpAddr) -> Finding {
    let config = &device.config;
    let name = config.name.clone();
    if config.allow.is_empty() {
        return (Verdict::Pass, name, "no allow list".into());
    }
    let own = config.mac.is_some_and(|mac| link_local(mac) == source);
    match config.allow.iter().find(|prefix| within(prefix, source)) {
        Some(prefix) => (
            Verdict::Pass,
            name,
            format!("{source} is in {prefix} of its allow list"),
        ),
        None if own => (
            Verdict::Pass,
            name,
            format!("{source} is the device's link-local address"),
        ),
        None => (Verdict::Stop, name, format!("{source} is not in its allow list")),
    }
}

/// Returns the limit of a device in a direction in words, if it has one.
pub(super) fn rate(device: &DevNet, up: bool) -> Option<String> {
    let config = &device.config;
    let (key, rate) = match up {
        true => ("rate-up", config.rate_up),
        false => ("rate-down", config.rate_down),
    };
    let rate = rate.filter(|rate| *rate != 0)?;
    Some(format!(
        "{key} {} bytes per second: excess frames are dropped",
        crate::table_layout::rate(rate)
    ))
}

/// A device with its interface in a brane. `None` for a device that the manager has not listed.
pub(super) type Attached<'a> = (&'a InterfaceStatus, Option<&'a DevNet>);

fn tag(device: &DevNet) -> u16 {
    match device.config.kind {
        Kind::Vlan(tag) => tag,
        _ => 0,
    }
}

fn wire(device: &DevNet) -> String {
    format!("wire of nic{}", device.config.nic)
}

/// Returns the path of a frame from one device to another. A `None` end is outside. `via` is the sender's router, if it needs
/// one. A router that is the receiver itself must be removed before.
pub(super) fn path(
    snapshot: &Snapshot,
    from: Option<&DevNet>,
    via: Option<IpAddr>,
    to: Option<&DevNet>,
) -> Finding {
    if let (Some(from), Kind::Pair(peer)) = (from, from.map_or(&Kind::Lo, |d| &d.config.kind)) {
        let across = to.filter(|to| to.config.name == *peer && via.is_none());
        let thing = format!("pair {}", from.config.name);
        return match across {
            Some(_) => (Verdict::Pass, thing, format!("its other end is {peer}")),
            None => (Verdict::Stop, thing, format!("it leads to {peer} alone")),
        };
    }
    if let Some(device) = to
        && let Kind::Pair(peer) = &device.config.kind
    {
        let thing = format!("pair {}", device.config.name);
        return (Verdict::Stop, thing, format!("only {peer} leads to it"));
    }
    if let Some(via) = via {
        return router(snapshot, from, via, to.is_some());
    }
    match (from, to) {
        (Some(from), Some(to)) => switched(from, to),
        (Some(device), None) | (None, Some(device)) => {
            let detail = match tag(device) {
                0 => "the rest of the way is outside".into(),
                tag => format!("with VLAN tag {tag}; the rest of the way is outside"),
            };
            (Verdict::Pass, wire(device), detail)
        }
        (None, None) => (Verdict::Unknown, "outside".into(), String::new()),
    }
}

fn router(snapshot: &Snapshot, from: Option<&DevNet>, via: IpAddr, inside: bool) -> Finding {
    let thing = format!("router {via}");
    if let Some(brane) = ends::owner(snapshot, via) {
        let detail = format!("it is brane {}, and branes do not forward", brane.name);
        return (Verdict::Stop, thing, detail);
    }
    match from {
        Some(from) if !inside => (
            Verdict::Pass,
            wire(from),
            format!("{thing} has the rest of the way, which is outside"),
        ),
        _ => (Verdict::Unknown, thing, "it is outside and decides".into()),
    }
}

/// Returns the path of a frame between two devices that are not ends of pairs.
fn switched(from: &DevNet, to: &DevNet) -> Finding {
    let (a, b) = (&from.config, &to.config);
    if a.nic != b.nic {
        let detail = format!("{} is at nic{}: only the outside connects them", b.name, b.nic);
        return (Verdict::Unknown, wire(from), detail);
    }
    let switch = format!("switch of nic{}", a.nic);
    let (one, other) = (tag(from), tag(to));
    if one != other {
        let vlan = |name: &str, tag| match tag {
            0 => format!("{name} has no VLAN"),
            tag => format!("{name} has VLAN {tag}"),
        };
        let detail = format!("{}, {}", vlan(&a.name, one), vlan(&b.name, other));
        return (Verdict::Stop, switch, detail);
    }
    for device in [a, b] {
        if device.mode == Mode::Private {
            let detail = format!("{} has mode private", device.name);
            return (Verdict::Stop, switch, detail);
        }
    }
    (Verdict::Pass, switch, format!("{} to {}", a.name, b.name))
}
