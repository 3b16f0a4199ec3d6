//! A description with one thing changed, in every way that is listed here, at every place that it has.

use std::collections::BTreeSet;
use std::ops::Range;

use roxmltree::{Document, Node};

/// A change: what it is, which bytes it replaces, and by what.
#[derive(Clone, Debug)]
pub struct Change {
    /// For the person who reads of a disagreement.
    pub what: String,
    place: Range<usize>,
    by: String,
}

impl Change {
    fn new(what: String, place: Range<usize>, by: impl Into<String>) -> Self {
        let by = by.into();
        Change { what, place, by }
    }

    /// The text with the change in it.
    pub fn apply(&self, text: &str) -> String {
        format!(
            "{}{}{}",
            &text[..self.place.start],
            self.by,
            &text[self.place.end..]
        )
    }

    /// The text with both changes, where they do not touch.
    pub fn apply_both(&self, other: &Change, text: &str) -> Option<String> {
        let (first, last) = match self.place.start <= other.place.start {
            true => (self, other),
            false => (other, self),
        };
        (first.place.end < last.place.start).then(|| first.apply(&last.apply(text)))
    }
}

/// Ways to write numbers, and numbers that are limits somewhere.
const NUMBERS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "+1",
    " 1",
    "1 ",
    "01",
    "1_0",
    "_",
    "0x",
    "0x1",
    "0X1",
    "0x_1",
    "0xg",
    "1.5",
    "ff",
    "x",
    "2",
    "3",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
];
const PAGES: &[&str] = &[
    "0xfff",
    "0x1000",
    "0x1001",
    "0x2000",
    "0x3000",
    "0x200000",
    "0x201000",
    "0x400000",
    "0x1000000",
    "0x1001000",
    "0x10000000",
    "0x40000000",
];
const PLACES: &[&str] = &[
    "0x10000000",
    "0x10001000",
    "0x10200000",
    "0x10400000",
    "0x10601000",
    "0x200000",
    "0x1ff000",
    "0x207000",
    "0x206000",
    "0x7ffffffd9000",
    "0x7fffffffa000",
    "0x7fffffff9000",
    "0x7fffffff8000",
    "0x7fffffff7000",
    "0x7fffffffe000",
    "0x7ffffffff000",
    "0x800000000000",
    "0xfffffffffffff000",
    "0x7fffffe00000",
    "0x7fffffc00000",
    "0x8000000",
    "0x8100000",
    "0x8200000",
    "0xd0004000",
    "0xd0003000",
    "0x7fffffc000",
    "0x7fffffd000",
    "0x7fffffe000",
    "0x8000000000",
];
const WORDS: &[&str] = &[
    "", "true", "false", "True", "1", "yes", "level", "edge", "Edge", "high", "low", "both",
];
const NAMES: &[&str] = &[
    "",
    "x",
    "nobody",
    "monitor",
    "fault_monitor",
    "driver_root",
    "parent_root",
    "elf_x",
    "day",
    "night",
    "driver",
    "parent",
    "child",
    "server",
    "regs",
    "dma",
    "ring",
    "io",
    "nic",
    "timer",
    "tsc",
    "a b",
    "a/b",
    "0",
    "\u{e4}",
    "a&#10;b",
    "one.elf",
    "two.elf",
    "file.bin",
    "none.bin",
    "v0",
    "v1",
    "v7",
    "v8",
    "microkit_irqs",
    "microkit_passive",
    "a234567890123456789012345678901234567890123456789012345678901234",
    "a2345678901234567890123456789012345678901234567890123456789012345",
];
/// What else is worth trying for an attribute.
const SPECIAL: &[(&str, &[&str])] = &[
    (
        "priority",
        &["100", "149", "150", "151", "200", "253", "254", "255", "256"],
    ),
    ("budget", &["499", "500", "999", "1000", "1001"]),
    ("period", &["499", "500", "501", "1000"]),
    ("cpu", &["255", "256"]),
    (
        "id",
        &["7", "15", "16", "17", "60", "61", "62", "63", "64", "255", "310"],
    ),
    ("slot", &["62", "63", "64", "127", "128"]),
    ("vector", &["100", "101", "106", "107", "108"]),
    ("pin", &["2", "23", "24", "255"]),
    ("ioapic", &["255"]),
    ("handle", &["255", "256"]),
    (
        "addr",
        &["0x3f0", "0x3f1", "0xfff8", "0xfff9", "0xffff", "0x10000"],
    ),
    (
        "size",
        &[
            "7",
            "9",
            "64520",
            "64521",
            "65535",
            "65536",
            "0x0ffff000",
            "0x1fffe00000",
        ],
    ),
    ("domain_id", &["65535", "65536"]),
    ("start_index", &["2", "3", "4", "98", "99", "100"]),
    ("index_shift", &["95", "96", "97", "98", "99", "100"]),
    (
        "duration",
        &[
            "1 us",
            "1 ticks",
            "0 us",
            "0 ticks",
            "1",
            "us",
            "1us",
            "1  us",
            " 1 us",
            "1 us ",
            "1 s",
            "1 US",
            "0x10 us",
            "1_0 ticks",
            "-1 us",
            "+1 us",
            "1&#9;us",
            "18446744073709551615 us",
            "18446744073709551616 us",
        ],
    ),
    (
        "perms",
        &[
            "r", "w", "x", "rw", "wr", "rx", "wx", "rwx", "xwr", "rr", "R", "r w", "rwxr", "none",
        ],
    ),
    (
        "prefill_bootinfo",
        &[
            "x86_vbe",
            "x86_mbmmap",
            "x86_mbmap",
            "x86_acpi_rsdp",
            "x86_framebuffer",
            "x86_tsc_freq",
            "fdt",
            "X86_VBE",
        ],
    ),
    (
        "pci",
        &[
            "0:0.0",
            "ff:1f.7",
            "100:0.0",
            "0:20.0",
            "0:0.8",
            "0:2",
            "2.0",
            ":.",
            "0:2.0.0",
            "0000:00:02.0",
            " 0:2.0",
            "0:+2.0",
            "-0:2.0",
            "0:1F.0",
            "0:02.00",
            "000:002.000",
            "g:2.0",
            "0:2.0 ",
        ],
    ),
];
/// All attributes that any element has, with a value that is right somewhere.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("name", "other"),
    ("size", "0x1000"),
    ("page_size", "0x1000"),
    ("phys_addr", "0x9000000"),
    ("prefill_path", "file.bin"),
    ("prefill_bootinfo", "fdt"),
    ("priority", "1"),
    ("budget", "10"),
    ("period", "2000"),
    ("passive", "true"),
    ("stack_size", "0x1000"),
    ("cpu", "0"),
    ("smc", "false"),
    ("smc", "true"),
    ("fpu", "true"),
    ("domain", "day"),
    ("id", "5"),
    ("setvar_id", "v8"),
    ("path", "one.elf"),
    ("path_for_symbols", "two.elf"),
    ("mr", "ring"),
    ("vaddr", "0x20000000"),
    ("perms", "r"),
    ("cached", "true"),
    ("setvar_vaddr", "v8"),
    ("setvar_size", "v8"),
    ("setvar_prefill_size", "v8"),
    ("irq", "1"),
    ("pin", "3"),
    ("vector", "3"),
    ("ioapic", "0"),
    ("trigger", "level"),
    ("polarity", "high"),
    ("pcidev", "0:3.0"),
    ("handle", "0"),
    ("addr", "0x60"),
    ("setvar_addr", "v8"),
    ("symbol", "v8"),
    ("region_paddr", "dma"),
    ("slot", "5"),
    ("pd", "server"),
    ("notify", "true"),
    ("pp", "true"),
    ("start_index", "0"),
    ("index_shift", "0"),
    ("duration", "1 us"),
    ("iovaddr", "0x200000"),
    ("peripheral_id", "0:4.0"),
    ("domain_id", "9"),
    ("other", "1"),
];
/// Elements that could stand anywhere.
const ELEMENTS: &[&str] = &[
    "<memory_region name='more' size='0x1000'/>",
    "<memory_region name='more' size='0x10000' prefill_bootinfo='x86_tsc_freq'/>",
    "<memory_region name='child_stack' size='0x1000'/>",
    "<protection_domain name='more' domain='day'><program_image path='one.elf'/></protection_domain>",
    "<protection_domain name='more' domain='day' id='20'><program_image path='one.elf'/></protection_domain>",
    "<protection_domain name='more' domain='day' id='20'/>",
    "<protection_domain name='driver_root' domain='day'><program_image path='one.elf'/></protection_domain>",
    "<protection_domain name='mr_child' domain='day'><program_image path='one.elf'/></protection_domain>",
    "<program_image path='one.elf'/>",
    "<map mr='ring' vaddr='0x30000000'/>",
    "<map mr='nothing' vaddr='0x30000000'/>",
    "<irq id='33' pin='4' vector='4'/>",
    "<irq id='33' pcidev='0:9.0' handle='0' vector='4'/>",
    "<irq id='33' irq='4'/>",
    "<irq id='33' vector='4'/>",
    "<irq id='33' pin='4' pcidev='0:9.0' handle='0' vector='4'/>",
    "<ioport id='33' addr='0x60' size='1'/>",
    "<setvar symbol='v9' region_paddr='auto'/>",
    "<setvar symbol='v9' region_paddr='ring'/>",
    "<setvar symbol='nothing' region_paddr='auto'/>",
    "<cspace/>",
    "<cap_tcb slot='9' pd='server'/>",
    "<cap_sc slot='9' pd='server'/>",
    "<cap_vspace slot='9' pd='server'/>",
    "<cap_frame slot='9' pd='server'/>",
    "<channel/>",
    "<channel><end pd='server' id='9'/></channel>",
    "<channel><end pd='server' id='9'/><end pd='driver' id='9'/></channel>",
    "<channel><end pd='server' id='9'/><end pd='driver' id='9'/><end pd='driver' id='10'/></channel>",
    "<channel><end pd='server' id='9' pp='true'/><end pd='driver' id='9'/></channel>",
    "<channel><end pd='driver' id='9'/><end pd='driver' id='10'/></channel>",
    "<end pd='server' id='9'/>",
    "<io_address_space name='more' peripheral_id='0:7.0' domain_id='7'/>",
    "<io_address_space name='more' peripheral_id='0:2.0' domain_id='7'/>",
    "<iomap mr='io' iovaddr='0x300000'/>",
    "<iomap mr='dma' iovaddr='0x400000'/>",
    "<iomap mr='file' iovaddr='0x400000'/>",
    "<iomap mr='open' iovaddr='0x400000'/>",
    "<iomap mr='auto' iovaddr='0x400000'/>",
    "<domains/>",
    "<domains><domain_schedule><schedule_end_marker/></domain_schedule></domains>",
    "<domain name='more'/>",
    "<domain name='more' id='1'/>",
    "<domain_schedule/>",
    "<schedule_entry domain='day' duration='1 us'/>",
    "<schedule_end_marker/>",
    "<virtual_machine name='vm'><vcpu id='0'/></virtual_machine>",
    "<vcpu id='0'/>",
    "<other/>",
];
/// What is not an element.
const TEXTS: &[&str] = &[
    "text",
    "<!-- comment -->",
    "<![CDATA[ ]]>",
    "<![CDATA[text]]>",
    "<?instruction text?>",
    "&#32;",
    "&amp;",
    "&unknown;",
    "&#0;",
    "\u{a0}",
    "\u{feff}",
    "\r\n",
    "<",
    "]]>",
];

