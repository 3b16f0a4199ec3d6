//! Converts answers to text for a person. Owns no state. The caller makes the text printable, because it may include text of
//! branes.

use crate::done;
use crate::json::{mode, origin};
use crate::refusals::Words;
use crate::table_layout::{Table, duration, milliseconds, rate};
use alloc::format;
use alloc::string::{String, ToString};
use brane_abi::control::{Counter, FamilyConfig, InterfaceStatus, Origin};
use brane_abi::log::Level;
use brane_abi::operator::{
    Answer, Audit, Brane, Cell, CounterGroup, DevNet, Event, Free, IfNet, Kind, LogLevel, LogLine, Receipt,
    Report, SubscriberInfo,
};
use brane_abi::query;

/// Converts an answer.
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done(done) => format!("{}\n", done::words(done)),
        Answer::Branes(branes) => list(branes),
        Answer::Brane(brane) => show(brane),
        Answer::Stats(groups) => stats(groups, false),
        Answer::Receipt(r) => receipt(r),
        Answer::Devices(list) => devices(list),
        Answer::Subscribers(list) => subscribers(list),
        Answer::Events(list) => list.iter().map(event).collect(),
        Answer::LogLevels(list) => levels(list),
        Answer::Logs(list) => list.iter().map(log_line).collect(),
        Answer::Audit(a) => audit(a),
        Answer::Saved(bytes) => format!("{} bytes of configuration\n", bytes.len()),
        Answer::Query(answer) => query_answer(answer),
        Answer::Names(n) => {
            let all = [&n.branes, &n.devices, &n.interfaces, &n.nics];
            all.into_iter().flatten().map(|n| format!("{n}\n")).collect()
        }
        Answer::Batch(parts) => {
            let part = |o: &brane_abi::operator::Outcome| match (&o.answer, &o.refusal) {
                (Some(a), _) => self::answer(a),
                (None, Some(refusal)) => format!("{}\n", refusal.words()),
                (None, None) => String::new(),
            };
            parts.iter().map(part).collect()
        }
        Answer::Report(report) => self::report(report),
        // A capture shows its frames and its end itself.
        Answer::Captured(end) => format!("{}\n", crate::capture::ended(*end)),
    }
}

/// Shows each fact in one line, then the rows in columns. Removes the ending `_us` of names.
fn report(report: &Report) -> String {
    let cell = |cell: &Cell| match cell {
        Cell::None => String::from("-"),
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Micros(us) => duration(*us),
    };
    let name = |name: &str| name.strip_suffix("_us").unwrap_or(name).to_string();
    let mut facts = Table::default();
    for (fact, value) in &report.facts {
        facts.row([name(fact), cell(value)]);
    }
    let mut rows = Table::default();
    rows.line(
        report
            .columns
            .iter()
            .map(|column| name(column).to_uppercase())
            .collect(),
    );
    for row in &report.rows {
        rows.line(row.iter().map(cell).collect());
    }
    facts.text("") + &rows.text("")
}

/// Returns `-` for an empty text.
fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    let mut out = String::new();
    for item in items {
        if !out.is_empty() {
            out += ", ";
        }
        out += &item.to_string();
    }
    out
}

fn list(branes: &[Brane]) -> String {
    let mut table = Table::new(["BRANE", "STATE", "RESTARTS", "INTERFACE", "MAC", "ADDRESSES"]);
    for brane in branes {
        let mut head = [
            format!("{}{}", brane.name, if brane.primary { " (primary)" } else { "" }),
            brane.state.clone(),
            brane.restarts.to_string(),
        ];
        let reported = brane.status.interfaces.iter().filter(|i| i.name != "lo0");
        let mut interfaces = reported.peekable();
        if interfaces.peek().is_none() {
            let [a, b, c] = core::mem::take(&mut head);
            table.row([a, b, c, "-".into(), "-".into(), "-".into()]);
        }
        for i in interfaces {
            let shown = i.addresses.iter().filter(|a| a.origin != Origin::Link);
            let [a, b, c] = core::mem::take(&mut head);
            table.row([
                a,
                b,
                c,
                i.name.clone(),
                i.mac.to_string(),
                or_dash(join(shown.map(|a| a.cidr))),
            ]);
        }
    }
    table.text("")
}

