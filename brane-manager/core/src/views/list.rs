//! `list`: all branes, without counters.

use super::{Fresh, View};
use crate::Manager;
use crate::instance::Instance;
use crate::shell::Context;
use alloc::vec::Vec;
use brane_abi::control::{BraneStatus, all_families};
use brane_abi::operator::{Answer, Brane, Refusal};

#[derive(Clone, Debug)]
pub(crate) struct List;

impl View for List {
    fn show(&self, m: &Manager, _: Fresh, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let all = m.instances.branes();
        let all = all.map(|b| Brane {
            status: BraneStatus {
                interfaces: b.status.interfaces.clone(),
                counters: Vec::new(),
                hooks: Vec::new(),
            },
            ..outline(b, cx.now)
        });
        Ok(Answer::Branes(all.collect()))
    }
}

/// Returns the manager's view of a brane, without the brane's own report.
pub(super) fn outline(b: &Instance, now: u64) -> Brane {
    let config = b.config.as_ref();
    Brane {
        id: b.id().index() as u32,
        name: b.name().into(),
        state: b.state.word().into(),
        restarts: b.restarts,
        last_fault: b.last_fault.clone(),
        status_age_ms: b
            .status_at
            .map_or(u64::MAX, |at| now.saturating_sub(at) / 1_000_000),
        primary: config.is_some_and(|c| c.primary),
        recovery_us: b.recovery_ns / 1_000,
        families: config
            .and_then(|c| c.families.clone())
            .unwrap_or_else(all_families),
        interfaces: b.interfaces().to_vec(),
        ..Brane::default()
    }
}
