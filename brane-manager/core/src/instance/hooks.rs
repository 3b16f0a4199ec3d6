//! External hooks of a brane: the manager keeps a running brane's list equal to the filters' registrations, and notes what the brane
//! reports of them.
//!
//! Branes are not trusted. A report changes what operators see, and nothing else.

use super::{Audience, Effects, Instance, PendingCommand};
use crate::decode;
use crate::encode;
use crate::ids::JobId;
use alloc::format;
use alloc::string::{String, ToString};
use brane_abi::control::command;

/// Job of a command that no operator waits for.
pub(crate) const NO_JOB: JobId = JobId::new(0);

/// Number of reported changes of one incarnation that become events. A brane must not displace all other events.
const MAX_EVENTS: u32 = 64;

impl Instance {
    /// Sends the brane its present hooks if they are not those that it has.
    pub(super) fn update_hooks(&mut self, now: u64, audience: &dyn Audience, effects: &mut Effects) {
        let Some(config) = self.config.as_mut().filter(|_| self.configured) else {
            return;
        };
        let hooks = audience.hooks(&config.name);
        if config.hooks == hooks {
            return;
        }
        let payload = encode(&hooks);
        config.hooks = hooks;
        let token = self.next_token();
        self.commands.push(PendingCommand {
            token,
            deadline: now + super::commands::CHANGE_NS,
            is_query: false,
            job: NO_JOB,
        });
        effects.act(self.send(command::HOOKS, token, payload));
    }

    /// Handles a report that a hook is attached or detached.
    pub(super) fn hooks_changed(&mut self, now: u64, payload: &[u8], effects: &mut Effects) {
        let hooks = match decode::hooks(payload) {
            Ok(hooks) => hooks,
            Err(why) => {
                self.counters.reports_refused += 1;
                return self.report_violation(now, format!("a report is {}", why.code()), effects);
            }
        };
        for hook in &hooks {
            let mut old = self.status.hooks.iter();
            let same = |old: &&brane_abi::hook::HookStatus| old.filter == hook.filter;
            if old.find(same).is_some_and(|old| old.state == hook.state) || self.hook_reports >= MAX_EVENTS {
                continue;
            }
            self.hook_reports += 1;
            let attached = hook.state == "attached";
            let detail = match attached {
                true => format!("filter{}", hook.filter),
                false => format!("filter{}: {}", hook.filter, hook.state),
            };
            if !attached && hook.detached > 0 {
                effects.log(format!("{} has detached {detail}", self.label()));
            }
            let what = if attached {
                "hook-attached"
            } else {
                "hook-detached"
            };
            let name: String = self.name().to_string();
            effects.event(what, &name, detail);
        }
        self.status.hooks = hooks;
    }
}