fn families(list: &[FamilyConfig]) -> String {
    let one = |f: &FamilyConfig| {
        let protocols = join(f.protocols.iter().map(|p| p.name()));
        format!("{} ({})", f.family.name(), or_dash(protocols))
    };
    join(list.iter().map(one))
}

fn show(brane: &Brane) -> String {
    let mut facts = Table::default();
    let mut fact = |name: &str, value: String| facts.row([name.into(), value]);
    fact(
        "number",
        format!("{}{}", brane.id, if brane.primary { " (primary)" } else { "" }),
    );
    fact("state", brane.state.clone());
    if !brane.families.is_empty() {
        fact("families", families(&brane.families));
    }
    fact("restarts", brane.restarts.to_string());
    fact("last fault", or_dash(brane.last_fault.clone()));
    if brane.recovery_us != 0 {
        fact("recovered in", milliseconds(brane.recovery_us));
    }
    if !brane.status.interfaces.is_empty() {
        fact("reported", format!("{} ms ago", brane.status_age_ms));
    }
    let mut out = format!("brane {}\n{}", brane.name, facts.text("  "));
    if brane.status.interfaces.is_empty() {
        out += "it has not reported yet\n";
    }
    for i in &brane.status.interfaces {
        out += &interface(i);
    }
    let own = CounterGroup {
        name: "counters".into(),
        counters: brane.status.counters.clone(),
    };
    let devices = brane.vifs.iter().map(|group| CounterGroup {
        name: format!("device {}", group.name),
        counters: group.counters.clone(),
    });
    let groups: alloc::vec::Vec<_> = core::iter::once(own).chain(devices).collect();
    out + &stats(&groups, false)
}

fn interface(i: &InterfaceStatus) -> String {
    let mut facts = Table::default();
    let mut fact = |name: &str, value: String| facts.row([name.into(), value]);
    if !i.device.is_empty() {
        fact("device", i.device.clone());
    }
    if i.mac.is_station() {
        fact("mac", i.mac.to_string());
    }
    fact("mtu", i.mtu.to_string());
    for a in &i.addresses {
        fact("address", format!("{} ({})", a.cidr, origin(a.origin)));
    }
    if let Some(ip) = i.gateway4 {
        fact("gateway4", ip.to_string());
    }
    if let Some(ip) = i.gateway6 {
        fact("gateway6", ip.to_string());
    }
    let up = if i.up { "up" } else { "down" };
    format!("interface {} is {up}\n{}", i.name, facts.text("  "))
}

fn counters<'a>(list: impl Iterator<Item = &'a Counter>) -> String {
    let mut table = Table::default();
    for c in list {
        table.row([c.name.clone(), c.value.to_string()]);
    }
    table.text("  ")
}

/// Converts counters. Omits counters that are 0, unless `zeros`.
pub fn stats(groups: &[CounterGroup], zeros: bool) -> String {
    let mut out = String::new();
    for CounterGroup { name, counters: all } in groups {
        let shown = counters(all.iter().filter(|c| zeros || c.value != 0));
        if !shown.is_empty() {
            out += &format!("{name}\n{shown}");
        }
    }
    if !zeros {
        out += "counters that are not listed are 0\n";
    }
    out
}

fn figures(f: &Free) -> [(&'static str, u64); 6] {
    [
        ("free slots", f.slots.into()),
        ("free ports", f.ports.into()),
        ("names in use", f.names.into()),
        ("MAC addresses in use", f.macs.into()),
        ("vifs in use", f.vifs.into()),
        ("bytes in use", f.bytes),
    ]
}

fn receipt(r: &Receipt) -> String {
    let mut table = Table::new(["", "BEFORE", "AFTER"]);
    for ((name, before), (_, after)) in figures(&r.before).into_iter().zip(figures(&r.after)) {
        table.row([name.into(), before.to_string(), after.to_string()]);
    }
    let home = if r.released.is_empty() {
        String::new()
    } else {
        format!("; released {}", join(&r.released))
    };
    format!(
        "{} is deleted: it took {}, {} connections were aborted{home}\n{}",
        r.name,
        milliseconds(r.took_us),
        r.aborted,
        table.text("  ")
    )
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Vlan(tag) => format!("vlan {tag}"),
        Kind::Pair(peer) => format!("pair with {peer}"),
        other => other.word().into(),
    }
}

