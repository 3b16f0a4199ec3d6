//! Owns the subscriptions: which subscriber is notified of which transition, and whose acknowledgement a brane waits for.
//!
//! Subscribers are not trusted. Each gets one notification at a time and has [`ACK_NS`] to acknowledge it. A subscriber that is
//! late, violates the protocol or faults is quarantined until it restarts, and the branes go on without it. The
//! notifications that wait for one subscriber are bounded by [`QUEUE`].

use crate::backoff::RestartTimer;
use crate::ids::{BraneId, SubscriberId};
use crate::snapshot::BraneSnapshot;
use crate::text::printable;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::hooks::{Subscription, Told, Transition, say, tell};
use brane_abi::operator::Hook;

/// How long a subscriber may take to acknowledge a notification, in nanoseconds.
pub(crate) const ACK_NS: u64 = 500_000_000;
/// Subscriptions in one incarnation. Each makes an event, and operators shall see other events too.
const MAX_SUBSCRIPTIONS: u32 = 64;
/// Most notifications that wait for one subscriber. A replay for the largest number of branes in a system fits.
const QUEUE: usize = 256;

/// A record for a subscriber's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: u32,
    pub token: u32,
    pub payload: Vec<u8>,
}

#[derive(Debug)]
struct Notification {
    /// The instance that goes on when this is acknowledged.
    instance: Option<BraneId>,
    body: Told,
}

/// What became of a subscriber, for the log and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscriberEvent {
    Joined(SubscriberId),
    Left(SubscriberId),
    Quarantined(SubscriberId, String),
}

#[derive(Debug, Default)]
struct Subscriber {
    subscription: Option<Subscription>,
    queue: VecDeque<Notification>,
    /// Token and deadline of the notification that was sent last.
    unacknowledged: Option<(u32, u64)>,
    /// Token of the `LEAVE` that is answered when the queue is empty.
    leaving: Option<u32>,
    notified: u64,
    /// Why the subscriber is quarantined. Empty if it is not.
    quarantined: String,
    /// Subscriptions in this incarnation.
    subscriptions: u32,
    /// The incarnation is up on its region. Another one comes only after a restart.
    linked: bool,
}

/// All subscribers, by the number of their protection domain.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
    restarts: Vec<RestartTimer>,
    token: u32,
    outgoing: Vec<(SubscriberId, Record)>,
    events: Vec<SubscriberEvent>,
}

fn is_wanted(s: &Subscription, brane: &str, family: Family, transition: Transition) -> bool {
    s.brane.as_deref().is_none_or(|b| b == brane)
        && s.family.is_none_or(|f| f == family)
        && s.transitions.contains(&transition)
}

/// Returns the families in the order of their notifications.
fn ordered(families: &[Family], transition: Transition) -> Vec<Family> {
    let up = matches!(transition, Transition::AfterCreate | Transition::AfterStart);
    let all = Family::ALL.into_iter().filter(|f| families.contains(f));
    if up { all.collect() } else { all.rev().collect() }
}

