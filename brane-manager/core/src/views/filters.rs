//! `filters`: the registered external filters, and the state of each of their hooks in each brane.

use super::{Fresh, View};
use crate::Manager;
use crate::filters::{Filters, Listed};
use crate::shell::Context;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::hook::HookStatus;
use brane_abi::operator::{Answer, Cell, Refusal, Report};

#[derive(Clone, Debug)]
pub(crate) struct FilterTable;

const COLUMNS: [&str; 16] = [
    "filter",
    "hook",
    "rank",
    "heads",
    "fails",
    "deadline_us",
    "restarts",
    "last_fault",
    "brane",
    "state",
    "packets",
    "verdicts",
    "missed",
    "full",
    "unattended",
    "detached",
];

impl View for FilterTable {
    fn show(&self, m: &Manager, _: Fresh, _: &mut Context<'_>) -> Result<Answer, Refusal> {
        let mut rows = Vec::new();
        for filter in m.filters.listed() {
            let before = rows.len();
            for b in m.instances.branes() {
                let hooks = b.config.iter().flat_map(|config| &config.hooks);
                let number = filter.id.index();
                if hooks.into_iter().all(|hook| usize::from(hook.filter) != number) {
                    continue;
                }
                let mut statuses = b.status.hooks.iter();
                let status = statuses.find(|status| usize::from(status.filter) == number);
                rows.push(row(&filter, Some(b.name()), status));
            }
            if rows.len() == before {
                rows.push(row(&filter, None, None));
            }
        }
        Ok(Answer::Report(Report {
            facts: Vec::new(),
            columns: COLUMNS.map(Into::into).into(),
            rows,
        }))
    }
}

fn row(filter: &Listed<'_>, brane: Option<&str>, status: Option<&HookStatus>) -> Vec<Cell> {
    let text = |text: &str| match text {
        "" => Cell::None,
        text => Cell::Text(text.into()),
    };
    let registration = filter.registration;
    let heads: Vec<&str> = registration.heads.iter().map(|head| head.name()).collect();
    let heads: String = heads.join(",");
    let mut row = Vec::from([
        Cell::Text(Filters::name(filter.id)),
        text(&registration.name),
        Cell::Number(registration.rank.into()),
        Cell::Text(heads),
        text(if registration.fail_open { "open" } else { "closed" }),
        Cell::Micros(u64::from(registration.deadline_ms) * 1000),
        Cell::Number(filter.restarts.into()),
        text(filter.last_fault),
        text(brane.unwrap_or_default()),
        text(status.map_or("", |status| &status.state)),
    ]);
    let counts = |status: &HookStatus| {
        [
            status.packets,
            status.verdicts,
            status.missed,
            status.full,
            status.unattended,
            status.detached,
        ]
    };
    match status {
        Some(status) => row.extend(counts(status).map(Cell::Number)),
        None => row.extend([const { Cell::None }; 6]),
    }
    row
}