fn owner(ifnet: &IfNet) -> String {
    let owner = ifnet.owner();
    owner.map_or("-".into(), |o| format!("{}/{}", o.brane, o.interface))
}

fn devices(list: &[DevNet]) -> String {
    let mut table = Table::new(["DEVICE", "KIND", "NIC", "MAC", "MODE", "STATE", "OWNER"]);
    for DevNet { config: c, ifnet } in list {
        let nic = match c.kind {
            Kind::Pair(_) | Kind::Lo => "-".into(),
            _ => format!("nic{}", c.nic),
        };
        table.row([
            c.name.clone(),
            kind(&c.kind),
            nic,
            c.mac.map_or("-".into(), |m| m.to_string()),
            mode(c.mode).into(),
            ifnet.state().into(),
            owner(ifnet),
        ]);
    }
    table.text("")
}

/// One device in full.
pub fn device(d: &DevNet) -> String {
    let c = &d.config;
    let mut facts = Table::default();
    let mut fact = |name: &str, value: String| facts.row([name.into(), value]);
    fact("kind", kind(&c.kind));
    if !matches!(c.kind, Kind::Pair(_) | Kind::Lo) {
        fact("nic", format!("nic{}", c.nic));
    }
    if let Some(mac) = c.mac {
        fact("mac", mac.to_string());
    }
    fact("state", d.ifnet.state().into());
    fact("owner", owner(&d.ifnet));
    fact("mode", mode(c.mode).into());
    fact(
        "allowed",
        if c.allow.is_empty() {
            "anything".into()
        } else {
            join(&c.allow)
        },
    );
    let limit = |r: Option<u64>| r.map_or("no limit".into(), |r| format!("{} bytes per second", rate(r)));
    fact("rate up", limit(c.rate_up));
    fact("rate down", limit(c.rate_down));
    format!("device {}\n{}", c.name, facts.text("  "))
}

fn subscribers(list: &[SubscriberInfo]) -> String {
    if list.is_empty() {
        return "no subscribers\n".into();
    }
    let mut table = Table::new([
        "SUBSCRIBER",
        "BRANE",
        "FAMILY",
        "PROTOCOLS",
        "TRANSITIONS",
        "NOTIFIED",
        "QUARANTINED",
    ]);
    for h in list {
        table.row([
            h.subscriber.clone(),
            h.brane.clone().unwrap_or_else(|| "all".into()),
            h.family.map_or("all".into(), |f| f.name().into()),
            or_dash(join(&h.protocols)),
            join(&h.transitions),
            h.notified.to_string(),
            or_dash(h.quarantined.clone()),
        ]);
    }
    table.text("")
}

fn levels(list: &[LogLevel]) -> String {
    let mut table = Table::new(["PD", "LEVEL"]);
    for entry in list {
        table.row([entry.pd.clone(), entry.level.name().into()]);
    }
    table.text("")
}

/// Converts a line of a log: number, time, domain, level if it is not `info`, text.
pub fn log_line(line: &LogLine) -> String {
    let seconds = format!("{}.{:03}", line.at_us / 1_000_000, line.at_us / 1000 % 1000);
    let level = match line.level {
        Level::Info => String::new(),
        other => format!("{}: ", other.name()),
    };
    format!(
        "{:>6}  {seconds:>10} s  [{}] {level}{}\n",
        line.number, line.pd, line.text
    )
}

/// Converts an event to one line.
pub fn event(e: &Event) -> String {
    let seconds = format!("{}.{:03}", e.at_us / 1_000_000, e.at_us / 1000 % 1000);
    let mut out = format!("{:>6}  {seconds:>10} s  {}", e.number, e.what);
    for thing in [&e.brane, &e.device].into_iter().flatten() {
        out += &format!(" {thing}");
    }
    if !e.detail.is_empty() {
        out += &format!(": {}", e.detail);
    }
    out.push('\n');
    out
}

