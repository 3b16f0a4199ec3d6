//! From XML to the model: elements, attributes, their ranges and defaults. What concerns several elements at a time is
//! in [`crate::rules`].

use crate::xml::Element;
use crate::*;

const SMALL: u64 = 0x1000;
const LARGE: u64 = 0x20_0000;

/// Reads the whole document; `None` when there is not even a `<system>`.
pub fn system(text: &str, errors: &mut Errors) -> Option<System> {
    let options = roxmltree::ParsingOptions {
        nodes_limit: 200_000,
        ..Default::default()
    };
    let document = match roxmltree::Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(error) => {
            let at = error.pos();
            let position = Position {
                line: at.row,
                column: at.col,
            };
            errors.add(
                "not-xml",
                position,
                format!("not well-formed XML: {error}"),
                "mend the markup",
            );
            return None;
        }
    };
    let root = Element::new(document.root_element());
    if root.tag() != "system" {
        let what = format!("the root element is <{}>", root.tag());
        errors.add("no-system", root.position(), what, "it must be <system>");
        return None;
    }
    root.finish(errors);
    let mut system = System::default();
    let mut scheduled = false;
    for child in root.children(errors) {
        match child.tag() {
            "memory_region" => system.memory_regions.extend(memory_region(&child, errors)),
            "protection_domain" => protection_domain(&child, None, 0, &mut system, errors),
            "channel" => system.channels.extend(channel(&child, errors)),
            "io_address_space" => system.io_address_spaces.extend(io_address_space(&child, errors)),
            "domains" => {
                if scheduled || !system.protection_domains.is_empty() {
                    let help = "write one <domains> before the first <protection_domain>";
                    errors.add(
                        "domains-late",
                        child.position(),
                        "<domains> stands too late or twice",
                        help,
                    );
                }
                scheduled = true;
                domains(&child, &mut system, errors);
            }
            _ => child.unexpected(
                "system",
                "memory_region, protection_domain, channel, io_address_space, domains",
                errors,
            ),
        }
    }
    Some(system)
}

fn memory_region(e: &Element, errors: &mut Errors) -> Option<MemoryRegion> {
    let name = e.name("name", errors);
    let size = e.number("size", errors);
    let page_size = e.number("page_size", errors);
    let phys_addr = e.number("phys_addr", errors);
    let file = e.text("prefill_path");
    let info = e.optional("prefill_bootinfo");
    e.leaf(errors);
    let name = name?;
    if let Some(page_size) = page_size.filter(|p| ![SMALL, LARGE].contains(p)) {
        let what = format!("memory region `{name}` has pages of {page_size:#x} bytes");
        errors.add("page-size", e.position(), what, "0x1000 and 0x200000 are allowed");
        return None;
    }
    let page = page_size.unwrap_or(SMALL);
    match size {
        Some(size) if size == 0 || size % page != 0 => {
            let what = format!("memory region `{name}` has {size:#x} bytes");
            errors.add(
                "region-size",
                e.position(),
                what,
                format!("use a multiple of its page size, {page:#x}"),
            );
        }
        None if file.is_none() => {
            let what = format!("memory region `{name}` has no size");
            errors.add(
                "region-no-size",
                e.position(),
                what,
                "give it a size, or a prefill_path that has one",
            );
        }
        _ => {}
    }
    if let Some(addr) = phys_addr.filter(|a| a % page != 0) {
        let what = format!("memory region `{name}` is at {addr:#x}");
        errors.add(
            "phys-align",
            e.position(),
            what,
            format!("phys_addr must be a multiple of {page:#x}"),
        );
    }
    let prefill = match (file, info) {
        (Some(_), Some(_)) => {
            let what = format!("memory region `{name}` has two prefills");
            errors.add(
                "two-prefills",
                e.position(),
                what,
                "keep prefill_path or prefill_bootinfo, not both",
            );
            Prefill::None
        }
        (Some(file), None) => Prefill::File(file),
        (None, Some(info)) => match bootinfo(info) {
            Some(info) => Prefill::BootInfo(info),
            None => {
                errors.add(
                    "bad-bootinfo",
                    e.position(),
                    format!("memory region `{name}` has prefill_bootinfo=\"{info}\""),
                    "write one of: x86_vbe, x86_mbmmap, x86_acpi_rsdp, x86_framebuffer, x86_tsc_freq, fdt",
                );
                Prefill::None
            }
        },
        (None, None) => Prefill::None,
    };
    Some(MemoryRegion {
        name,
        size,
        page_size: page,
        page_size_given: page_size.is_some(),
        phys_addr,
        prefill,
        position: e.position(),
    })
}

