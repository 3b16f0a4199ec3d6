//! Owns the registrations of external filters: which hooks each brane gets, and whether each filter answers.
//!
//! Filters (`filterK`) are not trusted. A registration is checked before it counts. It outlasts a restart of its filter, so that a
//! hook that fails closed stays closed while the filter restarts. A filter with a registration must answer a heartbeat each second; one
//! that does not, that breaks the protocol or that faults is restarted, at once or with growing delays. What a brane says of a filter
//! restarts nothing, because a brane is not trusted with the hooks of other branes.

use crate::backoff::RestartTimer;
use crate::ids::FilterId;
use crate::text::printable;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::hook::{
    Head, HookConfig, MAX_BRANES, MAX_DEADLINE_MS, MAX_HEADERS, MIN_DEADLINE_MS, Registration, notice,
    request,
};

/// Maximum number of registrations in one incarnation. Each causes an event and commands to branes.
const MAX_REGISTRATIONS: u32 = 64;

/// Number of heartbeats without an answer after which a filter is restarted.
const SILENT_BEATS: u32 = 2;

/// A record for a filter's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: u32,
    pub token: u32,
    pub payload: Vec<u8>,
}

/// Event of a filter, for the log and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FilterEvent {
    Registered(FilterId, String),
    Left(FilterId),
    Failed(FilterId, String),
}

#[derive(Debug, Default)]
struct Filter {
    registration: Option<Registration>,
    /// True if the present incarnation is up on its region.
    linked: bool,
    /// Number of registrations in this incarnation.
    registrations: u32,
    /// Token of the heartbeat without an answer, and the number of heartbeats since.
    asked: Option<(u32, u32)>,
    /// Number of restarts.
    restarts: u32,
    /// Reason of the last restart.
    last_fault: String,
}

/// All filters, by the number of their protection domain.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    all: Vec<Filter>,
    timers: Vec<RestartTimer>,
    token: u32,
    outgoing: Vec<(FilterId, Record)>,
    events: Vec<FilterEvent>,
    /// Filters that must be stopped, because they are restarted without a fault.
    stops: Vec<FilterId>,
}

/// A registered filter, as operators see it.
pub(crate) struct Listed<'a> {
    pub id: FilterId,
    pub registration: &'a Registration,
    pub restarts: u32,
    pub last_fault: &'a str,
}

