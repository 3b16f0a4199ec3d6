//! The stack's side of external hooks: which are attached, and how a packet goes on behind one.
//!
//! Configurations come from the manager (trusted). Packets with new bytes come from a filter, were checked by [`super::external`], and
//! are handled as the packets that they replace.

use super::Pfil;
use super::external::{Held, Way};
use crate::stack::Stack;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::hook::{HookConfig, HookStatus, MAX_DEADLINE_MS};
use branes_pfil::chain::Verdict;

impl Stack {
    /// Returns true if an external hook is attached.
    pub(super) fn has_hooks(&self) -> bool {
        let mut all = self.externals.0.iter();
        all.any(|external| external.borrow().config().is_some())
    }

    /// Replaces the external hooks at once. An error leaves the old ones in force, and is the reason.
    pub fn set_hooks(&mut self, now: u64, hooks: &[HookConfig]) -> Result<(), String> {
        for (n, config) in hooks.iter().enumerate() {
            let filter = usize::from(config.filter);
            let twice = hooks[..n].iter().any(|other| other.filter == config.filter);
            let heads = config.heads.iter().enumerate();
            let mut again = heads.filter(|(at, head)| config.heads[..*at].contains(head));
            if filter >= self.externals.0.len() || twice {
                return Err(format!("hook {}: no filter {filter} for it", config.name));
            }
            if config.heads.is_empty() || again.next().is_some() || config.deadline_ms > MAX_DEADLINE_MS {
                return Err(format!("hook {}: no usable heads or deadline", config.name));
            }
        }
        for config in hooks {
            let external = &self.externals.0[usize::from(config.filter)];
            if !external.borrow_mut().reserve() {
                return Err(format!("no memory for the packets of hook {}", config.name));
            }
        }
        let pfil = match &self.pfil {
            Some(pfil) => pfil.clone(),
            None if hooks.is_empty() => return Ok(()),
            None => {
                let pfil = Pfil::new(self.net.random(), &self.externals)
                    .ok_or("no memory for the table of flows")?;
                pfil.set_now(now);
                pfil
            }
        };
        if !pfil.set_hooks(hooks) {
            return Err("two hooks of one name".into());
        }
        self.pfil = Some(pfil);
        for (number, external) in self.externals.0.iter().enumerate() {
            let config = hooks.iter().find(|config| usize::from(config.filter) == number);
            external.borrow_mut().set(config);
        }
        if hooks.is_empty() && self.pfil.as_ref().is_some_and(|pfil| pfil.statuses().is_empty()) {
            self.pfil = None;
        }
        self.attach_outlets(now);
        Ok(())
    }

    /// Returns the states of the external hooks.
    pub fn hook_statuses(&self) -> Vec<HookStatus> {
        let all = self.externals.0.iter();
        all.filter_map(|external| external.borrow().status()).collect()
    }

    /// Takes the next packet of filter `number` that goes on. Returns it if it was received and the brane must handle it again.
    /// [`Self::end_behind`] must follow.
    pub fn next_released(&mut self, now: u64, number: usize) -> Option<Option<(Held, bool)>> {
        let (held, verdict) = self.externals.0.get(number)?.borrow_mut().release()?;
        if self.net.netifs.get(held.index).is_none() {
            return Some(None);
        }
        Some(match held.way {
            Way::Received(intact) => self.received_behind(now, number, held, verdict, intact),
            Way::Sent(segment) => {
                self.sent_behind(number, &held, verdict, segment);
                None
            }
        })
    }

    fn received_behind(
        &mut self,
        now: u64,
        number: usize,
        held: Held,
        verdict: Verdict,
        intact: bool,
    ) -> Option<(Held, bool)> {
        match verdict {
            Verdict::Pass | Verdict::Modified => {
                // It is counted again.
                let received = &mut self.net.netifs.get_mut(held.index)?.received;
                received.frames = received.frames.saturating_sub(1);
                received.bytes = received.bytes.saturating_sub(held.frame.len() as u64);
                if let Some(pfil) = &self.pfil {
                    pfil.0.behind.set(Some((held.rank, number)));
                }
                return Some((held, intact));
            }
            Verdict::Absorb => return None,
            Verdict::Drop => {}
            Verdict::Reject => self.answer_rejected(now, held.index, &held.frame),
        }
        self.net.counters.filter_dropped_in += 1;
        None
    }

    /// Ends the handling of a packet that went on.
    pub fn end_behind(&mut self) {
        if let Some(pfil) = &self.pfil {
            pfil.0.behind.set(None);
        }
    }

    fn sent_behind(&mut self, number: usize, held: &Held, verdict: Verdict, segment: u16) {
        let Some(netif) = self.net.netifs.get_mut(held.index) else {
            return;
        };
        let rest = match (verdict, &self.pfil) {
            (Verdict::Pass | Verdict::Modified, Some(pfil)) => pfil.output_behind(number, held, &netif.name),
            (Verdict::Reject, Some(pfil)) => {
                pfil.refuse(held);
                verdict
            }
            _ => verdict,
        };
        match rest {
            Verdict::Pass | Verdict::Modified => {
                netif.tx.send_released(&held.frame, segment);
            }
            Verdict::Drop | Verdict::Reject => self.net.counters.filter_dropped_out += 1,
            Verdict::Absorb => {}
        }
    }
}
