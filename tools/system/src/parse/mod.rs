//! Parser from XML to the model: elements, attributes, their ranges and defaults. [`crate::rules`] checks
//! everything that concerns several elements.

mod domains;
mod pd;

use crate::xml::{Element, Lines};
use crate::*;

/// Bytes of a small page.
pub const SMALL_PAGE: u64 = 0x1000;
/// Bytes of a large page.
pub const LARGE_PAGE: u64 = 0x20_0000;
/// End of the physical memory that the kernel manages.
const PHYS_TOP: u64 = 1 << 47;
/// Limit of XML nodes. No system of 63 protection domains needs more.
const MAX_NODES: u32 = 100_000;

/// Parses the whole document. Returns `None` if it has no `<system>`.
pub fn system(text: &str, errors: &mut Errors) -> Option<System> {
    let options = roxmltree::ParsingOptions {
        nodes_limit: MAX_NODES,
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
            let place = format!(" at {at}");
            let what = format!("not well-formed XML: {}", error.to_string().replace(&place, ""));
            errors.add("not-xml", position, what, "mend the markup");
            return None;
        }
    };
    let lines = Lines::new(text);
    let root = Element::new(document.root_element(), &lines);
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
            "protection_domain" => pd::protection_domain(&child, None, 0, &mut system, errors),
            "channel" => system.channels.extend(channel(&child, errors)),
            "io_address_space" => system.io_address_spaces.extend(io_address_space(&child, errors)),
            "domains" => {
                if scheduled || !system.protection_domains.is_empty() {
                    errors.add(
                        "domains-late",
                        child.position(),
                        "<domains> stands too late or twice",
                        "write one <domains>, before the first <protection_domain>",
                    );
                }
                scheduled = true;
                domains::domains(&child, &mut system, errors);
            }
            _ => child.unexpected(
                "system",
                "memory_region, protection_domain, channel, io_address_space, domains",
                errors,
            ),
        }
    }
    if errors.is_empty() && system.protection_domains.is_empty() {
        let help = "describe one with <protection_domain>";
        errors.add(
            "no-pd",
            root.position(),
            "a system without protection domains",
            help,
        );
    }
    Some(system)
}

