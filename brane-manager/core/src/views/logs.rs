//! `logs`: returns lines that serial stores, of one protection domain or of all, with numbers above the given one. If
//! there are none and the operator follows, the job waits for lines.

use crate::Manager;
use crate::driver::Driver;
use crate::ids::OperatorId;
use crate::jobs::OnCancel;
use crate::logs::Domain;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open};
use crate::shell::Context;
use crate::text::printable;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, LOG_LINES, LogLevel, LogLine, Refusal};

/// Time after which a job reads lines again, in nanoseconds. Serial sends no notification for new lines.
const WAIT_NS: u64 = 200_000_000;

/// Waits for lines above this number.
#[derive(Debug)]
struct Follow {
    domain: Option<String>,
    after: u64,
}

/// Returns the level of one domain, or of each.
pub(super) fn levels(m: &Manager, name: Option<String>) -> Result<Answer, Refusal> {
    let level = |domain: &Domain| LogLevel {
        pd: domain.name.clone(),
        level: domain.level,
    };
    Ok(Answer::LogLevels(match name {
        Some(name) => Vec::from([level(m.log_of(&name)?)]),
        None => m.logs.iter().map(level).collect(),
    }))
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    (name, after, wait): (Option<String>, u64, bool),
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let domain = match name {
        Some(name) => Some(m.log_of(&name)?.name.clone()),
        None => None,
    };
    let lines = lines(m, domain.as_deref(), after, cx.driver);
    if !wait || !lines.is_empty() {
        return Ok(Progress::Done(Answer::Logs(lines)));
    }
    open(m, operator, Follow { domain, after }, cx).map(Progress::Pending)
}

/// Returns the lines of one domain or of all in order, as many as fit into an answer.
fn lines(m: &Manager, domain: Option<&str>, after: u64, driver: &mut dyn Driver) -> Vec<LogLine> {
    let mut all = Vec::new();
    for log in m
        .logs
        .iter()
        .filter(|log| domain.is_none_or(|name| name == log.name))
    {
        driver.log_lines(log.number, after, &mut |line| {
            all.push(LogLine {
                number: line.number,
                at_us: m.since_start(line.at_ns) / 1_000,
                pd: log.name.clone(),
                level: line.level,
                text: printable(line.text),
            });
        });
        // The first lines of all domains are kept, so memory does not grow with the number of domains.
        all.sort_unstable_by_key(|line| line.number);
        all.truncate(LOG_LINES);
    }
    all
}

impl Operation for Follow {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, _: Resume, cx: &mut Context<'_>) -> Next {
        let found = lines(m, self.domain.as_deref(), self.after, cx.driver);
        Ok(Answer::Logs(found)).into()
    }

    fn patience_ns(&self) -> Option<u64> {
        Some(WAIT_NS)
    }

    fn on_cancel(&self) -> OnCancel {
        OnCancel::Drop
    }
}
