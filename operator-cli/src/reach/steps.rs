//! The steps of the way, in the order in which the traffic takes them. Owns no state beside a way under evaluation.

use super::devices::{self, Attached};
use super::ends::{self, End};
use super::gate::Finding;
use super::sides::{Ended, Going, Leaving, Side, note, route};
use super::{Explanation, Snapshot, Step, Traffic, Verdict, Why, packets, routes};
use crate::error::Error;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::{Family, InterfaceStatus};
use brane_abi::filter::Direction;
use brane_abi::operator::Brane;
use core::net::IpAddr;

/// Explains which thing lets the traffic pass, and which thing stops it. Fails if a name does not exist.
pub fn why(snapshot: &Snapshot, why: &Why) -> Result<Explanation, Error> {
    let (from, to) = End::both(snapshot, &why.from, &why.to)?;
    let family = End::family(&from, &to);
    Ok(explain(snapshot, &from, &to, family, why.traffic))
}

/// Evaluates all steps between two ends.
pub(super) fn explain(
    snapshot: &Snapshot,
    from: &End<'_>,
    to: &End<'_>,
    family: Family,
    traffic: Traffic,
) -> Explanation {
    let mut way = Way {
        snapshot,
        traffic,
        family,
        from: Side::new(snapshot, from),
        to: Side::new(snapshot, to),
        steps: Vec::new(),
        source: from.address,
        destination: to.address.or_else(|| to.first(family)),
    };
    // The end of the way is its last step.
    let _ = way.go();
    Explanation {
        from: from.name.clone(),
        to: to.name.clone(),
        traffic,
        source: way.source,
        destination: way.destination,
        steps: way.steps,
    }
}

struct Way<'a> {
    snapshot: &'a Snapshot,
    traffic: Traffic,
    family: Family,
    from: Side<'a>,
    to: Side<'a>,
    steps: Vec<Step>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
}