fn values(tag: &str, name: &str) -> BTreeSet<&'static str> {
    let mut values = BTreeSet::new();
    let mut take = |list: &[&'static str]| values.extend(list);
    match name {
        "name" | "path" | "path_for_symbols" | "mr" | "pd" | "symbol" | "region_paddr" | "domain"
        | "prefill_path" => take(NAMES),
        "passive" | "fpu" | "cached" | "notify" | "pp" | "trigger" | "polarity" => take(WORDS),
        "perms" | "prefill_bootinfo" => take(WORDS),
        "pcidev" | "peripheral_id" => take(
            SPECIAL
                .iter()
                .find(|(n, _)| *n == "pci")
                .map_or(&[], |(_, list)| list),
        ),
        _ if name.starts_with("setvar") => take(NAMES),
        _ => take(NUMBERS),
    }
    match name {
        "stack_size" | "page_size" => take(PAGES),
        "size" if tag == "memory_region" => take(PAGES),
        "vaddr" | "iovaddr" | "phys_addr" => take(PLACES),
        _ => {}
    }
    take(
        SPECIAL
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(&[], |(_, list)| list),
    );
    values
}

fn label(text: &str, node: Node<'_, '_>) -> String {
    let line = text[..node.range().start].matches('\n').count() + 1;
    format!("line {line}, <{}>", node.tag_name().name())
}

