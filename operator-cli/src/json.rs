//! Converts answers to JSON, one object for each. The schemas ([`crate::schema`]) define the fields. Owns no state.

use crate::done;
use crate::error::Error;
use crate::refusals::Words;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{AddressStatus, Counter, FamilyConfig, InterfaceConfig, InterfaceStatus, Origin};
use brane_abi::filter::RuleStatus;
use brane_abi::operator::{
    Answer, Brane, Cell, CounterGroup, DevNet, Event, Free, Kind, LogLevel, LogLine, Mode, Report,
};
use brane_abi::query;
use serde_json::{Map, Value, json};

fn texts(items: impl IntoIterator<Item = impl ToString>) -> Vec<Value> {
    items.into_iter().map(|i| Value::String(i.to_string())).collect()
}

fn text(item: Option<impl ToString>) -> Value {
    item.map_or(Value::Null, |i| Value::String(i.to_string()))
}

fn all<T>(items: &[T], one: fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(one).collect())
}

/// Converts an error.
pub fn error(e: &Error) -> Value {
    json!({"error": {"code": e.code, "what": e.what, "fix": e.fix}})
}

/// Converts an answer. The session shows events one by one with [`event`].
pub fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Done(what) => json!({"done": done::words(what), "code": done::code(what)}),
        Answer::Branes(list) => json!({"branes": all(list, brane)}),
        Answer::Brane(b) => brane(b),
        Answer::Stats(groups) => json!({"groups": all(groups, group)}),
        Answer::Receipt(r) => json!({
            "name": r.name, "before": free(&r.before), "after": free(&r.after), "took_us": r.took_us, "aborted": r.aborted,
            "released": texts(&r.released),
        }),
        Answer::Devices(list) => json!({"devices": all(list, device)}),
        Answer::Subscribers(list) => {
            let subscriber = |h: &brane_abi::operator::SubscriberInfo| {
                json!({
                    "subscriber": h.subscriber, "brane": text(h.brane.as_ref()),
                    "family": text(h.family.map(|f| f.name())), "transitions": texts(&h.transitions),
                    "protocols": texts(&h.protocols), "notified": h.notified, "quarantined": h.quarantined,
                })
            };
            json!({"subscribers": all(list, subscriber)})
        }
        Answer::Events(list) => json!({"events": all(list, event)}),
        Answer::LogLevels(list) => {
            let level = |l: &LogLevel| json!({"pd": l.pd, "level": l.level.name()});
            json!({"levels": all(list, level)})
        }
        Answer::Logs(list) => json!({"lines": all(list, log_line)}),
        Answer::Audit(a) => json!({
            "clean": a.findings.is_empty(), "devices": a.devices, "branes": a.branes, "silent": texts(&a.silent),
            "findings": texts(&a.findings), "free": free(&a.free),
        }),
        Answer::Saved(bytes) => json!({"bytes": bytes.len()}),
        Answer::Query(answer) => query_answer(answer),
        Answer::Names(n) => json!({
            "branes": texts(&n.branes), "devices": texts(&n.devices), "interfaces": texts(&n.interfaces),
            "nics": texts(&n.nics), "logs": texts(&n.logs),
        }),
        Answer::Batch(parts) => {
            let part = |o: &brane_abi::operator::Outcome| {
                let said = match (&o.answer, &o.refusal) {
                    (Some(a), _) => self::answer(a),
                    (None, Some(refusal)) => error(&refusal.words()),
                    (None, None) => Value::Null,
                };
                json!({"at_us": o.at_us, "answer": said})
            };
            json!({"batch": all(parts, part)})
        }
        Answer::Report(report) => self::report(report),
        // A capture shows its frames and its end itself.
        Answer::Captured(end) => json!({"ended": crate::capture::ended(*end)}),
    }
}

/// Converts a line of a log.
pub fn log_line(l: &LogLine) -> Value {
    json!({"number": l.number, "at_us": l.at_us, "pd": l.pd, "level": l.level.name(), "text": l.text})
}

fn report(report: &Report) -> Value {
    let cell = |cell: &Cell| match cell {
        Cell::None => Value::Null,
        Cell::Text(text) => json!(text),
        Cell::Number(number) | Cell::Micros(number) => json!(number),
    };
    let facts: Map<String, Value> = report
        .facts
        .iter()
        .map(|(name, value)| (name.clone(), cell(value)))
        .collect();
    let row = |row: &Vec<Cell>| -> Value {
        let cells = report.columns.iter().zip(row);
        Value::Object(cells.map(|(name, value)| (name.clone(), cell(value))).collect())
    };
    let rows: Vec<Value> = report.rows.iter().map(row).collect();
    json!({"facts": facts, "rows": rows})
}

/// Converts an event.
pub fn event(e: &Event) -> Value {
    json!({
        "number": e.number, "at_us": e.at_us, "what": e.what, "brane": text(e.brane.as_ref()),
        "device": text(e.device.as_ref()), "detail": e.detail,
    })
}

