//! Ids, symbols, interrupts, I/O ports, channels and calls.

use super::unknown_pd;
use crate::*;
use std::collections::{HashMap, HashSet};

/// Checks ids, symbols, interrupts, I/O ports, channels and calls.
pub fn check(system: &System, errors: &mut Errors) {
    for pd in &system.protection_domains {
        ids(system, pd, errors);
        setvars(system, pd, errors);
        capabilities(system, pd, errors);
        family(system, pd, errors);
    }
    interrupts(system, errors);
    ports(system, errors);
    for channel in &system.channels {
        self::channel(system, channel, errors);
    }
}

fn ids(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let channels = system.ends(&pd.name).map(|(own, _)| (own.id, own.position));
    let irqs = pd.irqs.iter().map(|irq| (irq.id, irq.position));
    let kind = "channels or interrupts";
    duplicate("duplicate-id", kind, pd, channels.chain(irqs), errors);
    let ports = pd.ioports.iter().map(|port| (port.id, port.position));
    duplicate("duplicate-id", "I/O ports", pd, ports, errors);
    let children = system.children(&pd.name);
    let children = children.filter_map(|child| Some((child.child_id?, child.position)));
    duplicate("duplicate-child-id", "children", pd, children, errors);
}

fn duplicate(
    rule: &'static str,
    kind: &str,
    pd: &ProtectionDomain,
    ids: impl Iterator<Item = (u8, Position)>,
    errors: &mut Errors,
) {
    let mut seen = HashSet::new();
    for (id, position) in ids {
        if !seen.insert(id) {
            let what = format!("`{}` has two {kind} with id {id}", pd.name);
            errors.add(rule, position, what, "give each an id of its own");
        }
    }
}

/// Checks the symbols of a protection domain's image that receive a value.
fn setvars(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let mut symbols: Vec<(&str, Position)> = Vec::new();
    for setvar in &pd.setvars {
        symbols.push((&setvar.symbol, setvar.position));
    }
    let mut optional: Vec<(&Option<String>, Position)> = Vec::new();
    for map in &pd.maps {
        let all = [&map.setvar_vaddr, &map.setvar_size, &map.setvar_prefill_size];
        optional.extend(all.map(|symbol| (symbol, map.position)));
    }
    optional.extend(pd.irqs.iter().map(|irq| (&irq.setvar_id, irq.position)));
    for port in &pd.ioports {
        optional.extend([&port.setvar_id, &port.setvar_addr].map(|symbol| (symbol, port.position)));
    }
    optional.extend(
        system
            .ends(&pd.name)
            .map(|(own, _)| (&own.setvar_id, own.position)),
    );
    optional.extend(
        system
            .children(&pd.name)
            .map(|child| (&child.setvar_id, child.position)),
    );
    symbols.extend(
        optional
            .into_iter()
            .filter_map(|(s, position)| Some((s.as_deref()?, position))),
    );
    let mut seen = HashSet::new();
    for (symbol, position) in symbols {
        if !seen.insert(symbol) {
            let what = format!("symbol `{symbol}` of `{}` is set twice", pd.name);
            errors.add(
                "duplicate-setvar",
                position,
                what,
                "use one symbol for each value",
            );
        }
    }
}

fn capabilities(system: &System, pd: &ProtectionDomain, errors: &mut Errors) {
    let mut slots = HashSet::new();
    for cap in &pd.cspace {
        if system.pd(&cap.pd).is_none() {
            unknown_pd(
                &format!("the <cspace> of `{}`", pd.name),
                &cap.pd,
                cap.position,
                system,
                errors,
            );
        }
        if !slots.insert(cap.slot) {
            let what = format!("`{}` has two capabilities in slot {}", pd.name, cap.slot);
            errors.add(
                "duplicate-slot",
                cap.position,
                what,
                "give each a slot of its own",
            );
        }
    }
}

