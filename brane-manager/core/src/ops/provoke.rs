//! `crash` and `hang`: make a brane fault or hang, to test the recovery. The answer does not wait for that.

use crate::Manager;
use crate::instance::{Input, Provocation};
use crate::operation::Progress;
use crate::shell::Context;
use brane_abi::operator::{Answer, Done, Purpose, Refusal};

pub(super) fn crash(m: &mut Manager, name: &str, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let brane = m.started_brane(name, Purpose::Crash)?;
    m.step(brane, Input::Provoke(Provocation::Crash), cx);
    Ok(Progress::Done(Answer::Done(Done::Faulting(name.into()))))
}

pub(super) fn hang(m: &mut Manager, name: &str, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let brane = m.started_brane(name, Purpose::Hang)?;
    m.step(brane, Input::Provoke(Provocation::Hang), cx);
    Ok(Progress::Done(Answer::Done(Done::Hanging(name.into()))))
}
