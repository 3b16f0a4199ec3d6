//! How a stack gets and uses its heads. Rules come from the manager (trusted); packets come from any host.

use super::{Outlet, Pfil};
use crate::headers::wire::{ETHERNET, number};
use crate::headers::{ends, is_ipv6};
use crate::ip::icmp_error::Cause;
use crate::stack::Stack;
use crate::transport::tcp::FlowKey;
use alloc::string::String;
use brane_abi::control::Family;
use brane_abi::filter::Rule;
use branes_pfil::chain::Verdict;

impl Stack {
    /// Replaces the rules of the brane's filter at once. Without rules, the filter is detached. An error leaves the old rules in
    /// force, and is the reason.
    pub fn set_filter(&mut self, now: u64, rules: &[Rule]) -> Result<(), String> {
        match &self.pfil {
            Some(pfil) if !rules.is_empty() || self.has_hooks() => pfil.replace(rules)?,
            None if !rules.is_empty() => {
                let pfil = Pfil::new(self.net.random(), &self.externals)
                    .ok_or("no memory for the table of flows")?;
                pfil.set_now(now);
                pfil.replace(rules)?;
                self.pfil = Some(pfil);
            }
            _ => self.pfil = None,
        }
        self.attach_outlets();
        Ok(())
    }

    /// Detaches the filter and all external hooks.
    pub fn detach_filter(&mut self) {
        self.pfil = None;
        for external in self.externals.0.iter() {
            external.borrow_mut().set(None);
        }
        self.attach_outlets();
    }

    /// Gives each interface its head for sent packets. Must be called when interfaces, their names or their ports change.
    pub fn attach_outlets(&mut self) {
        for (index, netif) in self.net.netifs.iter_mut() {
            let link = !netif.is_loopback();
            netif.tx.outlet = self.pfil.as_ref().map(|pfil| Outlet {
                pfil: pfil.clone(),
                index,
                interface: netif.name.clone(),
                link,
            });
        }
    }

    /// Returns true if a received frame may go on. If a hook rejects the packet, its sender is informed.
    /// `intact` is true if its transport checksum need not be verified.
    pub(crate) fn head_passes(&mut self, now: u64, index: usize, frame: &[u8], intact: bool) -> bool {
        let Some(pfil) = self.pfil.clone() else {
            return true;
        };
        let Some(netif) = self.net.netifs.get(index) else {
            return false;
        };
        let verdict = pfil.input(index, &netif.name, frame, !netif.is_loopback(), intact);
        match verdict {
            Verdict::Pass | Verdict::Modified => return true,
            // It waits for an external filter.
            Verdict::Absorb => return false,
            Verdict::Drop => {}
            Verdict::Reject => Pfil::exempt(Some(&pfil), || self.refuse_rejected(now, index, frame)),
        }
        self.net.counters.filter_dropped_in += 1;
        false
    }

    /// Answers a packet that an external filter has rejected.
    pub(super) fn answer_rejected(&mut self, now: u64, index: usize, frame: &[u8]) {
        let pfil = self.pfil.clone();
        Pfil::exempt(pfil.as_ref(), || self.refuse_rejected(now, index, frame));
    }

    /// Answers a rejected packet: a TCP segment with a reset, any other with an ICMP error.
    fn refuse_rejected(&mut self, now: u64, index: usize, frame: &[u8]) {
        let netif = &self.net.netifs[index];
        let (link, ipv6) = (!netif.is_loopback(), is_ipv6(frame, !netif.is_loopback()));
        let start = if link { ETHERNET } else { 0 };
        let protocol = frame.get(start + if ipv6 { 6 } else { 9 });
        let Some((src, dst)) = ends(frame, start) else {
            return;
        };
        // No answer to an address of the brane itself, which no other host can have, or about an address of another host.
        if link && (self.net.is_ours(src) || !netif.owns(dst)) {
            return;
        }
        let family = if ipv6 { Family::Inet6 } else { Family::Inet };
        match protocol {
            Some(&number::TCP) => self.tcp.refuse(now, &mut self.net, index, frame),
            Some(&number::UDP) => self.send_error(now, family, index, frame, Cause::Port),
            _ => self.send_error(now, family, index, frame, Cause::Prohibited),
        }
    }

    /// Sets the time that hooks see.
    pub fn set_time(&self, now: u64) {
        if let Some(pfil) = &self.pfil {
            pfil.set_now(now);
        }
    }

    /// Ends connections whose segments a hook has rejected on the way out. Their clients get `REFUSED` or a reset.
    pub fn end_refused(&mut self) {
        let Some(pfil) = &self.pfil else {
            return;
        };
        for (index, packet) in pfil.take_refused() {
            if let Some(key) = flow(index, &packet) {
                self.tcp.abort_flow(&key);
            }
        }
    }
}

/// Returns the connection that a segment of the brane belongs to. `packet` is the beginning of its IP packet.
fn flow(index: usize, packet: &[u8]) -> Option<FlowKey> {
    let first = *packet.first()?;
    let (protocol, header) = match first >> 4 {
        4 => (*packet.get(9)?, usize::from(first & 15) * 4),
        _ => (*packet.get(6)?, 40),
    };
    let (local, remote) = ends(packet, 0)?;
    let ports = packet.get(header..)?.first_chunk::<4>()?;
    (protocol == number::TCP).then_some(FlowKey {
        netif: index,
        local,
        remote,
        local_port: u16::from_be_bytes([ports[0], ports[1]]),
        remote_port: u16::from_be_bytes([ports[2], ports[3]]),
    })
}