fn bootinfo(name: &str) -> Option<BootInfo> {
    Some(match name {
        "x86_vbe" => BootInfo::X86Vbe,
        "x86_mbmmap" => BootInfo::X86MbMmap,
        "x86_acpi_rsdp" => BootInfo::X86AcpiRsdp,
        "x86_framebuffer" => BootInfo::X86Framebuffer,
        "x86_tsc_freq" => BootInfo::X86TscFreq,
        "fdt" => BootInfo::Fdt,
        _ => return None,
    })
}

/// Deepest nesting of children that is read.
const DEPTH: u32 = 16;

fn protection_domain(
    e: &Element,
    parent: Option<&str>,
    depth: u32,
    system: &mut System,
    errors: &mut Errors,
) {
    let name = e.name("name", errors);
    let priority = e.decimal_or("priority", 0, 254, 0, errors);
    let budget = e.number("budget", errors);
    let period = e.number("period", errors);
    let passive = e.boolean("passive", false, errors).unwrap_or(false);
    let stack_size = e.number("stack_size", errors).unwrap_or(0x2000);
    let cpu = e.decimal_or("cpu", 0, 0, 0, errors);
    let fpu = e.boolean("fpu", true, errors).unwrap_or(true);
    let domain = e.text("domain");
    let (mut child_id, mut setvar_id) = (None, None);
    if parent.is_some() {
        child_id = e.required_decimal("id", 0, 61, errors).map(|id| id as u8);
        setvar_id = e.text("setvar_id");
    }
    if e.optional("smc").is_some() {
        let help = "secure monitor calls exist on Arm only; delete it";
        errors.add("other-board", e.position(), "attribute `smc`", help);
    }
    e.finish(errors);
    let name = name.unwrap_or_else(|| "?".to_owned());
    if !(0x1000..=0x100_0000).contains(&stack_size) || stack_size % SMALL != 0 {
        let what = format!("`{name}` has a stack of {stack_size:#x} bytes");
        errors.add(
            "stack-size",
            e.position(),
            what,
            "0x1000 to 0x1000000, in multiples of 0x1000, are allowed",
        );
    }
    let budget_value = budget.unwrap_or(1000);
    let period_value = period.unwrap_or(budget_value);
    if period_value < budget_value {
        let what =
            format!("`{name}` has a period of {period_value} and a budget of {budget_value} microseconds");
        errors.add(
            "period",
            e.position(),
            what,
            "the period must not be shorter than the budget",
        );
    }
    let index = system.protection_domains.len();
    system.protection_domains.push(ProtectionDomain {
        name: name.clone(),
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
    });
    let (mut images, mut cspaces) = (0, 0);
    for child in e.children(errors) {
        if child.tag() == "protection_domain" {
            if depth >= DEPTH {
                let what = format!("children nest deeper than {DEPTH}");
                errors.add(
                    "too-deep",
                    child.position(),
                    what,
                    "flatten the tree of protection domains",
                );
            } else {
                protection_domain(&child, Some(&name), depth + 1, system, errors);
            }
            continue;
        }
        let pd = &mut system.protection_domains[index];
        match child.tag() {
            "program_image" => {
                images += 1;
                pd.program = child.name("path", errors).unwrap_or_else(|| "?".to_owned());
                pd.program_for_symbols = child.text("path_for_symbols");
                child.leaf(errors);
            }
            "map" => pd.maps.extend(map(&child, errors)),
            "irq" => pd.irqs.extend(irq(&child, errors)),
            "ioport" => pd.ioports.extend(ioport(&child, errors)),
            "setvar" => {
                let symbol = child.name("symbol", errors);
                let region = child.name("region_paddr", errors);
                child.leaf(errors);
                if let (Some(symbol), Some(region)) = (symbol, region) {
                    pd.setvars.push(SetVar {
                        symbol,
                        region,
                        position: child.position(),
                    });
                }
            }
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
        errors.add(
            "program-image",
            e.position(),
            what,
            "write exactly one <program_image path=\"...\" />",
        );
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

fn map(e: &Element, errors: &mut Errors) -> Option<Map> {
    let mr = e.name("mr", errors);
    let vaddr = e.required_number("vaddr", errors);
    let perms = e.optional("perms").unwrap_or("rw");
    let cached = e.boolean("cached", true, errors);
    let out = (
        e.text("setvar_vaddr"),
        e.text("setvar_size"),
        e.text("setvar_prefill_size"),
    );
    e.leaf(errors);
    let only_once = |c| perms.matches(c).count() <= 1;
    let valid = !perms.is_empty() && perms.chars().all(|c| "rwx".contains(c)) && "rwx".chars().all(only_once);
    if !valid || perms == "w" {
        let what = format!("`perms` is \"{perms}\"");
        errors.add(
            "bad-perms",
            e.position(),
            what,
            "use letters of r, w, x, each once; not w alone",
        );
    }
    let (setvar_vaddr, setvar_size, setvar_prefill_size) = out;
    Some(Map {
        mr: mr?,
        vaddr: vaddr?,
        read: perms.contains('r'),
        write: perms.contains('w'),
        execute: perms.contains('x'),
        cached: cached?,
        setvar_vaddr,
        setvar_size,
        setvar_prefill_size,
        position: e.position(),
    })
}

fn irq(e: &Element, errors: &mut Errors) -> Option<Irq> {
    let id = e.required_decimal("id", 0, 61, errors);
    let vector = e.required_decimal("vector", 0, 107, errors);
    let setvar_id = e.text("setvar_id");
    let source = if e.node.has_attribute("pcidev") {
        let address = e.optional("pcidev").and_then(pci_address);
        if address.is_none() {
            let help = "write bus:device.function in hexadecimal, such as 0:2.0";
            errors.add("bad-pci", e.position(), "`pcidev` is no PCI address", help);
        }
        let handle = e.required_decimal("handle", 0, 255, errors);
        let (bus, device, function) = address?;
        IrqSource::Msi {
            bus,
            device,
            function,
            handle: handle? as u8,
        }
    } else if e.node.has_attribute("irq") {
        e.optional("irq");
        let help =
            "on x86_64_generic an interrupt is a pin (pin, vector) or a message (pcidev, handle, vector)";
        errors.add("other-board", e.position(), "attribute `irq`", help);
        return None;
    } else {
        let pin = e.required_decimal("pin", 0, 23, errors);
        let ioapic = e.decimal_or("ioapic", 0, 0, 0, errors);
        let level = e
            .word("trigger", &["level", "edge"], errors)
            .map(|w| w == "level");
        let active_low = e.word("polarity", &["high", "low"], errors).map(|w| w == "low");
        IrqSource::IoApic {
            ioapic: ioapic as u8,
            pin: pin? as u8,
            level: level?,
            active_low: active_low?,
        }
    };
    e.leaf(errors);
    Some(Irq {
        id: id? as u8,
        source,
        vector: vector? as u8,
        setvar_id,
        position: e.position(),
    })
}

fn pci_address(text: &str) -> Option<(u8, u8, u8)> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |s: &str| u8::from_str_radix(s, 16).ok();
    let (bus, device, function) = (hex(bus)?, hex(device)?, hex(function)?);
    (device < 32 && function < 8).then_some((bus, device, function))
}

fn ioport(e: &Element, errors: &mut Errors) -> Option<IoPort> {
    let id = e.required_decimal("id", 0, 61, errors);
    let addr = e.required_number("addr", errors);
    let size = e.required_decimal("size", 1, 0x1_0000, errors);
    let (setvar_id, setvar_addr) = (e.text("setvar_id"), e.text("setvar_addr"));
    e.leaf(errors);
    let (id, addr, size) = (id?, addr?, size?);
    if addr.saturating_add(size) > 0x1_0000 || size > 0xffff {
        let what = format!("I/O ports {addr:#x} and {size} from there");
        errors.add("ioport-range", e.position(), what, "I/O ports end at 0xffff");
        return None;
    }
    let position = e.position();
    Some(IoPort {
        id: id as u8,
        addr: addr as u16,
        size: size as u16,
        setvar_id,
        setvar_addr,
        position,
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
    let slot = e.required_decimal("slot", 1, 63, errors);
    let pd = e.name("pd", errors);
    e.leaf(errors);
    Some(ExtraCap {
        kind,
        slot: slot? as u8,
        pd: pd?,
        position: e.position(),
    })
}

fn channel(e: &Element, errors: &mut Errors) -> Option<Channel> {
    e.finish(errors);
    let mut ends = Vec::new();
    let mut count = 0;
    for child in e.children(errors) {
        if child.tag() != "end" {
            child.unexpected("channel", "end", errors);
            continue;
        }
        count += 1;
        let pd = child.name("pd", errors);
        let id = child.required_decimal("id", 0, 61, errors);
        let notify = child.boolean("notify", true, errors);
        let pp = child.boolean("pp", false, errors);
        let setvar_id = child.text("setvar_id");
        child.leaf(errors);
        if let (Some(pd), Some(id), Some(notify), Some(pp)) = (pd, id, notify, pp) {
            ends.push(End {
                pd,
                id: id as u8,
                notify,
                pp,
                setvar_id,
                position: child.position(),
            });
        }
    }
    if count != 2 {
        let what = format!("a channel with {count} ends");
        errors.add(
            "channel-ends",
            e.position(),
            what,
            "write exactly two <end> elements",
        );
        return None;
    }
    Some(Channel {
        ends: ends.try_into().ok()?,
        position: e.position(),
    })
}

fn io_address_space(e: &Element, errors: &mut Errors) -> Option<IoAddressSpace> {
    let name = e.name("name", errors);
    let peripheral = e.name("peripheral_id", errors);
    let domain_id = e.required_number("domain_id", errors);
    e.finish(errors);
    if peripheral.as_deref().is_some_and(|p| pci_address(p).is_none()) {
        let help = "write bus:device.function in hexadecimal, such as 0:2.0";
        errors.add("bad-pci", e.position(), "`peripheral_id` is no PCI address", help);
    }
    let mut maps = Vec::new();
    for child in e.children(errors) {
        if child.tag() != "iomap" {
            child.unexpected("io_address_space", "iomap", errors);
            continue;
        }
        let mr = child.name("mr", errors);
        let at = child.required_number("iovaddr", errors);
        child.word("perms", &["rw", "r", "w", "wr"], errors);
        child.leaf(errors);
        if let (Some(mr), Some(at)) = (mr, at) {
            maps.push((mr, at));
        }
    }
    let position = e.position();
    Some(IoAddressSpace {
        name: name?,
        peripheral: peripheral?,
        domain_id: domain_id?,
        maps,
        position,
    })
}

fn domains(e: &Element, system: &mut System, errors: &mut Errors) {
    e.finish(errors);
    for child in e.children(errors) {
        match child.tag() {
            "domain" => {
                system.domains.extend(child.name("name", errors));
                child.decimal("id", 0, 15, errors);
                child.leaf(errors);
            }
            "domain_schedule" => {
                child.decimal("start_index", 0, 99, errors);
                child.decimal("index_shift", 0, 99, errors);
                child.finish(errors);
                for entry in child.children(errors) {
                    match entry.tag() {
                        "schedule_entry" => {
                            entry.name("domain", errors);
                            entry.name("duration", errors);
                            entry.leaf(errors);
                        }
                        "schedule_end_marker" => entry.leaf(errors),
                        _ => {
                            entry.unexpected("domain_schedule", "schedule_entry, schedule_end_marker", errors)
                        }
                    }
                }
            }
            _ => child.unexpected("domains", "domain, domain_schedule", errors),
        }
    }
}

impl Element<'_, '_> {
    fn decimal_or(&self, name: &'static str, low: u64, high: u64, default: u64, errors: &mut Errors) -> u64 {
        self.decimal(name, low, high, errors).unwrap_or(default)
    }
}
