//! External hooks in a turn of the brane: verdicts in, packets that go on, packets out.
//!
//! Filters are not trusted. [`crate::pfil::external`] checks what they send and limits the work of a turn.

use super::receive::pass_on;
use super::{Brane, Peer};
use crate::pfil::external::{External, Externals, VERDICTS};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::hook::HookConfig;
use brane_abi::shared::SharedRegion;
use core::cell::RefCell;

impl Brane {
    /// Starts the brane's side of its links with filters, one for each region. Returns `None` if a region is too small or not aligned.
    #[must_use]
    pub fn with_filters(mut self, regions: &[SharedRegion]) -> Option<Brane> {
        let regions = regions.iter().enumerate();
        let ends = regions.map(|(number, region)| Some(RefCell::new(External::start(number, *region)?)));
        let ends: Vec<RefCell<External>> = ends.collect::<Option<_>>()?;
        self.has_filters = !ends.is_empty();
        self.stack.externals = Externals(Rc::from(ends));
        Some(self)
    }

    /// Replaces the external hooks at once. An error leaves the old ones in force, and is the reason.
    pub fn replace_hooks(&mut self, now: u64, hooks: Vec<HookConfig>) -> Result<(), String> {
        let config = self.config.as_mut().ok_or(super::commands::UNCONFIGURED)?;
        self.stack.set_hooks(now, &hooks)?;
        config.hooks = hooks;
        Ok(())
    }

    /// Reads verdicts, and lets packets go on. Returns true if there may be more to do.
    pub(super) fn poll_hooks(&mut self, now: u64) -> bool {
        let mut more = false;
        let mut changed = false;
        for number in 0..self.stack.externals.0.len() {
            self.stack.externals.0[number].borrow_mut().poll(now);
            for _ in 0..VERDICTS {
                let Some(goes_on) = self.stack.next_released(now, number) else {
                    break;
                };
                if let Some((held, intact)) = goes_on {
                    let Self { stack, clients, .. } = self;
                    pass_on(stack, clients, now, held.index, &held.frame, intact);
                }
                self.stack.end_behind();
            }
            let mut external = self.stack.externals.0[number].borrow_mut();
            more |= external.has_work();
            changed |= external.take_change();
        }
        if changed {
            let hooks = self.stack.hook_statuses();
            self.control.hooks(&hooks);
        }
        more
    }

    /// Returns the time of the next deadline of a packet that waits for a filter.
    pub(super) fn hooks_deadline(&self) -> u64 {
        let all = self.stack.externals.0.iter();
        all.map(|external| external.borrow().deadline())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Makes packets visible to the filters.
    pub(super) fn flush_hooks(&mut self, notify: &mut impl FnMut(Peer)) {
        for (number, external) in self.stack.externals.0.iter().enumerate() {
            if external.borrow_mut().flush() {
                notify(Peer::Filter(number));
            }
        }
    }

    /// Announces sleep to the filters. Returns false if there is work.
    pub(super) fn arm_hooks(&self) -> bool {
        self.stack
            .externals
            .0
            .iter()
            .all(|external| external.borrow().arm())
    }
}