/// Checks the conditions between a parent and its child that make a restart possible.
fn family(system: &System, child: &ProtectionDomain, errors: &mut Errors) {
    let Some(parent) = child.parent.as_deref().and_then(|name| system.pd(name)) else {
        return;
    };
    if parent.priority <= child.priority {
        let what = format!(
            "`{}` (priority {}) is a child of `{}` (priority {})",
            child.name, child.priority, parent.name, parent.priority
        );
        let help = "the parent's priority must be higher, or the child could keep it from running";
        errors.add("child-priority", child.position, what, help);
    }
    if child.passive {
        let what = format!(
            "`{}` is passive, and its parent `{}` may restart it",
            child.name, parent.name
        );
        let help = "delete passive=\"true\": after a restart it would have no time to run";
        errors.add("child-passive", child.position, what, help);
    }
}

fn interrupts(system: &System, errors: &mut Errors) {
    let (mut vectors, mut sources) = (HashMap::new(), HashMap::new());
    for pd in &system.protection_domains {
        for irq in &pd.irqs {
            if let Some(other) = vectors.insert(irq.vector, &pd.name) {
                let what = format!("vector {} of `{}` is taken by `{other}`", irq.vector, pd.name);
                let help = "vectors are unique in the whole system; use another";
                errors.add("duplicate-vector", irq.position, what, help);
            }
            // A pin is one source, whatever its trigger mode.
            let (source, what) = match irq.source {
                IrqSource::IoApic { ioapic, pin, .. } => ((0, ioapic, pin, 0), format!("pin {pin}")),
                IrqSource::Msi {
                    bus,
                    device,
                    function,
                    handle,
                } => (
                    (1 + u16::from(bus), device, function, handle),
                    format!("message {handle} of PCI function {bus:x}:{device:x}.{function}"),
                ),
            };
            if let Some(other) = sources.insert(source, &pd.name) {
                let what = format!("{what}, an interrupt of `{}`, is taken by `{other}`", pd.name);
                errors.add(
                    "duplicate-pin",
                    irq.position,
                    what,
                    "give each interrupt one owner",
                );
            }
        }
    }
}

fn ports(system: &System, errors: &mut Errors) {
    let mut taken: Vec<(u32, u32, &str)> = Vec::new();
    for pd in &system.protection_domains {
        for port in &pd.ioports {
            let start = u32::from(port.addr);
            let end = start + u32::from(port.size);
            if let Some((_, _, other)) = taken.iter().find(|(s, e, _)| start < *e && *s < end) {
                let what = format!(
                    "I/O ports {start:#x} to {:#x} of `{}` overlap those of `{other}`",
                    end - 1,
                    pd.name
                );
                errors.add("ioport-overlap", port.position, what, "give each port one owner");
            }
            taken.push((start, end, &pd.name));
        }
    }
}

fn channel(system: &System, channel: &Channel, errors: &mut Errors) {
    let [a, b] = &channel.ends;
    for end in [a, b].into_iter().filter(|end| system.pd(&end.pd).is_none()) {
        unknown_pd("a channel", &end.pd, end.position, system, errors);
    }
    if a.pd == b.pd {
        let what = format!("a channel joins `{}` with itself", a.pd);
        errors.add(
            "channel-self",
            channel.position,
            what,
            "name two protection domains",
        );
        return;
    }
    let (caller, callee) = match (a.pp, b.pp) {
        (true, true) => {
            let what = format!("`{}` and `{}` may call each other", a.pd, b.pd);
            let help = "keep pp=\"true\" at one end at most, the one of lower priority";
            errors.add("two-pps", channel.position, what, help);
            return;
        }
        (true, false) => (a, b),
        (false, true) => (b, a),
        (false, false) => return,
    };
    let (Some(from), Some(to)) = (system.pd(&caller.pd), system.pd(&callee.pd)) else {
        return;
    };
    if to.priority <= from.priority {
        let what = format!(
            "`{}` (priority {}) calls `{}` (priority {})",
            from.name, from.priority, to.name, to.priority
        );
        let help = "the callee's priority must be higher than the caller's";
        errors.add("call-priority", caller.position, what, help);
    }
    // If a domain is restarted during a call, its caller would hang forever.
    if let Some(parent) = &to.parent {
        let what = format!(
            "`{}` calls `{}`, which `{parent}` may restart",
            from.name, to.name
        );
        let help = "delete pp=\"true\" and use a shared ring and a notification";
        errors.add("call-restartable", caller.position, what, help);
    }
}
