//! `filter`: changes the rules of a brane's packet filter. The manager has the rules, and each change sends the brane the
//! whole list. The brane may refuse (`FILTER`).
//!
//! A request cannot hold a whole filter. So [`Edit::Stage`] collects rules, and [`Edit::Replace`] makes them the filter.

use crate::Manager;
use crate::filter;
use crate::ids::{BraneId, OperatorId};
use crate::instance::Input;
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open_with_command};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::command;
use brane_abi::filter::{Edit, Rule};
use brane_abi::operator::{Answer, Done, Refusal};

/// State after `FILTER` was sent to the brane.
#[derive(Debug)]
pub(crate) struct Filter {
    pub brane: BraneId,
    /// All rules that the filter gets.
    rules: Vec<Rule>,
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    brane: &str,
    edit: Edit,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    match edit {
        Edit::Add { at, rule } => change(m, operator, brane, cx, |rules| {
            let end = rules.len() + 1;
            let at = at.map_or(Ok(end - 1), |at| place(brane, at, end, rules))?;
            rules.insert(at, rule);
            Ok(())
        }),
        Edit::Delete(number) => change(m, operator, brane, cx, |rules| {
            rules.remove(place(brane, number, rules.len(), rules)?);
            Ok(())
        }),
        Edit::Flush => change(m, operator, brane, cx, |rules| {
            rules.clear();
            Ok(())
        }),
        Edit::Stage { first, rules } => stage(m, operator, brane, first, rules),
        Edit::Replace => {
            // Removed first, so that a refused replacement leaves no rules behind.
            let id = m.brane(brane)?;
            let staged = m.staging.take(operator, id);
            change(m, operator, brane, cx, |rules| {
                *rules = staged.ok_or_else(|| refusals::nothing_staged(brane))?;
                Ok(())
            })
        }
    }
}

/// Changes a copy of a brane's rules and makes it the filter.
fn change(
    m: &mut Manager,
    operator: OperatorId,
    brane: &str,
    cx: &mut Context<'_>,
    edit: impl FnOnce(&mut Vec<Rule>) -> Result<(), Refusal>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(brane)?;
    let mut rules = m.instances.filter(brane).to_vec();
    edit(&mut rules)?;
    let payload = filter::check(&rules).map_err(refusals::bad_filter)?;
    let filter = Filter { brane, rules };
    match m.instances[brane].configured {
        true => open_with_command(m, operator, filter, (brane, command::FILTER, payload), cx),
        false => Ok(Progress::Done(filter.apply(m, cx))),
    }
}

/// Returns the index of a rule's number, which counts from 1. `last` is the highest number allowed.
fn place(brane: &str, number: u16, last: usize, rules: &[Rule]) -> Result<usize, Refusal> {
    match usize::from(number).checked_sub(1) {
        Some(at) if at < last => Ok(at),
        _ => Err(refusals::no_such_rule(brane, number, rules.len())),
    }
}

impl Operation for Filter {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next {
        resume.command_done().map(|()| self.apply(m, cx)).into()
    }

    fn locks(&self) -> Locks {
        Locks {
            branes: Vec::from([self.brane]),
            ..Locks::default()
        }
    }
}

impl Filter {
    /// Writes the new rules to the configuration.
    fn apply(self, m: &mut Manager, cx: &mut Context<'_>) -> Answer {
        let rules = self.rules.len();
        m.instances.set_filter(self.brane, self.rules);
        let brane = m.instances[self.brane].name().to_string();
        m.event(cx.now, "filtered", Some(&brane), None, format!("{rules} rules"));
        m.step(self.brane, Input::Reconfigured, cx);
        Answer::Done(Done::Filtered {
            brane,
            rules: rules as u32,
        })
    }
}

/// Appends rules to the operator's collection for a brane, or begins another collection. If the rules are refused, the
/// collection is forgotten.
fn stage(
    m: &mut Manager,
    operator: OperatorId,
    brane: &str,
    first: bool,
    rules: Vec<Rule>,
) -> Result<Progress, Refusal> {
    let id = m.brane(brane)?;
    let mut all = match (first, m.staging.take(operator, id)) {
        (true, _) => Vec::new(),
        (false, Some(staged)) => staged,
        (false, None) => return Err(refusals::nothing_staged(brane)),
    };
    all.extend(rules);
    filter::check(&all).map_err(refusals::bad_filter)?;
    m.staging.put(operator, id, &all);
    Ok(Progress::Done(Answer::Done(Done::Staged(all.len() as u32))))
}