fn memory_region(e: &Element, errors: &mut Errors) -> Option<MemoryRegion> {
    let name = e.name(errors);
    let size = e.number("size", errors);
    let page_size = e.number("page_size", errors);
    let phys_addr = e.number("phys_addr", errors);
    let file = e.optional_reference("prefill_path", errors);
    let info = e.optional("prefill_bootinfo");
    e.leaf(errors);
    let name = name?;
    if let Some(page_size) = page_size.filter(|p| ![SMALL_PAGE, LARGE_PAGE].contains(p)) {
        let what = format!("memory region `{name}` has pages of {page_size:#x} bytes");
        let help = "0x1000 and 0x200000 are allowed";
        errors.add("page-size", e.at("page_size"), what, help);
    }
    let page = match page_size {
        Some(LARGE_PAGE) => LARGE_PAGE,
        _ => SMALL_PAGE,
    };
    match size {
        Some(size) if size == 0 || !size.is_multiple_of(page) => {
            let what = format!("memory region `{name}` has {size:#x} bytes");
            let help = format!("use a multiple of its page size, {page:#x}");
            errors.add("region-size", e.at("size"), what, help);
        }
        None if !e.has("size") && !e.has("prefill_path") => {
            let what = format!("memory region `{name}` has no size");
            let help = "add size=\"...\", or a prefill_path whose file has one";
            errors.add("region-no-size", e.position(), what, help);
        }
        // An overlap with another region is checked here without its file.
        None if !e.has("size") && e.has("phys_addr") => {
            let what = format!("memory region `{name}` has a physical address and no size");
            errors.add("region-no-size", e.position(), what, "add size=\"...\"");
        }
        _ => {}
    }
    if let Some(addr) = phys_addr {
        if !addr.is_multiple_of(page) {
            let what = format!("memory region `{name}` is at {addr:#x}");
            let help = format!("phys_addr must be a multiple of its page size, {page:#x}");
            errors.add("phys-align", e.at("phys_addr"), what, help);
        }
        let fits = addr
            .checked_add(size.unwrap_or(page))
            .is_some_and(|end| end <= PHYS_TOP);
        if !fits {
            let what = format!("memory region `{name}` at {addr:#x} is beyond what the kernel hands out");
            let help = format!("physical addresses end at {PHYS_TOP:#x}");
            errors.add("phys-range", e.at("phys_addr"), what, help);
        }
    }
    let prefill = match (file, info) {
        (Some(_), Some(_)) => {
            let what = format!("memory region `{name}` has two prefills");
            let help = "keep prefill_path or prefill_bootinfo, not both";
            errors.add("two-prefills", e.at("prefill_bootinfo"), what, help);
            Prefill::None
        }
        (Some(file), None) => Prefill::File(file),
        (None, Some(info)) => match bootinfo(info) {
            Some(info) => Prefill::BootInfo(info),
            None => {
                let what = format!(
                    "memory region `{name}` has prefill_bootinfo=\"{}\"",
                    info.escape_debug()
                );
                let help =
                    "write one of: x86_vbe, x86_mbmmap, x86_acpi_rsdp, x86_framebuffer, x86_tsc_freq, fdt";
                errors.add("bad-bootinfo", e.at("prefill_bootinfo"), what, help);
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
        ends.extend(end(&child, errors));
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

fn end(e: &Element, errors: &mut Errors) -> Option<End> {
    let pd = e.reference("pd", errors);
    let id = e.required_decimal("id", 0, 61, errors);
    let notify = e.boolean("notify", true, errors);
    let pp = e.boolean("pp", false, errors);
    let setvar_id = e.optional_reference("setvar_id", errors);
    e.leaf(errors);
    Some(End {
        pd: pd?,
        id: id? as u8,
        notify: notify?,
        pp: pp?,
        setvar_id,
        position: e.position(),
    })
}

fn io_address_space(e: &Element, errors: &mut Errors) -> Option<IoAddressSpace> {
    let name = e.name(errors);
    let peripheral = e.pci_function("peripheral_id", errors);
    let domain_id = e.required_number("domain_id", errors);
    e.finish(errors);
    let mut maps = Vec::new();
    for child in e.children(errors) {
        match child.tag() {
            "iomap" => maps.extend(iomap(&child, errors)),
            _ => child.unexpected("io_address_space", "iomap", errors),
        }
    }
    Some(IoAddressSpace {
        name: name?,
        peripheral: peripheral?,
        domain_id: domain_id?,
        maps,
        position: e.position(),
    })
}

fn iomap(e: &Element, errors: &mut Errors) -> Option<IoMap> {
    let mr = e.reference("mr", errors);
    let iovaddr = e.required_number("iovaddr", errors);
    let [read, write, _] = permissions(e, "rw", errors);
    e.leaf(errors);
    Some(IoMap {
        mr: mr?,
        iovaddr: iovaddr?,
        read,
        write,
        position: e.position(),
    })
}

/// Parses the attribute `perms`: letters of `allowed`, each once. "rw" if absent.
fn permissions(e: &Element, allowed: &str, errors: &mut Errors) -> [bool; 3] {
    let text = e.optional("perms").unwrap_or("rw");
    let known = !text.is_empty() && text.chars().all(|c| allowed.contains(c));
    let once = allowed.chars().all(|c| text.matches(c).count() <= 1);
    // Pages that can be written but not read do not exist.
    if !known || !once || (text == "w" && allowed.contains('x')) {
        let what = format!("`perms` is \"{}\"", text.escape_debug());
        let help = match allowed {
            "rw" => "use letters of r, w, each once",
            _ => "use letters of r, w, x, each once; not w alone",
        };
        errors.add("bad-perms", e.at("perms"), what, help);
    }
    ["r", "w", "x"].map(|letter| text.contains(letter))
}