/// Each attribute with other values, without it, under another name; each attribute that is not there.
pub fn of_attributes(text: &str) -> Vec<Change> {
    let document = Document::parse(text).unwrap();
    let mut changes = Vec::new();
    for node in document.descendants().filter(Node::is_element) {
        let (who, tag) = (label(text, node), node.tag_name().name());
        for attribute in node.attributes() {
            let name = attribute.name();
            for value in values(tag, name) {
                changes.push(Change::new(
                    format!("{who}: {name} is {value:?}"),
                    attribute.range_value(),
                    value,
                ));
            }
            changes.push(Change::new(
                format!("{who}: without {name}"),
                attribute.range(),
                "",
            ));
            let place = attribute.range_qname();
            changes.push(Change::new(
                format!("{who}: {name} as {name}_"),
                place.clone(),
                format!("{name}_"),
            ));
            changes.push(Change::new(
                format!("{who}: {name} as xml:{name}"),
                place,
                format!("xml:{name}"),
            ));
        }
        let place = node.range().start + 1 + tag.len();
        for (name, value) in ATTRIBUTES.iter().filter(|(name, _)| !node.has_attribute(*name)) {
            changes.push(Change::new(
                format!("{who}: with {name}={value:?}"),
                place..place,
                format!(" {name}=\"{value}\""),
            ));
        }
    }
    changes
}

