//! Protection domains and the elements inside them.

use super::{SMALL_PAGE, permissions};
use crate::xml::Element;
use crate::*;

/// Maximum nesting of children.
const DEPTH: u32 = 16;
/// Number of pins of the I/O APIC.
const PINS: u64 = 24;
/// Number of I/O ports.
const PORTS: u64 = 0x1_0000;

/// Parses a `<protection_domain>` and its children, depth first.
pub fn protection_domain(
    e: &Element,
    parent: Option<&str>,
    depth: u32,
    system: &mut System,
    errors: &mut Errors,
) {
    let pd = attributes(e, parent, errors);
    let name = pd.name.clone();
    let index = system.protection_domains.len();
    system.protection_domains.push(pd);
    let (mut images, mut cspaces) = (0, 0);
    for child in e.children(errors) {
        if child.tag() == "protection_domain" {
            if depth >= DEPTH {
                let what = format!("protection domains nest deeper than {DEPTH}");
                errors.add("too-deep", child.position(), what, "flatten their tree");
            } else {
                protection_domain(&child, Some(&name), depth + 1, system, errors);
            }
            continue;
        }
        let pd = &mut system.protection_domains[index];
        match child.tag() {
            "program_image" => {
                images += 1;
                pd.program = child.reference("path", errors).unwrap_or_default();
                pd.program_for_symbols = child.optional_reference("path_for_symbols", errors);
                child.leaf(errors);
            }
            "map" => pd.maps.extend(map(&child, errors)),
            "irq" => pd.irqs.extend(irq(&child, errors)),
            "ioport" => pd.ioports.extend(ioport(&child, errors)),
            "setvar" => pd.setvars.extend(setvar(&child, errors)),
            "cspace" => {
                cspaces += 1;
                child.finish(errors);
                for cap in child.children(errors) {
                    pd.cspace.extend(extra_cap(&cap, errors));
                }
            }
            _ => child.unexpected(
                "protection_domain",
                "program_image, map, irq, ioport, setvar, cspace, protection_domain",
                errors,
            ),
        }
    }
    if images != 1 {
        let what = format!("`{name}` has {images} program images");
        let help = "write exactly one <program_image path=\"...\" />";
        errors.add("program-image", e.position(), what, help);
    }
    if cspaces > 1 {
        let what = format!("`{name}` has {cspaces} <cspace> elements");
        errors.add(
            "two-cspaces",
            e.position(),
            what,
            "put all its capabilities into one",
        );
    }
}

fn attributes(e: &Element, parent: Option<&str>, errors: &mut Errors) -> ProtectionDomain {
    let name = e.name(errors).unwrap_or_else(|| "?".to_owned());
    let priority = e.number_within("priority", 0, 254, errors).unwrap_or(0);
    let budget = e.number("budget", errors);
    let period = e.number("period", errors);
    let passive = e.boolean("passive", false, errors).unwrap_or(false);
    let stack_size = e.number("stack_size", errors).unwrap_or(0x2000);
    let cpu = e.number_within("cpu", 0, 0, errors).unwrap_or(0);
    let fpu = e.boolean("fpu", true, errors).unwrap_or(true);
    let domain = e.optional_reference("domain", errors);
    let (mut child_id, mut setvar_id) = (None, None);
    if parent.is_some() {
        e.required("id", errors);
        child_id = e.number_within("id", 0, 61, errors).map(|id| id as u8);
        setvar_id = e.optional_reference("setvar_id", errors);
    }
    if e.has("smc") {
        e.optional("smc");
        let help = "secure monitor calls exist on Arm only; delete it";
        errors.add("other-board", e.at("smc"), "attribute `smc`", help);
    }
    e.finish(errors);
    if !(0x1000..=0x100_0000).contains(&stack_size) || !stack_size.is_multiple_of(SMALL_PAGE) {
        let what = format!("`{name}` has a stack of {stack_size:#x} bytes");
        let help = "0x1000 to 0x1000000, in multiples of 0x1000, are allowed";
        errors.add("stack-size", e.at("stack_size"), what, help);
    }
    let budget_value = budget.unwrap_or(1000);
    let period_value = period.unwrap_or(budget_value);
    if period_value < budget_value {
        let what =
            format!("`{name}` has a period of {period_value} and a budget of {budget_value} microseconds");
        let help = "the period must not be shorter than the budget";
        errors.add("period", e.at("period"), what, help);
    }
    ProtectionDomain {
        name,
        parent: parent.map(str::to_owned),
        child_id,
        priority: priority as u8,
        budget: budget_value,
        period: period_value,
        budget_given: budget.is_some() || period.is_some(),
        passive,
        stack_size,
        cpu: cpu as u8,
        fpu,
        domain,
        setvar_id,
        program: String::new(),
        program_for_symbols: None,
        maps: Vec::new(),
        irqs: Vec::new(),
        ioports: Vec::new(),
        setvars: Vec::new(),
        cspace: Vec::new(),
        position: e.position(),
    }
}

