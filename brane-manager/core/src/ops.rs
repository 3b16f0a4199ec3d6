//! Operations: one file for each, with both halves. A request is checked first, and nothing changes unless all of it is
//! possible.
//!
//! Operators are not trusted. Requests that only read are views ([`crate::views`]).

use crate::Manager;
use crate::ids::OperatorId;
use crate::operation::{Progress, Resume, resume};
use crate::refusals;
use crate::shell::Context;
use crate::views;
use alloc::boxed::Box;
use alloc::vec::Vec;
use brane_abi::operator::{Refusal, Request};

mod add_device;
mod address;
mod assign;
mod batch;
pub(crate) mod capture;
mod create;
mod delete;
mod delete_device;
mod filter;
mod limit;
mod provoke;
mod query;
mod reach_state;
mod readmit;
mod remove;
mod rename;
mod rename_device;
mod set_log_level;
mod settle;
mod shutdown;
mod start;

#[cfg(any(test, feature = "testing"))]
pub(crate) use {address::Address, assign::Assign, filter::Filter, rename::Rename};

/// Begins a request. All requests other than these operations are views.
pub(crate) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    request: Request,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    if let Some(why) = &m.boot_error {
        return Err(refusals::no_boot_configuration(why));
    }
    match request {
        Request::Create {
            name,
            families,
            memory,
            start,
        } => create::begin(m, operator, name, (families, memory), start, cx),
        Request::Start(name) => start::begin(m, operator, &name, cx),
        Request::Shutdown { name, deadline_ms } => shutdown::begin(m, operator, &name, deadline_ms, cx),
        Request::Delete { name, deadline_ms } => delete::begin(m, operator, &name, deadline_ms, cx),
        Request::RenameBrane { from, to } => rename::begin_brane(m, operator, &from, to, cx),
        Request::RenameInterface { brane, from, to } => {
            rename::begin_interface(m, operator, &brane, from, to, cx)
        }
        Request::Assign {
            device,
            brane,
            interface,
            addressing,
        } => assign::begin(
            m,
            operator,
            (&device, &brane, interface.as_deref()),
            addressing,
            cx,
        ),
        Request::Remove(device) => remove::begin(m, operator, &device, cx),
        Request::Adjust {
            brane,
            interface,
            addressing,
        } => address::begin(m, operator, (&brane, &interface), addressing, cx),
        Request::Limit {
            device,
            mode,
            allow,
            rate_up,
            rate_down,
        } => limit::run(m, &device, (mode, allow), (rate_up, rate_down), cx),
        Request::AddDevice(config) => add_device::run(m, config, cx),
        Request::DeleteDevice(name) => delete_device::run(m, name, cx),
        Request::RenameDevice { from, to } => rename_device::begin(m, operator, from, to, cx),
        Request::Query { brane, query } => query::begin(m, operator, &brane, &query, cx),
        Request::Crash(name) => provoke::crash(m, &name, cx),
        Request::Hang(name) => provoke::hang(m, &name, cx),
        Request::SetLogLevel { pd, level } => set_log_level::run(m, &pd, level, cx),
        Request::Readmit(name) => readmit::run(m, &name, cx),
        Request::Filter { brane, edit } => filter::begin(m, operator, &brane, edit, cx),
        Request::StageCapture(stage) => capture::stage(m, operator, stage),
        Request::Capture(wanted) => capture::begin(m, operator, wanted, cx),
        Request::StopCapture(tag) => capture::stop(m, operator, tag),
        Request::Batch(requests) => batch::begin(m, operator, &requests, cx),
        view => views::begin(m, operator, view, cx),
    }
}

/// Resumes the jobs whose wait is over. Returns true if a batch has continued, so that there may be more to do.
pub(crate) fn resume_due(m: &mut Manager, cx: &mut Context<'_>) -> bool {
    let parts = m.jobs.take_parts();
    let more = !parts.is_empty();
    for (batch, result) in parts {
        resume(m, batch, Resume::Part(Box::new(result)), cx);
    }
    let running = m.jobs.running().iter();
    let ready = running.filter(|job| job.operation.is_ready(m, job.since));
    for job in ready.map(|job| job.id).collect::<Vec<_>>() {
        resume(m, job, Resume::Ready, cx);
    }
    let running = m.jobs.running().iter();
    let late = running.filter(|job| job.deadline.is_some_and(|at| at <= cx.now));
    for job in late.map(|job| job.id).collect::<Vec<_>>() {
        resume(m, job, Resume::Late, cx);
    }
    more || m.jobs.has_parts()
}