/// A device.
pub fn device(d: &DevNet) -> Value {
    let c = &d.config;
    let (tag, peer) = match &c.kind {
        Kind::Vlan(tag) => (json!(tag), Value::Null),
        Kind::Pair(peer) => (Value::Null, json!(peer)),
        _ => (Value::Null, Value::Null),
    };
    json!({
        "name": c.name, "kind": c.kind.word(), "nic": format!("nic{}", c.nic), "tag": tag, "peer": peer,
        "mac": text(c.mac), "mode": mode(c.mode), "allow": texts(&c.allow), "rate_up": c.rate_up, "rate_down": c.rate_down,
        "state": d.ifnet.state(), "owner": d.ifnet.owner().map(|o| json!({"brane": o.brane, "interface": o.interface})),
    })
}

/// Returns the mode in one word.
pub const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Bridge => "bridge",
        Mode::Private => "private",
    }
}

/// Returns the origin in one word.
pub const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "static",
        Origin::Dhcp => "dhcp",
        Origin::Slaac => "slaac",
        Origin::Link => "link",
    }
}

fn brane(b: &Brane) -> Value {
    json!({
        "id": b.id, "name": b.name, "primary": b.primary, "state": b.state, "restarts": b.restarts,
        "last_fault": b.last_fault, "recovery_us": b.recovery_us, "status_age_ms": b.status_age_ms,
        "families": all(&b.families, family), "wanted": all(&b.interfaces, wanted),
        "interfaces": all(&b.status.interfaces, interface), "counters": counters(&b.status.counters),
        "devices": all(&b.vifs, group),
    })
}

fn family(f: &FamilyConfig) -> Value {
    json!({"family": f.family.name(), "protocols": texts(f.protocols.iter().map(|p| p.name()))})
}

fn wanted(i: &InterfaceConfig) -> Value {
    json!({
        "name": i.name, "device": i.device, "port": i.port, "mac": i.mac.to_string(), "addresses": texts(&i.addresses),
        "gateway4": text(i.gateway4), "gateway6": text(i.gateway6), "dhcp4": i.dhcp4, "slaac": i.slaac,
    })
}

fn interface(i: &InterfaceStatus) -> Value {
    let address = |a: &AddressStatus| json!({"address": a.cidr.to_string(), "origin": origin(a.origin)});
    json!({
        "name": i.name, "device": i.device, "mac": text(Some(i.mac).filter(|m| m.is_station())), "mtu": i.mtu, "up": i.up,
        "addresses": all(&i.addresses, address), "gateway4": text(i.gateway4), "gateway6": text(i.gateway6),
    })
}

fn counters(list: &[Counter]) -> Value {
    let mut map = Map::new();
    for c in list {
        map.insert(c.name.clone(), c.value.into());
    }
    Value::Object(map)
}

fn group(g: &CounterGroup) -> Value {
    json!({"name": g.name, "counters": counters(&g.counters)})
}

fn free(f: &Free) -> Value {
    json!({"slots": f.slots, "ports": f.ports, "names": f.names, "macs": f.macs, "vifs": f.vifs, "bytes": f.bytes})
}

fn query_answer(answer: &query::Answer) -> Value {
    match answer {
        query::Answer::Refused(why) => error(&why.words()),
        query::Answer::Interfaces(list) => json!({"interfaces": all(list, interface)}),
        query::Answer::Routes(list) => {
            let route = |r: &query::Route| json!({"to": r.to.to_string(), "via": text(r.via), "interface": r.interface});
            json!({"routes": all(list, route)})
        }
        query::Answer::Neighbours(list, _) => {
            let neighbour = |n: &query::Neighbour| {
                json!({
                    "ip": n.ip.to_string(), "mac": n.mac.to_string(), "interface": n.interface, "expires_ms": n.expires_ms,
                })
            };
            json!({"neighbours": all(list, neighbour)})
        }
        query::Answer::Sockets(list, _) => {
            let socket = |s: &query::Socket| {
                json!({
                    "protocol": s.protocol.name(), "local": s.local.to_string(), "remote": text(s.remote), "state": s.state,
                    "receive_queue": s.receive_queue, "send_queue": s.send_queue,
                })
            };
            json!({"sockets": all(list, socket)})
        }
        query::Answer::Protocols(list) => {
            let protocol = |p: &query::ProtocolStatus| {
                json!({
                    "family": p.family.name(), "protocol": p.protocol.name(), "state": p.state,
                    "counters": counters(&p.counters),
                })
            };
            json!({"protocols": all(list, protocol)})
        }
        query::Answer::Echo {
            from,
            size,
            ttl,
            rtt_us,
        } => {
            json!({"from": from.to_string(), "size": size, "ttl": ttl, "rtt_us": rtt_us})
        }
        query::Answer::Host(list) => json!({"addresses": texts(list)}),
        query::Answer::Captured { frames, dropped, .. } => {
            json!({"frames": frames.len(), "dropped": dropped})
        }
        query::Answer::Filter(list, _) => {
            let rule = |(status, number): (&RuleStatus, u32)| {
                json!({
                    "number": number, "packets": status.packets, "bytes": status.bytes,
                    "rule": branes_pfil::print(&status.rule),
                })
            };
            json!({"rules": list.iter().zip(1..).map(rule).collect::<Vec<Value>>()})
        }
    }
}
