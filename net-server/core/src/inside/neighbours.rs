//! What an interface has heard of its neighbours' link-layer addresses.
//!
//! smoltcp keeps the table that frames are sent by, and does not show it. This is the brane's own record of what smoltcp
//! learns from: ARP (RFC 826) and neighbour discovery (RFC 4861) that is meant for us. Any host can send these; the record
//! decides nothing, and is bounded.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// As many as smoltcp knows (see `Cargo.toml`).
const LIMIT: usize = 128;
/// How long smoltcp believes in one, in nanoseconds.
const LIFE: u64 = 60_000_000_000;

/// One neighbour.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// When it is asked for anew.
    pub until: u64,
}

/// Those that an interface has heard of.
#[derive(Debug, Default)]
pub struct Neighbours(Vec<Heard>);

impl Neighbours {
    /// Forgets all, as smoltcp does when addresses change.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those that are still believed in.
    pub fn iter(&self, now: u64) -> impl Iterator<Item = &Heard> {
        self.0.iter().filter(move |heard| heard.until > now)
    }

    fn put(&mut self, now: u64, ip: IpAddr, mac: [u8; 6]) {
        let until = now + LIFE;
        if mac[0] & 1 != 0 || ip.is_unspecified() || ip.is_multicast() {
            return;
        }
        if let Some(heard) = self.0.iter_mut().find(|heard| heard.ip == ip) {
            (heard.mac, heard.until) = (mac, until);
            return;
        }
        if self.0.len() >= LIMIT
            && let Some(oldest) = (0..self.0.len()).min_by_key(|at| self.0[*at].until)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(Heard { ip, mac, until });
    }

    /// Looks at a frame of ARP or neighbour discovery. `ours` says which addresses are the interface's own.
    pub fn hear(&mut self, now: u64, frame: &[u8], ours: impl Fn(IpAddr) -> bool) {
        let Some(body) = frame.get(14..) else {
            return;
        };
        if frame[12..14] == [8, 6] {
            let (Some(mac), Some(ip), Some(to)) =
                (chunk::<6>(body, 8), chunk::<4>(body, 14), chunk::<4>(body, 24))
            else {
                return;
            };
            if ours(Ipv4Addr::from(to).into()) {
                self.put(now, Ipv4Addr::from(ip).into(), mac);
            }
            return;
        }
        let (Some(src), Some(kind), Some(target)) =
            (chunk::<16>(body, 8), body.get(40), chunk::<16>(body, 48))
        else {
            return;
        };
        // Solicitation of ours with its sender's address (option 1), or advertisement with its target's (option 2).
        let option = match kind {
            135 if ours(Ipv6Addr::from(target).into()) => 1,
            136 => 2,
            _ => return,
        };
        if body.get(7) == Some(&255)
            && let Some([what, 1, mac @ ..]) = chunk::<8>(body, 64)
            && what == option
        {
            self.put(now, Ipv6Addr::from(src).into(), mac);
        }
    }
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
