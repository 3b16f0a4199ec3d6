//! `log PD LEVEL`: sets the log level of a protection domain, or of the domain of a brane.

use crate::Manager;
use crate::operation::Progress;
use crate::refusals;
use crate::shell::Context;
use brane_abi::log::Level;
use brane_abi::operator::{Answer, Done, LogLevel, Refusal};

pub(super) fn run(
    m: &mut Manager,
    name: &str,
    level: Level,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let domain = m.log_of(name)?.name.clone();
    if !m.logs.set(&domain, level, cx.driver) {
        return Err(refusals::log_level_refused(&domain));
    }
    Ok(Progress::Done(Answer::Done(Done::LogLevelSet(LogLevel {
        pd: domain,
        level,
    }))))
}
