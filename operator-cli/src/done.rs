//! The words for what a change did: one code and one text for each [`Done`]. It owns no state. The manager is on the other side, and
//! is trusted; the names come from operators.

use alloc::format;
use alloc::string::String;
use brane_abi::operator::Done;

/// Returns the code of what was done, as in JSON answers. It is stable.
pub const fn code(done: &Done) -> &'static str {
    match done {
        Done::Nothing => "nothing",
        Done::Created(_) => "created",
        Done::Started(_) => "started",
        Done::StartedAlready(_) => "started-already",
        Done::ShutDown { .. } => "shut-down",
        Done::ShutDownAlready(_) => "shut-down-already",
        Done::Renamed { .. } => "renamed",
        Done::InterfaceRenamed { .. } => "interface-renamed",
        Done::Assigned { .. } => "assigned",
        Done::Removed { .. } => "removed",
        Done::Addressed { .. } => "addressed",
        Done::Limited(_) => "limited",
        Done::DeviceCreated { .. } => "device-created",
        Done::Faulting(_) => "faulting",
        Done::Hanging(_) => "hanging",
        Done::LogLevelSet(_) => "log-level-set",
        Done::Readmitted(_) => "readmitted",
        Done::Filtered { .. } => "filtered",
        Done::Staged(_) => "staged",
    }
}

/// Returns what was done, in words. Empty if there is nothing to report.
pub fn words(done: &Done) -> String {
    match done {
        Done::Nothing => String::new(),
        Done::Created(brane) => format!("{brane} is created; `branectl start {brane}` starts it"),
        Done::Started(brane) => format!("{brane} is started"),
        Done::StartedAlready(brane) => format!("{brane} is started already"),
        Done::ShutDown { brane, aborted } => {
            let aborted = match aborted {
                0 => String::new(),
                some => format!("; {some} connections were aborted"),
            };
            format!("{brane} is shut down; `branectl start {brane}` opens it again{aborted}")
        }
        Done::ShutDownAlready(brane) => format!("{brane} is shut down already"),
        Done::Renamed { from, to } => format!("{from} is called {to} now"),
        Done::InterfaceRenamed { brane, from, to } => format!("{from} of {brane} is called {to} now"),
        Done::Assigned {
            device,
            interface,
            brane,
            from,
        } => {
            let from = from
                .as_ref()
                .map_or(String::new(), |from| format!(" from {from}"));
            format!("{device} is {interface} of {brane}{from}")
        }
        Done::Removed {
            device,
            interface,
            brane,
        } => format!("{device} is no longer {interface} of {brane}"),
        Done::Addressed { interface, brane } => format!("{interface} of {brane} has its new addresses"),
        Done::Limited(device) => format!("{device} has its new limits"),
        Done::DeviceCreated { device, mac } => format!("{device} is there, with the MAC address {mac}"),
        Done::Faulting(brane) => format!("{brane} was ordered to fault"),
        Done::Hanging(brane) => format!("{brane} was ordered to hang"),
        Done::LogLevelSet(log) => format!("{} logs at level {}", log.pd, log.level.name()),
        Done::Readmitted(subscriber) => format!("{subscriber} is restarted"),
        Done::Filtered { brane, rules } => format!("the filter of {brane} has {}", count(*rules)),
        Done::Staged(rules) => format!("{} collected", count(*rules)),
    }
}

/// Returns a number of rules, in words.
fn count(rules: u32) -> String {
    match rules {
        0 => "no rules".into(),
        1 => "1 rule".into(),
        more => format!("{more} rules"),
    }
}
