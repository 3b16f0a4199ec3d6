//! Library of the image tests: booting the image, network namespaces, a host peer that sends exact frames,
//! probes.
//!
//! The image under test is the real one, written by `cargo xtask image`. This library runs on the host and uses
//! wire protocols and the console. Traffic stays on loopback and in namespaces that a test makes itself.

pub use branes_bench::netns;
pub use patience::{ANSWER, PATIENCE, SILENCE, until, until_well};

use std::net::{Ipv4Addr, Ipv6Addr};

pub mod capture;
pub mod flood;
pub mod guest;
pub mod lifecycle;
pub mod line;
pub mod patience;
pub mod ping;
pub mod probe;
pub mod wire;
pub mod wire6;

/// A brane of the default boot configuration (`brane-manager/branes.toml`), with its public addresses.
#[derive(Clone, Copy, Debug)]
pub struct Brane {
    pub name: &'static str,
    /// The IPv4 address of its first interface.
    pub v4: Ipv4Addr,
    /// The static IPv6 address of its first interface.
    pub v6: Ipv6Addr,
    /// The MAC address of its first interface.
    pub mac: &'static str,
}

const fn brane(name: &'static str, last: u8, mac: &'static str) -> Brane {
    let v6 = Ipv6Addr::new(
        0xfec0,
        0,
        0,
        0,
        0,
        0,
        0,
        ((last / 10) as u16) << 4 | (last % 10) as u16,
    );
    Brane {
        name,
        v4: Ipv4Addr::new(10, 0, 2, last),
        v6,
        mac,
    }
}

/// main, red and blue.
pub const BRANES: [Brane; 3] = [
    brane("main", 15, "02:77:00:00:00:00"),
    brane("red", 16, "02:77:00:00:00:01"),
    brane("blue", 17, "02:77:00:00:00:02"),
];
