//! Scheduling domains and their schedule.

use crate::xml::{Element, number};
use crate::*;

/// Number of domains in the kernel's configuration.
const MAX_DOMAINS: usize = 16;
/// Maximum of schedule entries. The kernel's table has 100, of which Microkit's tool leaves one unused.
const MAX_ENTRIES: usize = 99;

/// Parses `<domains>`.
pub fn domains(e: &Element, system: &mut System, errors: &mut Errors) {
    e.finish(errors);
    let mut schedules = 0;
    for child in e.children(errors) {
        match child.tag() {
            "domain" => {
                let name = child.name(errors);
                let id = child.number_within("id", 0, MAX_DOMAINS as u64 - 1, errors);
                child.leaf(errors);
                let position = child.position();
                system.domains.extend(name.map(|name| Domain {
                    name,
                    id: id.map(|id| id as u8),
                    position,
                }));
            }
            "domain_schedule" => {
                schedules += 1;
                system.domain_schedule = Some(schedule(&child, errors));
            }
            _ => child.unexpected("domains", "domain, domain_schedule", errors),
        }
    }
    if schedules != 1 {
        let what = format!("<domains> has {schedules} schedules");
        errors.add(
            "domain-schedule",
            e.position(),
            what,
            "write one <domain_schedule>",
        );
    }
    if system.domains.len() > MAX_DOMAINS {
        let what = format!("{} scheduling domains", system.domains.len());
        let help = format!("{MAX_DOMAINS} are allowed");
        errors.add("domain-schedule", e.position(), what, help);
    }
}

fn schedule(e: &Element, errors: &mut Errors) -> DomainSchedule {
    let last = MAX_ENTRIES as u64 - 1;
    let start_index = e.number_within("start_index", 0, last, errors).unwrap_or(0);
    let index_shift = e.number_within("index_shift", 0, last, errors).unwrap_or(0);
    e.finish(errors);
    let mut entries = Vec::new();
    let children = e.children(errors);
    let count = children.len();
    for child in children {
        match child.tag() {
            "schedule_entry" => entries.extend(entry(&child, errors)),
            "schedule_end_marker" => {
                child.leaf(errors);
                entries.push(ScheduleEntry::EndMarker);
            }
            _ => child.unexpected("domain_schedule", "schedule_entry, schedule_end_marker", errors),
        }
    }
    if count == 0 || index_shift as usize + count > MAX_ENTRIES {
        let what = format!("a domain schedule of {count} entries, shifted by {index_shift}");
        let help = format!("there are places for 1 to {MAX_ENTRIES}");
        errors.add("domain-schedule", e.position(), what, help);
    } else if start_index as usize >= count {
        let what = format!("the domain schedule starts at entry {start_index}, and has {count} entries");
        let help = "start at an entry that exists, counted from 0";
        errors.add("domain-schedule", e.at("start_index"), what, help);
    }
    DomainSchedule {
        start_index: start_index as u8,
        index_shift: index_shift as u8,
        entries,
        position: e.position(),
    }
}

fn entry(e: &Element, errors: &mut Errors) -> Option<ScheduleEntry> {
    let domain = e.reference("domain", errors);
    let text = e.required("duration", errors);
    e.leaf(errors);
    let duration = text.and_then(duration);
    if let Some(text) = text.filter(|_| duration.is_none()) {
        let what = format!("`duration` is \"{}\"", text.escape_debug());
        let help = "write a number above 0, one space and its unit, as in \"1000 us\" or \"20 ticks\"";
        errors.add("domain-schedule", e.at("duration"), what, help);
    }
    Some(ScheduleEntry::Run {
        domain: domain?,
        duration: duration?,
        position: e.position(),
    })
}

fn duration(text: &str) -> Option<Duration> {
    let (length, unit) = text.split_once(' ')?;
    let length = number(length).filter(|length| *length > 0)?;
    match unit {
        "us" => Some(Duration::Micros(length)),
        "ticks" => Some(Duration::Ticks(length)),
        _ => None,
    }
}