impl Subscribers {
    pub(crate) fn new(count: usize) -> Subscribers {
        Subscribers {
            all: (0..count).map(|_| Subscriber::default()).collect(),
            restarts: (0..count).map(|_| RestartTimer::default()).collect(),
            ..Subscribers::default()
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SubscriberId> + use<> {
        SubscriberId::first(self.all.len())
    }

    /// Returns true if a subscriber would be notified of this transition.
    pub(crate) fn wants(&self, brane: &BraneSnapshot, transition: Transition) -> bool {
        let families = &brane.families;
        self.all.iter().any(|s| {
            s.subscription
                .as_ref()
                .is_some_and(|w| families.iter().any(|&f| is_wanted(w, &brane.name, f, transition)))
        })
    }

    /// Notifies all subscribers to this transition of a brane. [`Self::is_awaited`] then tells whether one must acknowledge.
    pub(crate) fn notify(&mut self, now: u64, brane: &BraneSnapshot, transition: Transition) {
        for id in self.ids() {
            self.enqueue(now, id, brane, transition, false);
        }
    }

    /// Returns true if a transition of the instance waits for an acknowledgement.
    pub(crate) fn is_awaited(&self, instance: BraneId) -> bool {
        let mut waiting = self.all.iter().flat_map(|s| &s.queue);
        waiting.any(|w| w.instance == Some(instance))
    }

    fn enqueue(
        &mut self,
        now: u64,
        id: SubscriberId,
        brane: &BraneSnapshot,
        transition: Transition,
        replay: bool,
    ) {
        let s = &mut self.all[id.index()];
        let Some(subscription) = &s.subscription else {
            return;
        };
        for family in ordered(&brane.families, transition) {
            if !is_wanted(subscription, &brane.name, family, transition) {
                continue;
            }
            s.queue.push_back(Notification {
                instance: (!replay).then_some(brane.id),
                body: Told {
                    transition,
                    brane: brane.name.clone(),
                    id: brane.id.index() as u32,
                    generation: brane.generation,
                    family,
                    replay,
                },
            });
        }
        if s.queue.len() > QUEUE {
            return self.quarantine(id, "more waits for it than it takes");
        }
        self.send_next(now, id);
    }

    /// Sends the first notification of the queue if none is unacknowledged.
    fn send_next(&mut self, now: u64, id: SubscriberId) {
        let s = &mut self.all[id.index()];
        if s.unacknowledged.is_some() {
            return;
        }
        if let Some(first) = s.queue.front() {
            self.token = self.token.wrapping_add(1);
            s.unacknowledged = Some((self.token, now + ACK_NS));
            s.notified += 1;
            let record = Record {
                kind: tell::TRANSITION,
                token: self.token,
                payload: crate::encode(&first.body),
            };
            self.outgoing.push((id, record));
        } else if let Some(token) = s.leaving.take() {
            *s = Subscriber {
                subscriptions: s.subscriptions,
                linked: s.linked,
                ..Subscriber::default()
            };
            self.send(id, tell::LEFT, token, &[]);
            self.events.push(SubscriberEvent::Left(id));
        }
    }

    fn send(&mut self, id: SubscriberId, kind: u32, token: u32, payload: &[u8]) {
        let record = Record {
            kind,
            token,
            payload: payload.to_vec(),
        };
        self.outgoing.push((id, record));
    }

    /// Takes a record of a subscriber. `branes` are the announced branes, by number.
    pub(crate) fn record(
        &mut self,
        now: u64,
        id: SubscriberId,
        kind: u32,
        token: u32,
        payload: &[u8],
        branes: &[BraneSnapshot],
    ) {
        let Some(s) = self.all.get_mut(id.index()) else {
            return;
        };
        if !s.quarantined.is_empty() {
            return;
        }
        match kind {
            say::SUBSCRIBE => self.subscribe(now, id, token, payload, branes),
            say::DONE => match s.unacknowledged {
                Some((sent, _)) if sent == token => {
                    s.unacknowledged = None;
                    s.queue.pop_front();
                    self.send_next(now, id);
                }
                _ => self.quarantine(id, "it answers what was not asked"),
            },
            say::LEAVE if s.subscription.is_some() && s.leaving.is_none() => {
                for brane in branes.iter().rev() {
                    if brane.started {
                        self.enqueue(now, id, brane, Transition::BeforeShutdown, true);
                    }
                    self.enqueue(now, id, brane, Transition::BeforeDestroy, true);
                }
                if let Some(s) = self.all.get_mut(id.index())
                    && s.subscription.take().is_some()
                {
                    s.leaving = Some(token);
                }
                self.send_next(now, id);
            }
            _ => self.quarantine(id, "it says what nobody understands"),
        }
    }

    fn subscribe(
        &mut self,
        now: u64,
        id: SubscriberId,
        token: u32,
        payload: &[u8],
        branes: &[BraneSnapshot],
    ) {
        let refuse = |all: &mut Self, why: &[u8]| all.send(id, tell::REFUSED, token, why);
        let Ok(subscription) = minicbor::decode::<Subscription>(payload) else {
            return refuse(self, b"the subscription is not readable");
        };
        let s = &mut self.all[id.index()];
        if subscription.transitions.len() > Transition::ALL.len() || s.leaving.is_some() {
            return refuse(self, b"each transition once, and not while leaving");
        }
        let name = subscription.brane.as_deref().unwrap_or("all");
        if crate::names::check(name).is_err() {
            return refuse(self, b"no brane can have that name");
        }
        s.subscriptions += 1;
        if s.subscriptions > MAX_SUBSCRIPTIONS {
            return self.quarantine(id, "it subscribes again and again");
        }
        // Notifications that are on their way follow the earlier subscription.
        s.subscription = Some(subscription);
        self.send(id, tell::JOINED, token, &[]);
        self.events.push(SubscriberEvent::Joined(id));
        for brane in branes {
            self.enqueue(now, id, brane, Transition::AfterCreate, true);
            if brane.started {
                self.enqueue(now, id, brane, Transition::AfterStart, true);
            }
        }
    }

    /// Takes notice of a link that is up. A subscriber that resets its link by itself is quarantined; otherwise it could end a
    /// quarantine so.
    pub(crate) fn link_up(&mut self, id: SubscriberId) {
        let Some(s) = self.all.get_mut(id.index()) else {
            return;
        };
        if core::mem::replace(&mut s.linked, true) {
            self.quarantine(id, "it reset its link by itself");
        }
    }

    /// Takes notice of a fault. The subscriber restarts later.
    pub(crate) fn fault(&mut self, now: u64, id: SubscriberId) {
        if let Some(timer) = self.restarts.get_mut(id.index()) {
            timer.failed(now);
            self.quarantine(id, "it failed");
        }
    }

    /// Returns the subscribers to restart now and forgets their earlier incarnations.
    pub(crate) fn take_restarts(&mut self, now: u64) -> Vec<SubscriberId> {
        let restarts = &mut self.restarts;
        let due: Vec<_> = SubscriberId::first(restarts.len())
            .filter(|id| restarts[id.index()].due(now))
            .collect();
        for id in &due {
            self.all[id.index()] = Subscriber::default();
        }
        due
    }

    /// Returns true if the subscriber's domain was started and has not faulted since.
    pub(crate) fn runs(&self, id: SubscriberId) -> bool {
        self.restarts
            .get(id.index())
            .is_some_and(|timer| timer.restart_at.is_none())
    }

    /// Ends the subscription of a subscriber that does not do what it must. No brane waits for it any more.
    pub(crate) fn quarantine(&mut self, id: SubscriberId, why: &str) {
        let Some(s) = self.all.get_mut(id.index()) else {
            return;
        };
        if s.quarantined.is_empty() {
            *s = Subscriber {
                quarantined: printable(why),
                notified: s.notified,
                ..Subscriber::default()
            };
            self.events.push(SubscriberEvent::Quarantined(id, printable(why)));
        }
    }

    /// Quarantines the subscribers that are late.
    pub(crate) fn tick(&mut self, now: u64) {
        for id in self.ids() {
            let sent = self.all[id.index()].unacknowledged;
            if sent.is_some_and(|(_, until)| until <= now) {
                self.quarantine(id, "no answer within 500 ms");
            }
        }
    }

    /// When [`Self::tick`] or [`Self::take_restarts`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let acks = self
            .all
            .iter()
            .filter_map(|s| s.unacknowledged.map(|(_, until)| until));
        acks.chain(self.restarts.iter().filter_map(|timer| timer.restart_at))
            .min()
    }

    /// Takes the records for the subscribers' rings.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(SubscriberId, Record)> {
        core::mem::take(&mut self.outgoing)
    }

    pub(crate) fn take_events(&mut self) -> Vec<SubscriberEvent> {
        core::mem::take(&mut self.events)
    }

    /// Lists the subscribers that have a subscription or are quarantined.
    pub(crate) fn list(&self, name: impl Fn(SubscriberId) -> String) -> Vec<Hook> {
        let all = self.ids().zip(&self.all);
        all.filter(|(_, s)| s.subscription.is_some() || !s.quarantined.is_empty())
            .map(|(id, s)| {
                let subscription = s.subscription.as_ref();
                Hook {
                    subscriber: name(id),
                    brane: subscription.and_then(|w| w.brane.clone()),
                    family: subscription.and_then(|w| w.family),
                    transitions: subscription
                        .map(|w| w.transitions.iter().map(|t| t.name().into()).collect())
                        .unwrap_or_default(),
                    told: s.notified,
                    cut: s.quarantined.clone(),
                }
            })
            .collect()
    }
}