fn audit(a: &Audit) -> String {
    let mut out = match a.findings.len() {
        0 => format!("clean: {} devices, {} branes\n", a.devices, a.branes),
        1 => "1 disagreement:\n".into(),
        n => format!("{n} disagreements:\n"),
    };
    for finding in &a.findings {
        out += &format!("  {finding}\n");
    }
    if !a.silent.is_empty() {
        out += &format!("did not answer in time: {}\n", join(&a.silent));
    }
    let mut table = Table::default();
    for (name, value) in figures(&a.free) {
        table.row([name.into(), value.to_string()]);
    }
    out + &table.text("  ")
}

/// Converts a brane's answer to a query.
fn query_answer(answer: &query::Answer) -> String {
    match answer {
        query::Answer::Refused(why) => format!("{}\n", why.words()),
        query::Answer::Interfaces(list) => list.iter().map(ifconfig).collect(),
        query::Answer::Routes(list) => {
            let mut table = Table::new(["DESTINATION", "GATEWAY", "INTERFACE"]);
            for r in list {
                let to = if r.to.prefix == 0 {
                    "default".into()
                } else {
                    r.to.to_string()
                };
                table.row([
                    to,
                    r.via.map_or("link".into(), |v| v.to_string()),
                    r.interface.clone(),
                ]);
            }
            table.text("")
        }
        query::Answer::Neighbours(list, _) => {
            let mut table = Table::new(["ADDRESS", "MAC", "INTERFACE", "EXPIRES"]);
            for n in list {
                let expires = format!("{} s", n.expires_ms / 1000);
                table.row([n.ip.to_string(), n.mac.to_string(), n.interface.clone(), expires]);
            }
            table.text("")
        }
        query::Answer::Sockets(list, _) => {
            let mut table = Table::new(["PROTO", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE", "STATE"]);
            for s in list {
                table.row([
                    s.protocol.name().into(),
                    s.receive_queue.to_string(),
                    s.send_queue.to_string(),
                    s.local.to_string(),
                    s.remote.map_or("*".into(), |r| r.to_string()),
                    s.state.clone(),
                ]);
            }
            table.text("")
        }
        query::Answer::Protocols(list) => {
            let one = |p: &query::ProtocolStatus| {
                let head = format!("{} {} ({})\n", p.family.name(), p.protocol.name(), p.state);
                head + &counters(p.counters.iter())
            };
            list.iter().map(one).collect()
        }
        query::Answer::Echo {
            from,
            size,
            ttl,
            rtt_us,
        } => {
            format!(
                "{size} bytes from {from}: ttl={ttl} time={}\n",
                milliseconds((*rtt_us).into())
            )
        }
        query::Answer::Captured { frames, dropped, .. } => {
            format!("{} frames, {dropped} dropped\n", frames.len())
        }
        query::Answer::Filter(list, _) if list.is_empty() => "no rules: every packet passes\n".into(),
        query::Answer::Filter(list, _) => {
            let mut table = Table::new(["NUMBER", "PACKETS", "BYTES", "RULE"]);
            for (status, number) in list.iter().zip(1u32..) {
                table.row([
                    number.to_string(),
                    status.packets.to_string(),
                    status.bytes.to_string(),
                    branes_pfil::print(&status.rule),
                ]);
            }
            table.text("")
        }
        query::Answer::Host(list) if list.is_empty() => "the name has no address\n".into(),
        query::Answer::Host(list) => list.iter().map(|ip| format!("{ip}\n")).collect(),
    }
}

fn ifconfig(i: &InterfaceStatus) -> String {
    let up = if i.up { "UP" } else { "DOWN" };
    let mut out = format!("{}: {up} mtu {}\n", i.name, i.mtu);
    if i.mac.is_station() {
        out += &format!("\tether {}\n", i.mac);
    }
    for a in &i.addresses {
        let family = if a.cidr.ip.is_ipv4() { "inet" } else { "inet6" };
        out += &format!("\t{family} {} ({})\n", a.cidr, origin(a.origin));
    }
    out
}
