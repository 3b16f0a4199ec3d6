//! Property tests with any text as a description: the parser never panics, and gives position and reason of
//! each fault.

use branes_system::configs::{Config, Entry};
use branes_system::{RULES, System, codegen};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::path::Path;

const SYSTEM: &str = include_str!("../../../system.xml");

/// Checks a text. Returns true if it is a valid system.
fn check(text: &str) -> Result<bool, TestCaseError> {
    let system = match System::parse(text, "any.xml") {
        Ok(system) => system,
        Err(errors) => {
            prop_assert!(!errors.is_empty());
            let lines: Vec<&str> = text.split('\n').collect();
            for error in errors.iter() {
                let (line, column) = (error.position.line as usize, error.position.column as usize);
                prop_assert!((1..=lines.len()).contains(&line), "{error:?}");
                prop_assert!(
                    (1..=lines[line - 1].chars().count() + 1).contains(&column),
                    "{error:?}"
                );
                prop_assert!(RULES.iter().any(|rule| rule.id == error.rule), "{error:?}");
                prop_assert!(!error.what.is_empty() && !error.help.is_empty());
            }
            prop_assert_eq!(errors.to_string().lines().count(), errors.iter().count());
            return Ok(false);
        }
    };
    for pd in &system.protection_domains {
        let _ = codegen::program(&system, &pd.program);
    }
    for instances in [2, 17] {
        let entry = Entry {
            instances,
            ..Entry::default()
        };
        // The expanded system is checked again, so it is valid or refused with a reason.
        if let Err(error) = Config::resolve(Path::new("."), "any", entry, Path::new("any.xml"), text) {
            prop_assert!(error.to_string().contains("any.xml"), "{error}");
        }
    }
    Ok(true)
}

/// A change to a description.
#[derive(Clone, Debug)]
enum Change {
    /// Removes a line.
    Delete(Index),
    /// Repeats a line elsewhere.
    Repeat(Index, Index),
    /// Replaces the text between two quotes.
    Value(Index, String),
    /// Replaces a character.
    Character(Index, char),
    /// Truncates the text.
    Cut(Index),
}

fn value() -> impl Strategy<Value = String> {
    let known = [
        "",
        "0",
        "1",
        "61",
        "62",
        "254",
        "0x1000",
        "0x200000",
        "0x7fffffffa000",
        "0xffffffffffffffff",
        "-1",
        "w",
        "rwx",
        "true",
        "false",
        "edge",
        "brane-2",
        "brane-0",
        "ports-1",
        "ports-3",
        "timer",
        "tsc",
        "monitor",
        "x86_tsc_freq",
        "0:2.0",
        "&#10;",
        "&lt;",
        "\u{e4}",
        "4096",
        "255",
        "18446744073709551616",
    ];
    prop_oneof![
        8 => select(known.to_vec()).prop_map(str::to_owned),
        1 => "[^<&\"]{0,12}",
        1 => any::<u64>().prop_map(|n| n.to_string()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => any::<Index>().prop_map(Change::Delete),
        2 => any::<(Index, Index)>().prop_map(|(from, to)| Change::Repeat(from, to)),
        8 => (any::<Index>(), value()).prop_map(|(at, value)| Change::Value(at, value)),
        1 => any::<(Index, char)>().prop_map(|(at, c)| Change::Character(at, c)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let mut lines: Vec<&str> = text.split('\n').collect();
    let mut characters: Vec<char> = text.chars().collect();
    match change {
        Change::Delete(at) => {
            lines.remove(at.index(lines.len()));
            lines.join("\n")
        }
        Change::Repeat(from, to) => {
            lines.insert(to.index(lines.len()), lines[from.index(lines.len())]);
            lines.join("\n")
        }
        Change::Value(at, value) => {
            let mut parts: Vec<&str> = text.split('"').collect();
            let values = parts.len() / 2;
            if values > 0 {
                parts[2 * at.index(values) + 1] = value;
            }
            parts.join("\"")
        }
        Change::Character(at, c) => {
            if !characters.is_empty() {
                let at = at.index(characters.len());
                characters[at] = *c;
            }
            characters.into_iter().collect()
        }
        Change::Cut(at) => {
            characters.truncate(at.index(characters.len() + 1));
            characters.into_iter().collect()
        }
    }
}

const ELEMENTS: [&str; 24] = [
    "system",
    "memory_region",
    "protection_domain",
    "program_image",
    "map",
    "irq",
    "ioport",
    "setvar",
    "cspace",
    "cap_tcb",
    "cap_sc",
    "cap_vspace",
    "channel",
    "end",
    "io_address_space",
    "iomap",
    "domains",
    "domain",
    "domain_schedule",
    "schedule_entry",
    "schedule_end_marker",
    "virtual_machine",
    "vcpu",
    "other",
];
const ATTRIBUTES: [&str; 42] = [
    "name",
    "size",
    "page_size",
    "phys_addr",
    "prefill_path",
    "prefill_bootinfo",
    "priority",
    "budget",
    "period",
    "passive",
    "stack_size",
    "cpu",
    "smc",
    "fpu",
    "domain",
    "id",
    "setvar_id",
    "path",
    "path_for_symbols",
    "mr",
    "vaddr",
    "perms",
    "cached",
    "setvar_vaddr",
    "setvar_size",
    "setvar_prefill_size",
    "irq",
    "pin",
    "vector",
    "ioapic",
    "trigger",
    "polarity",
    "pcidev",
    "handle",
    "addr",
    "setvar_addr",
    "symbol",
    "region_paddr",
    "slot",
    "pd",
    "notify",
    "pp",
];

/// Generates random combinations of the format's elements and attributes.
fn element() -> impl Strategy<Value = String> {
    let attributes = || prop::collection::btree_map(select(ATTRIBUTES.to_vec()), value(), 0..6);
    let open = move || (select(ELEMENTS.to_vec()), attributes());
    let text = |attributes: std::collections::BTreeMap<&str, String>| {
        let all = attributes
            .iter()
            .map(|(name, value)| format!(" {name}=\"{value}\""));
        all.collect::<String>()
    };
    let leaf = open().prop_map(move |(tag, attributes)| format!("<{tag}{}/>\n", text(attributes)));
    leaf.prop_recursive(6, 40, 8, move |inner| {
        (open(), prop::collection::vec(inner, 0..8)).prop_map(move |((tag, attributes), children)| {
            format!("<{tag}{}>\n{}</{tag}>\n", text(attributes), children.concat())
        })
    })
}

proptest! {
    #[test]
    fn a_changed_system_is_read_or_refused(changes in prop::collection::vec(change(), 1..5)) {
        let text = changes.iter().fold(SYSTEM.to_owned(), |text, change| changed(&text, change));
        check(&text)?;
    }

    #[test]
    fn senseless_elements_are_read_or_refused(children in prop::collection::vec(element(), 0..8)) {
        check(&format!("<system>\n{}</system>", children.concat()))?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check(&text)?;
    }
}

#[test]
fn the_real_system_passes_the_same_check() {
    assert!(check(SYSTEM).expect("a check that holds"));
}

#[test]
fn deep_and_large_texts_are_refused() {
    let deep = format!(
        "<system>{}{}</system>",
        "<map>".repeat(50_000),
        "</map>".repeat(50_000)
    );
    assert!(!check(&deep).expect("a check that holds"));
    let wide = format!("<system>{}</system>", "<map/>".repeat(120_000));
    assert!(!check(&wide).expect("a check that holds"));
}