/// Each element removed, doubled, renamed, moved to the start or end; in each element and beside it every other element
/// and every text.
pub fn of_elements(text: &str) -> Vec<Change> {
    let document = Document::parse(text).unwrap();
    let root = document.root_element();
    let mut changes = Vec::new();
    for node in document
        .descendants()
        .filter(|node| node.is_element() && *node != root)
    {
        let (who, range) = (label(text, node), node.range());
        let own = &text[range.clone()];
        changes.push(Change::new(format!("{who}: removed"), range.clone(), ""));
        changes.push(Change::new(format!("{who}: twice"), range.end..range.end, own));
        let inner = own.replacen(node.tag_name().name(), "system", 1);
        changes.push(Change::new(
            format!("{who}: called <system>"),
            range.clone(),
            inner,
        ));
        let before = node.prev_sibling_element();
        if let Some(before) = before {
            let both = before.range().start..range.end;
            let swapped = format!("{own}{}", &text[before.range()]);
            changes.push(Change::new(format!("{who}: before its neighbour"), both, swapped));
        }
        if node.parent() == Some(root) {
            let first = root
                .first_element_child()
                .map_or(range.start, |n| n.range().start);
            let moved = format!("{own}{}", &text[first..range.start]);
            changes.push(Change::new(
                format!("{who}: moved to the start"),
                first..range.end,
                moved,
            ));
            let last = root.last_element_child().map_or(range.end, |n| n.range().end);
            let moved = format!("{}{own}", &text[range.end..last]);
            changes.push(Change::new(
                format!("{who}: moved to the end"),
                range.start..last,
                moved,
            ));
        }
    }
    for node in document.descendants().filter(Node::is_element) {
        let (who, range, tag) = (label(text, node), node.range(), node.tag_name().name());
        for what in ELEMENTS.iter().chain(TEXTS) {
            let open = text[range.clone()].ends_with(&format!("</{tag}>"));
            let (place, by) = match open {
                true => (
                    range.end - tag.len() - 3..range.end - tag.len() - 3,
                    (*what).to_owned(),
                ),
                false => (range.end - 2..range.end, format!(">{what}</{tag}>")),
            };
            changes.push(Change::new(format!("{who}: with {what} in it"), place, by));
        }
    }
    for (at, name) in [(0, "before"), (text.len(), "after")] {
        for what in TEXTS.iter().chain(&["<other/>", "\u{feff}", "<!DOCTYPE system>"]) {
            changes.push(Change::new(format!("{what:?} {name} everything"), at..at, *what));
        }
    }
    changes
}