fn map(e: &Element, errors: &mut Errors) -> Option<Map> {
    let mr = e.reference("mr", errors);
    let vaddr = e.required_number("vaddr", errors);
    let [read, write, execute] = permissions(e, "rwx", errors);
    let cached = e.boolean("cached", true, errors);
    let setvar_vaddr = e.optional_reference("setvar_vaddr", errors);
    let setvar_size = e.optional_reference("setvar_size", errors);
    let setvar_prefill_size = e.optional_reference("setvar_prefill_size", errors);
    e.leaf(errors);
    Some(Map {
        mr: mr?,
        vaddr: vaddr?,
        read,
        write,
        execute,
        cached: cached?,
        setvar_vaddr,
        setvar_size,
        setvar_prefill_size,
        position: e.position(),
    })
}

fn irq(e: &Element, errors: &mut Errors) -> Option<Irq> {
    if e.has("irq") {
        let help =
            "on x86_64_generic an interrupt is a pin (pin, vector) or a message (pcidev, handle, vector)";
        errors.add("other-board", e.at("irq"), "attribute `irq`", help);
        return None;
    }
    let id = e.required_decimal("id", 0, 61, errors);
    let vector = e.required_decimal("vector", 0, 107, errors);
    let setvar_id = e.optional_reference("setvar_id", errors);
    let source = if e.has("pcidev") {
        let function = e.pci_function("pcidev", errors);
        let handle = e.required_decimal("handle", 0, 255, errors);
        function
            .zip(handle)
            .map(|((bus, device, function), handle)| IrqSource::Msi {
                bus,
                device,
                function,
                handle: handle as u8,
            })
    } else {
        let pin = e.required_decimal("pin", 0, PINS - 1, errors);
        let ioapic = e.decimal("ioapic", 0, 0, errors).unwrap_or(0);
        let trigger = e.word("trigger", &["level", "edge"], errors);
        let polarity = e.word("polarity", &["high", "low"], errors);
        pin.map(|pin| IrqSource::IoApic {
            ioapic: ioapic as u8,
            pin: pin as u8,
            level: trigger == Some("level"),
            active_low: polarity == Some("low"),
        })
    };
    e.leaf(errors);
    Some(Irq {
        id: id? as u8,
        source: source?,
        vector: vector? as u8,
        setvar_id,
        position: e.position(),
    })
}

fn ioport(e: &Element, errors: &mut Errors) -> Option<IoPort> {
    let id = e.required_decimal("id", 0, 61, errors);
    let addr = e.required_number("addr", errors);
    let size = e.required_decimal("size", 1, PORTS - 1, errors);
    let setvar_id = e.optional_reference("setvar_id", errors);
    let setvar_addr = e.optional_reference("setvar_addr", errors);
    e.leaf(errors);
    let (id, addr, size) = (id?, addr?, size?);
    if addr.saturating_add(size) > PORTS {
        let what = format!("{size} I/O ports from {addr:#x}");
        errors.add("ioport-range", e.at("addr"), what, "the last I/O port is 0xffff");
        return None;
    }
    Some(IoPort {
        id: id as u8,
        addr: addr as u16,
        size: size as u16,
        setvar_id,
        setvar_addr,
        position: e.position(),
    })
}

fn setvar(e: &Element, errors: &mut Errors) -> Option<SetVar> {
    let symbol = e.reference("symbol", errors);
    let region = e.reference("region_paddr", errors);
    e.leaf(errors);
    Some(SetVar {
        symbol: symbol?,
        region: region?,
        position: e.position(),
    })
}

fn extra_cap(e: &Element, errors: &mut Errors) -> Option<ExtraCap> {
    let kind = match e.tag() {
        "cap_tcb" => ExtraCapKind::Tcb,
        "cap_sc" => ExtraCapKind::SchedulingContext,
        "cap_vspace" => ExtraCapKind::VSpace,
        _ => {
            e.unexpected("cspace", "cap_tcb, cap_sc, cap_vspace", errors);
            return None;
        }
    };
    e.required("slot", errors);
    let slot = e.number_within("slot", 1, 63, errors);
    let pd = e.reference("pd", errors);
    e.leaf(errors);
    Some(ExtraCap {
        kind,
        slot: slot? as u8,
        pd: pd?,
        position: e.position(),
    })
}
