//! `readmit`: ends the quarantine of a subscriber. Its protection domain is restarted, and subscribes anew. An external filter is
//! restarted too, because branes attach a filter that they have detached only when it has restarted.

use crate::Manager;
use crate::filters::Filters;
use crate::operation::Progress;
use crate::refusals;
use crate::shell::{Action, Child, Context};
use crate::text::subscriber_name;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::{Answer, Done, Refusal};

pub(super) fn run(m: &mut Manager, name: &str, cx: &mut Context<'_>) -> Result<Progress, Refusal> {
    let mut filters = m.filters.ids();
    if let Some(id) = filters.find(|&id| Filters::name(id) == name) {
        m.filters.readmit(cx.now, id);
        return Ok(Progress::Done(Answer::Done(Done::Readmitted(name.into()))));
    }
    let mut ids = m.subscribers.ids();
    let Some(id) = ids.find(|&id| subscriber_name(id) == name) else {
        let names: Vec<_> = m.subscribers.ids().map(subscriber_name).collect();
        let names = names.iter().map(String::as_str);
        return Err(refusals::no_such_subscriber(name, names));
    };
    if !m.subscribers.readmit(cx.now, id) {
        return Err(refusals::not_quarantined(name));
    }
    cx.actions.push(Action::Restart(Child::Subscriber(id)));
    Ok(Progress::Done(Answer::Done(Done::Readmitted(name.into()))))
}
