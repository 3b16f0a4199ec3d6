//! Views: requests that only read. One file for each; short views are in this file.
//!
//! A view of the branes' reports first asks the branes, and waits until all have answered, at most [`REPORTS_NS`].

use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::{Input, Instance};
use crate::jobs::OnCancel;
use crate::operation::{Deferred, JobResult, Next, Operation, Progress, Resume, Resumed, open};
use crate::refusals;
use crate::shell::Context;
use crate::text::subscriber_name;
use alloc::boxed::Box;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Cell, Refusal, Report, Request};
use core::fmt::Debug;

mod audit;
mod devices;
mod events;
mod filters;
mod list;
mod logs;
mod names;
mod save;
mod show;
mod stats;

#[cfg(test)]
pub(crate) use {show::show, stats::all as all_stats};

/// Maximum time that a view waits for the reports of all branes, in nanoseconds.
const REPORTS_NS: u64 = 500_000_000;

/// Time at which branes were asked for their reports, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fresh {
    pub since: u64,
}

/// A request that only reads.
pub(crate) trait View: Debug + 'static {
    fn show(&self, m: &Manager, fresh: Fresh, cx: &mut Context<'_>) -> Result<Answer, Refusal>;
}

/// Begins a request that only reads.
pub(crate) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    request: Request,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    match request {
        Request::List { fresh: true } => ask_branes(m, operator, list::List, cx),
        Request::List { fresh: false } => {
            let answer = list::List.show(m, Fresh { since: cx.now }, cx)?;
            Ok(Progress::Done(answer))
        }
        Request::Show(name) => {
            m.brane(&name)?;
            ask_branes(m, operator, show::Show(name), cx)
        }
        Request::Stats(name) => ask_branes(m, operator, stats::Stats(name), cx),
        Request::Audit => ask_branes(m, operator, audit::Audit, cx),
        Request::Events { after, wait } => events::begin(m, operator, (after, wait), cx),
        Request::Uptime => Ok(Progress::Done(Answer::Report(uptime(m, cx.now)))),
        Request::Devices => Ok(Progress::Done(devices::show(m))),
        Request::Subscribers => Ok(Progress::Done(Answer::Subscribers(
            m.subscribers.list(subscriber_name),
        ))),
        Request::Filters => ask_branes(m, operator, filters::FilterTable, cx),
        Request::Save => Ok(Progress::Done(save::show(m))),
        Request::Names => Ok(Progress::Done(names::show(m))),
        Request::LogLevels(pd) => logs::levels(m, pd).map(Progress::Done),
        Request::Logs { pd, after, wait } => logs::begin(m, operator, (pd, after, wait), cx),
        // The operations are in `ops`.
        _ => Err(refusals::unreadable_request()),
    }
}

/// `uptime`: times since the boot, and since each brane's start and last restart.
fn uptime(m: &Manager, now: u64) -> Report {
    let since = |at: Option<u64>| at.map_or(Cell::None, |at| Cell::Micros(now.saturating_sub(at) / 1_000));
    let row = |b: &Instance| {
        let text = |text: &str| Cell::Text(text.into());
        Vec::from([
            text(b.name()),
            text(b.state.word()),
            since(b.times.started),
            since(b.times.restarted),
        ])
    };
    Report {
        facts: Vec::from([("up_us".into(), Cell::Micros(m.since_start(now) / 1_000))]),
        columns: ["brane", "state", "started_us", "restarted_us"]
            .map(Into::into)
            .into(),
        rows: m.instances.branes().map(row).collect(),
    }
}

/// Asks all branes for a report and begins the job that shows the view.
fn ask_branes(
    m: &mut Manager,
    operator: OperatorId,
    view: impl View,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let job = open(m, operator, AwaitReports(Box::new(view)), cx)?;
    for id in m.instances.ids() {
        m.step(id, Input::RequestStatus, cx);
    }
    Ok(Progress::Pending(job))
}

/// State after the branes were asked for a report.
#[derive(Debug)]
struct AwaitReports(Box<dyn View>);

/// State after the branes have reported. The view is computed when the operator fetches it.
#[derive(Debug)]
struct Shown {
    view: Box<dyn View>,
    fresh: Fresh,
}

impl Operation for AwaitReports {
    fn resume(self: Box<Self>, _: &mut Manager, job: Resumed, _: Resume, _: &mut Context<'_>) -> Next {
        Next::End(JobResult::Deferred(Box::new(Shown {
            view: self.0,
            fresh: Fresh { since: job.since },
        })))
    }

    fn is_ready(&self, m: &Manager, since: u64) -> bool {
        m.instances.iter().all(|b| b.has_reported(since))
    }

    fn patience_ns(&self) -> Option<u64> {
        Some(REPORTS_NS)
    }

    fn on_cancel(&self) -> OnCancel {
        OnCancel::Drop
    }
}

impl Deferred for Shown {
    fn answer(self: Box<Self>, m: &mut Manager, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        self.view.show(m, self.fresh, cx)
    }
}