/// Texts that no single change makes: counts at their limits, other encodings of the same.
pub fn whole(text: &str) -> Vec<(String, String)> {
    let end = text.rfind("</system>").unwrap();
    let with = |more: String| format!("{}{more}{}", &text[..end], &text[end..]);
    let schedule_end = text.find("</domain_schedule>").unwrap();
    let domain_end = text.find("<domain_schedule").unwrap();
    let mut all = Vec::new();
    let own = text.matches("<protection_domain").count();
    for count in [62, 63, 64] {
        let pd = |i| {
            format!(
                "<protection_domain name='p{i}' domain='day'><program_image path='one.elf'/></protection_domain>"
            )
        };
        all.push((
            format!("{count} protection domains"),
            with((own..count).map(pd).collect()),
        ));
    }
    for count in [16, 97, 98, 99, 100, 101] {
        for shift in [0, 2] {
            let more = "<schedule_end_marker/>".repeat(count - 3);
            let text = format!("{}{more}{}", &text[..schedule_end], &text[schedule_end..]);
            let text = text.replace("index_shift=\"2\"", &format!("index_shift=\"{shift}\""));
            all.push((format!("{count} entries, shift {shift}"), text.clone()));
            all.push((
                format!("{count} entries"),
                text.replace(&format!("index_shift=\"{shift}\""), ""),
            ));
        }
    }
    for count in [15, 16, 17, 18] {
        let more: String = (2..count).map(|i| format!("<domain name='d{i}'/>")).collect();
        all.push((
            format!("{count} domains"),
            format!("{}{more}{}", &text[..domain_end], &text[domain_end..]),
        ));
    }
    for deep in [16, 17, 18] {
        let open: String = (0..deep)
            .map(|i| {
                let priority = 100 - i;
                format!(
                    "<protection_domain name='p{i}' priority='{priority}' domain='day' {}><program_image path='one.elf'/>",
                    if i > 0 { "id='0'" } else { "" }
                )
            })
            .collect();
        all.push((
            format!("nested {deep} deep"),
            with(open + &"</protection_domain>".repeat(deep)),
        ));
    }
    all.push((
        "lines end with carriage returns".into(),
        text.replace('\n', "\r\n"),
    ));
    all.push(("another encoding".into(), text.replace("UTF-8", "ISO-8859-1")));
    all.push((
        "a default name space".into(),
        text.replace("<system>", "<system xmlns=\"urn:x\">"),
    ));
    let prefixed = text
        .replace("</", "</s:")
        .replace("<", "<s:")
        .replace("<s:/s:", "</s:")
        .replace("<s:?", "<?");
    let prefixed = prefixed
        .replace("<s:!", "<!")
        .replace("<s:system>", "<s:system xmlns:s=\"urn:x\">");
    all.push(("a name space with a prefix".into(), prefixed));
    all.push(("nothing".into(), String::new()));
    all.push(("no systems".into(), "<system/>".into()));
    all
}