impl Filters {
    pub(crate) fn new(count: usize) -> Filters {
        Filters {
            all: (0..count).map(|_| Filter::default()).collect(),
            timers: (0..count).map(|_| RestartTimer::default()).collect(),
            ..Filters::default()
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = FilterId> + use<> {
        FilterId::first(self.all.len())
    }

    /// Returns the hooks of the brane with this name.
    pub(crate) fn hooks_of(&self, brane: &str) -> Vec<HookConfig> {
        let all = self.ids().zip(&self.all);
        all.filter_map(|(id, filter)| {
            let registration = filter.registration.as_ref()?;
            let mut names = registration.branes.iter().flatten();
            let selected = registration.branes.is_none() || names.any(|name| name == brane);
            selected.then(|| HookConfig {
                filter: id.index() as u8,
                name: registration.name.clone(),
                rank: registration.rank,
                heads: registration.heads.clone(),
                headers: registration.headers,
                deadline_ms: registration.deadline_ms,
                fail_open: registration.fail_open,
            })
        })
        .collect()
    }

    /// Handles a record of a filter.
    pub(crate) fn record(&mut self, now: u64, id: FilterId, kind: u32, token: u32, payload: &[u8]) {
        let Some(filter) = self.all.get_mut(id.index()) else {
            return;
        };
        match kind {
            request::REGISTER => self.register(now, id, token, payload),
            request::LEAVE => {
                if filter.registration.take().is_some() {
                    filter.asked = None;
                    self.events.push(FilterEvent::Left(id));
                }
                self.send(id, notice::LEFT, token, &[]);
            }
            request::ALIVE => match filter.asked {
                Some((asked, _)) if asked == token => filter.asked = None,
                // The registration has ended meanwhile.
                _ if filter.registration.is_none() => {}
                _ => self.fail(now, id, "it answers what was not asked"),
            },
            _ => self.fail(now, id, "it sends unknown records"),
        }
    }

    fn register(&mut self, now: u64, id: FilterId, token: u32, payload: &[u8]) {
        let filter = &mut self.all[id.index()];
        filter.registrations += 1;
        if filter.registrations > MAX_REGISTRATIONS {
            return self.fail(now, id, "it registers again and again");
        }
        let registration = match minicbor::decode::<Registration>(payload) {
            Ok(registration) => registration,
            Err(_) => return self.send(id, notice::REFUSED, token, b"the registration is not readable"),
        };
        if let Err(why) = self.check(id, &registration) {
            return self.send(id, notice::REFUSED, token, why.as_bytes());
        }
        let filter = &mut self.all[id.index()];
        let name = registration.name.clone();
        if filter.registration.as_ref() != Some(&registration) {
            filter.registration = Some(registration);
        }
        self.send(id, notice::REGISTERED, token, &[]);
        self.events.push(FilterEvent::Registered(id, name));
    }

    /// Checks a registration. An error is the reason.
    fn check(&self, id: FilterId, registration: &Registration) -> Result<(), &'static str> {
        let names = registration.branes.iter().flatten();
        let twice = |at: usize, head: &Head| registration.heads[..at].contains(head);
        let others = self.ids().zip(&self.all).filter(|(other, _)| *other != id);
        let mut others = others.filter_map(|(_, filter)| filter.registration.as_ref());
        if crate::names::check(&registration.name).is_err() {
            Err("no hook can have that name")
        } else if registration.name == "filter" || others.any(|other| other.name == registration.name) {
            Err("name taken: another hook has that name")
        } else if registration
            .branes
            .as_ref()
            .is_some_and(|all| all.len() > MAX_BRANES)
        {
            Err("too many branes")
        } else if names.into_iter().any(|name| crate::names::check(name).is_err()) {
            Err("no brane can have that name")
        } else if registration.heads.is_empty() {
            Err("a hook needs a head")
        } else if registration
            .heads
            .iter()
            .enumerate()
            .any(|(at, head)| twice(at, head))
        {
            Err("each head once")
        } else if registration.headers.is_some_and(|bytes| bytes > MAX_HEADERS) {
            Err("headers too long; ask for whole packets")
        } else if !(MIN_DEADLINE_MS..=MAX_DEADLINE_MS).contains(&registration.deadline_ms) {
            Err("the deadline is 1 to 1000 milliseconds")
        } else {
            Ok(())
        }
    }

    fn send(&mut self, id: FilterId, kind: u32, token: u32, payload: &[u8]) {
        let record = Record {
            kind,
            token,
            payload: payload.to_vec(),
        };
        self.outgoing.push((id, record));
    }

    /// Handles a link that is up. A filter that resets its link by itself is restarted.
    pub(crate) fn link_up(&mut self, now: u64, id: FilterId) {
        let Some(filter) = self.all.get_mut(id.index()) else {
            return;
        };
        if core::mem::replace(&mut filter.linked, true) {
            self.fail(now, id, "it reset its link by itself");
        }
    }

    /// Handles a fault. The filter is stopped.
    pub(crate) fn fault(&mut self, now: u64, id: FilterId, what: &str) {
        if let (Some(timer), Some(filter)) = (self.timers.get_mut(id.index()), self.all.get_mut(id.index())) {
            timer.failed(now);
            *filter = Filter {
                registration: filter.registration.take(),
                restarts: filter.restarts.saturating_add(1),
                last_fault: printable(what),
                ..Filter::default()
            };
            self.events.push(FilterEvent::Failed(id, printable(what)));
        }
    }

    /// Stops and restarts a filter that violates the protocol or does not answer.
    pub(crate) fn fail(&mut self, now: u64, id: FilterId, why: &str) {
        if self.runs(id) {
            self.stops.push(id);
            self.fault(now, id, why);
        }
    }

    /// Restarts a filter for an operator. Earlier failures are forgiven.
    pub(crate) fn readmit(&mut self, now: u64, id: FilterId) {
        self.fail(now, id, "an operator has restarted it");
        if let Some(timer) = self.timers.get_mut(id.index()) {
            *timer = RestartTimer::running(now);
            timer.restart_at = Some(now);
        }
    }

    /// Asks each registered filter whether it is alive. A suspended one is not asked.
    pub(crate) fn heartbeat(&mut self, now: u64, is_suspended: impl Fn(FilterId) -> bool) {
        for id in self.ids() {
            let filter = &mut self.all[id.index()];
            if filter.registration.is_none() || !filter.linked {
                continue;
            }
            match &mut filter.asked {
                _ if is_suspended(id) => filter.asked = None,
                Some((_, silent)) => {
                    *silent += 1;
                    if *silent >= SILENT_BEATS {
                        self.fail(now, id, "no answer to a heartbeat");
                    }
                }
                None => {
                    self.token = self.token.wrapping_add(1);
                    filter.asked = Some((self.token, 0));
                    self.send(id, notice::HEARTBEAT, self.token, &[]);
                }
            }
        }
    }

    /// Returns true if the manager must send heartbeats to a filter.
    pub(crate) fn needs_heartbeats(&self) -> bool {
        let mut all = self.all.iter();
        all.any(|filter| filter.registration.is_some() && filter.linked)
    }

    /// Returns the filters that must restart now.
    pub(crate) fn take_restarts(&mut self, now: u64) -> Vec<FilterId> {
        let timers = &mut self.timers;
        FilterId::first(timers.len())
            .filter(|id| timers[id.index()].due(now))
            .collect()
    }

    /// Returns true if the filter's domain was started and has neither faulted nor been stopped since.
    pub(crate) fn runs(&self, id: FilterId) -> bool {
        let timer = self.timers.get(id.index());
        timer.is_some_and(|timer| timer.restart_at.is_none())
    }

    /// Returns the time at which [`Self::take_restarts`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.timers.iter().filter_map(|timer| timer.restart_at).min()
    }

    /// Removes and returns the filters that must be stopped.
    pub(crate) fn take_stops(&mut self) -> Vec<FilterId> {
        core::mem::take(&mut self.stops)
    }

    /// Removes and returns the records for the filters' rings.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(FilterId, Record)> {
        core::mem::take(&mut self.outgoing)
    }

    pub(crate) fn take_events(&mut self) -> Vec<FilterEvent> {
        core::mem::take(&mut self.events)
    }

    /// Returns the registered filters.
    pub(crate) fn listed(&self) -> impl Iterator<Item = Listed<'_>> {
        let all = self.ids().zip(&self.all);
        all.filter_map(|(id, filter)| {
            Some(Listed {
                id,
                registration: filter.registration.as_ref()?,
                restarts: filter.restarts,
                last_fault: &filter.last_fault,
            })
        })
    }

    /// Returns the name of the filter's protection domain.
    pub(crate) fn name(id: FilterId) -> String {
        let mut name = String::from("filter");
        name.push_str(&id.index().to_string());
        name
    }
}
