//! `show`: one brane, with its own report and the drivers' counters of its devices.

use super::list::outline;
use super::stats::vif_groups;
use super::{Fresh, View};
use crate::Manager;
use crate::ids::BraneId;
use crate::shell::Context;
use alloc::string::String;
use brane_abi::operator::{Answer, Brane, Refusal};

#[derive(Clone, Debug)]
pub(crate) struct Show(pub String);

impl View for Show {
    fn show(&self, m: &Manager, _: Fresh, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let brane = m.brane(&self.0)?;
        Ok(Answer::Brane(show(m, brane, cx)))
    }
}

pub(crate) fn show(m: &Manager, id: BraneId, cx: &mut Context<'_>) -> Brane {
    let b = &m.instances[id];
    Brane {
        status: b.status.clone(),
        vifs: vif_groups(m, id, cx),
        ..outline(b, cx.now)
    }
}