impl Way<'_> {
    fn go(&mut self) -> Going {
        let (from, to) = (self.from.brane, self.to.brane);
        if let Some(brane) = from {
            self.started(brane)?;
        }
        if let Some(brane) = to.filter(|to| from.is_none_or(|from| from.name != to.name)) {
            self.started(brane)?;
        }
        let Some(destination) = self.destination else {
            return self.no_address();
        };
        if let (Some(from), Some(to)) = (from, to)
            && from.name == to.name
        {
            return self.inside(from, destination);
        }
        let (out, source) = self.leave(destination)?;
        let back = self.arrive(out.as_ref(), source, destination)?;
        self.back(out.as_ref(), back.as_ref(), source, destination)
    }

    /// Checks that a brane is started and has the family and the protocol.
    fn started(&mut self, brane: &Brane) -> Going {
        let protocol = self.traffic.protocol(self.family);
        let (family, protocol) = (self.family, protocol);
        let config = brane.families.iter().find(|config| config.family == family);
        let (verdict, detail) = match config {
            _ if !ends::started(brane) => (
                Verdict::Stop,
                format!("not started: its state is {}", brane.state),
            ),
            None => (Verdict::Stop, format!("it has no {}", family.name())),
            Some(config) if !config.protocols.contains(&protocol) => (
                Verdict::Stop,
                format!("its {} has no {}", family.name(), protocol.name()),
            ),
            Some(_) => (
                Verdict::Pass,
                format!("started, with {} and {}", family.name(), protocol.name()),
            ),
        };
        let name = brane.name.clone();
        note(&mut self.steps, "brane", &brane.name, (verdict, name, detail))
    }

    fn no_address(&mut self) -> Going {
        let (family, end) = (self.family.name(), self.to.end);
        let brane = end.brane.map_or("", |brane| brane.name.as_str());
        let thing = match &end.interface {
            Some(interface) => interface.clone(),
            None => brane.to_string(),
        };
        let wired = self.to.interfaces.iter().any(|interface| interface.name != "lo0");
        let (step, detail) = match wired {
            true => ("address", format!("it has no {family} address")),
            false => ("interface", "it has no interface besides lo0".into()),
        };
        note(&mut self.steps, step, brane, (Verdict::Stop, thing, detail))
    }

    /// Evaluates traffic of a brane to itself, which passes its filter twice at `lo0`.
    fn inside(&mut self, brane: &Brane, destination: IpAddr) -> Going {
        let name = &brane.name;
        let lo0 = "lo0";
        let own = destination.is_loopback() || self.to.owner_of(destination).is_some();
        let detail = format!("{destination} is an address of the brane itself");
        if !own {
            let missing = (
                Verdict::Stop,
                name.clone(),
                format!("it does not have {destination}"),
            );
            return note(&mut self.steps, "address", name, missing);
        }
        note(
            &mut self.steps,
            "route",
            name,
            (Verdict::Pass, lo0.into(), detail),
        )?;
        self.source = Some(destination);
        let (request, reply) = self.packets(destination, destination);
        self.connects(name, lo0, &request)?;
        let gate = &mut self.from.gate;
        for (step, direction, packet) in [
            ("filter-out", Direction::Out, &request),
            ("filter-in", Direction::In, &request),
        ] {
            note(&mut self.steps, step, name, gate.decide(direction, lo0, packet))?;
        }
        self.listener(name, destination)?;
        accepts(
            &mut self.steps,
            &mut self.from,
            (name, lo0, self.traffic),
            &request,
        )?;
        let gate = &mut self.from.gate;
        for (step, direction) in [
            ("reply-filter-out", Direction::Out),
            ("reply-filter-in", Direction::In),
        ] {
            note(&mut self.steps, step, name, gate.decide(direction, lo0, &reply))?;
        }
        Ok(())
    }

    /// Evaluates the sender's rules for `connect`, if it has any. The first packet of TCP has what such rules see.
    fn connects(&mut self, name: &str, interface: &str, request: &[u8]) -> Going {
        let gate = &mut self.from.gate;
        if !matches!(self.traffic, Traffic::Tcp(_)) || !gate.has(Direction::Connect) {
            return Ok(());
        }
        let finding = gate.decide(Direction::Connect, interface, request);
        note(&mut self.steps, "filter-connect", name, finding)
    }

    /// Returns the first packet and its answer. Both are empty if the addresses are of different families.
    fn packets(&self, source: IpAddr, destination: IpAddr) -> (Vec<u8>, Vec<u8>) {
        let request = packets::request(self.traffic, source, destination);
        let reply = packets::reply(self.traffic, source, destination);
        (request.unwrap_or_default(), reply.unwrap_or_default())
    }

    /// Evaluates the sender's side up to its device. Returns the way out and the source address.
    fn leave(&mut self, destination: IpAddr) -> Going<(Option<Leaving>, IpAddr)> {
        let Some(brane) = self.from.brane else {
            let source = self.source.ok_or(Ended)?;
            return Ok((None, source));
        };
        let name = &brane.name;
        let (finding, leaving) = route(&self.from, destination, None);
        let Some(leaving) = leaving else {
            return note(&mut self.steps, "route", name, finding).and(Err(Ended));
        };
        let interface = self
            .from
            .interface(&leaving.interface)
            .cloned()
            .unwrap_or_default();
        let wanted = self.from.end.interface.as_ref();
        let source = self.source.or_else(|| routes::source(&interface, destination));
        let finding = match (wanted.filter(|wanted| **wanted != interface.name), source) {
            (Some(wanted), _) => {
                let detail = format!("the route to {destination} leaves by {}", interface.name);
                (Verdict::Stop, wanted.clone(), detail)
            }
            (None, None) => {
                let detail = format!("it has no {} address", self.family.name());
                (Verdict::Stop, interface.name.clone(), detail)
            }
            (None, Some(source)) => (finding.0, finding.1, format!("{}, source {source}", finding.2)),
        };
        note(&mut self.steps, "route", name, finding)?;
        let source = source.ok_or(Ended)?;
        self.source = Some(source);
        let (request, _) = self.packets(source, destination);
        self.connects(name, &interface.name, &request)?;
        let finding = self.from.gate.decide(Direction::Out, &interface.name, &request);
        note(&mut self.steps, "filter-out", name, finding)?;
        let finding = self.neighbour(&interface, leaving.via.unwrap_or(destination));
        note(&mut self.steps, "neighbour", name, finding)?;
        self.device_out("source-guard", name, &interface, source)?;
        Ok((Some(leaving), source))
    }

    /// Evaluates the device that a packet leaves by.
    fn device_out(
        &mut self,
        step: &'static str,
        brane: &str,
        interface: &InterfaceStatus,
        source: IpAddr,
    ) -> Going {
        let Some(device) = self.snapshot.device(&interface.device) else {
            let detail = "the manager does not list the device".into();
            return note(
                &mut self.steps,
                step,
                brane,
                (Verdict::Unknown, interface.device.clone(), detail),
            );
        };
        note(&mut self.steps, step, brane, devices::guard(device, source))?;
        match devices::rate(device, true) {
            Some(limit) if step == "source-guard" => {
                let finding = (Verdict::Pass, device.config.name.clone(), limit);
                note(&mut self.steps, "rate", brane, finding)
            }
            _ => Ok(()),
        }
    }

    fn neighbour(&self, interface: &InterfaceStatus, hop: IpAddr) -> Finding {
        let thing = hop.to_string();
        let Some(all) = self.from.tables.and_then(|tables| tables.neighbours.as_ref()) else {
            return (Verdict::Unknown, thing, self.from.silent());
        };
        let Some(found) = all.iter().find(|n| n.ip == hop && n.interface == interface.name) else {
            return (
                Verdict::Unknown,
                thing,
                "not known yet: the brane asks for it".into(),
            );
        };
        let station = self.to.owner_of(hop).map(|interface| interface.mac);
        match station.filter(|mac| *mac != found.mac) {
            Some(mac) => {
                let seconds = found.expires_ms / 1000;
                let detail = format!(
                    "it is known as {}, but has {mac}; expires in {seconds} s",
                    found.mac
                );
                (Verdict::Stop, thing, detail)
            }
            None => (Verdict::Pass, thing, format!("{} is known", found.mac)),
        }
    }

    /// Evaluates the path and the receiver's side. Returns the interface at which the packet arrives, if the receiver is a brane.
    fn arrive(
        &mut self,
        out: Option<&Leaving>,
        source: IpAddr,
        destination: IpAddr,
    ) -> Going<Option<InterfaceStatus>> {
        let sender = self.from.brane.map(|brane| brane.name.clone());
        let receiver = self.to.brane.map(|brane| brane.name.clone());
        let via = out.and_then(|leaving| leaving.via);
        // A router that is the receiver itself is the end of the way.
        let at_router = via.and_then(|via| self.to.owner_of(via)).cloned();
        let via = via.filter(|_| at_router.is_none());
        let entry = at_router.or_else(|| self.to.owner_of(destination).cloned());
        let Some(entry) = entry.or_else(|| receiver.is_none().then(InterfaceStatus::default)) else {
            let name = receiver.unwrap_or_default();
            let missing = (
                Verdict::Stop,
                name.clone(),
                format!("it does not have {destination}"),
            );
            return note(&mut self.steps, "address", &name, missing).and(Err(Ended));
        };
        let left = out.and_then(|leaving| self.from.interface(&leaving.interface));
        let outgoing = left.map(|interface| (interface, self.snapshot.device(&interface.device)));
        let incoming = (&entry, self.snapshot.device(&entry.device));
        let finding = self.path(outgoing, via, receiver.is_some().then_some(incoming));
        let name = sender.as_ref().or(receiver.as_ref()).cloned().unwrap_or_default();
        note(&mut self.steps, "path", &name, finding)?;
        let Some(name) = receiver else {
            return Ok(None);
        };
        self.bound(&name, &entry)?;
        let (verdict, detail) = match ends::owns(&entry, destination) {
            true => (Verdict::Pass, format!("{} has it", entry.name)),
            false => (
                Verdict::Stop,
                format!("the packet arrives at {}, which does not have it", entry.name),
            ),
        };
        note(
            &mut self.steps,
            "address",
            &name,
            (verdict, destination.to_string(), detail),
        )?;
        let (request, _) = self.packets(source, destination);
        let finding = self.to.gate.decide(Direction::In, &entry.name, &request);
        note(&mut self.steps, "filter-in", &name, finding)?;
        self.listener(&name, destination)?;
        let at = (name.as_str(), entry.name.as_str(), self.traffic);
        accepts(&mut self.steps, &mut self.to, at, &request)?;
        Ok(Some(entry))
    }

    fn path(&self, from: Option<Attached<'_>>, via: Option<IpAddr>, to: Option<Attached<'_>>) -> Finding {
        for (interface, device) in [from, to].into_iter().flatten() {
            if device.is_none() {
                let detail = "the manager does not list the device".into();
                return (Verdict::Unknown, interface.device.clone(), detail);
            }
        }
        let from = from.and_then(|(_, device)| device);
        let to = to.and_then(|(_, device)| device);
        devices::path(self.snapshot, from, via, to)
    }

    /// Checks that the receiver's device is the brane's, and that the interface is up.
    fn bound(&mut self, name: &str, entry: &InterfaceStatus) -> Going {
        let device = self.snapshot.device(&entry.device);
        let owner = device.and_then(|device| device.ifnet.owner());
        let (verdict, detail) = match owner {
            Some(owner) if owner.brane != name => (
                Verdict::Stop,
                format!("its device {} is in brane {}", entry.device, owner.brane),
            ),
            None => (
                Verdict::Stop,
                format!("its device {} is in no brane", entry.device),
            ),
            Some(_) if !entry.up => (Verdict::Stop, "down".into()),
            Some(_) => (Verdict::Pass, format!("up, device {}", entry.device)),
        };
        note(
            &mut self.steps,
            "interface",
            name,
            (verdict, entry.name.clone(), detail),
        )?;
        match device.and_then(|device| devices::rate(device, false)) {
            Some(limit) => note(
                &mut self.steps,
                "rate",
                name,
                (Verdict::Pass, entry.device.clone(), limit),
            ),
            None => Ok(()),
        }
    }

    /// Checks that a socket accepts the traffic. The brane itself answers echo requests.
    fn listener(&mut self, name: &str, destination: IpAddr) -> Going {
        let Some(port) = self.traffic.port() else {
            return Ok(());
        };
        let thing = format!("{} {port}", self.traffic.name());
        let finding = match self.to.tables.and_then(|tables| tables.listeners.as_ref()) {
            None => (Verdict::Unknown, thing, self.to.silent()),
            Some(all) => {
                let fits = |local: IpAddr| match local {
                    // An unspecified IPv6 address stands for both families.
                    IpAddr::V6(local) if local.is_unspecified() => true,
                    IpAddr::V4(local) if local.is_unspecified() => destination.is_ipv4(),
                    local => local == destination,
                };
                match all.iter().find(|socket| fits(socket.local.ip())) {
                    Some(socket) => (
                        Verdict::Pass,
                        thing,
                        format!("a socket listens at {}", socket.local),
                    ),
                    None => {
                        let detail = match all.first() {
                            Some(other) => format!("a socket listens only at {}", other.local),
                            None => "no socket listens".into(),
                        };
                        (Verdict::Stop, thing, detail)
                    }
                }
            }
        };
        note(&mut self.steps, "listener", name, finding)
    }

    /// Evaluates the way of the answer.
    fn back(
        &mut self,
        out: Option<&Leaving>,
        entry: Option<&InterfaceStatus>,
        source: IpAddr,
        destination: IpAddr,
    ) -> Going {
        let (_, reply) = self.packets(source, destination);
        if let (Some(brane), Some(entry)) = (self.to.brane, entry) {
            let name = &brane.name;
            // ICMP and TCP answer at the interface at which the packet arrived.
            let arrived = match self.traffic {
                Traffic::Udp(_) => None,
                Traffic::Icmp | Traffic::Tcp(_) => Some(entry.name.as_str()),
            };
            let (finding, leaving) = route(&self.to, source, arrived);
            note(&mut self.steps, "reply-route", name, finding)?;
            let leaving = leaving.ok_or(Ended)?;
            let finding = self.to.gate.decide(Direction::Out, &leaving.interface, &reply);
            note(&mut self.steps, "reply-filter-out", name, finding)?;
            let interface = self.to.interface(&leaving.interface).cloned().unwrap_or_default();
            self.device_out("reply-source-guard", name, &interface, destination)?;
            let via = leaving.via.filter(|via| self.from.owner_of(*via).is_none());
            let outgoing = (&interface, self.snapshot.device(&interface.device));
            let home = self.from.owner_of(source);
            let incoming = home.map(|home| (home, self.snapshot.device(&home.device)));
            let finding = self.path(Some(outgoing), via, incoming);
            note(&mut self.steps, "reply-path", name, finding)?;
        }
        if let (Some(brane), Some(out)) = (self.from.brane, out) {
            let name = &brane.name;
            let home = self.from.owner_of(source).map(|interface| interface.name.clone());
            let home = home.unwrap_or_else(|| out.interface.clone());
            let finding = self.from.gate.decide(Direction::In, &home, &reply);
            note(&mut self.steps, "reply-filter-in", name, finding)?;
        }
        Ok(())
    }
}

/// Evaluates a receiver's rules for `accept`, if it has any. `at` has the brane, the interface and the traffic.
fn accepts(steps: &mut Vec<Step>, side: &mut Side<'_>, at: (&str, &str, Traffic), request: &[u8]) -> Going {
    let (name, interface, traffic) = at;
    if !matches!(traffic, Traffic::Tcp(_)) || !side.gate.has(Direction::Accept) {
        return Ok(());
    }
    let finding = side.gate.decide(Direction::Accept, interface, request);
    note(steps, "filter-accept", name, finding)
}
