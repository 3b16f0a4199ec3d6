//! Owns the subscriptions. Decides which subscriber is notified of a transition, and which acknowledgements a brane
//! waits for.
//!
//! Subscribers are not trusted. Each gets one notification at a time and must acknowledge it within [`ACK_NS`]. A
//! subscriber that is late, violates the protocol or faults is quarantined, and the branes continue without it. The
//! quarantine ends when the subscriber restarts or an operator readmits it. The notifications that wait for one
//! subscriber are bounded by [`QUEUE`].
//!
//! The subscribers of a transition are notified in turn. [`brane_abi::subscription`] defines their order, and the
//! balance of transitions.

mod known;
mod selection;

use crate::backoff::RestartTimer;
use crate::ids::{BraneId, SubscriberId};
use crate::snapshot::BraneSnapshot;
use crate::text::printable;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::SubscriberInfo;
use brane_abi::subscription::{Notification, Subscription, Transition, notice, request};
use known::KnownBranes;

/// Maximum time until a subscriber acknowledges a notification, in nanoseconds.
pub(crate) const ACK_NS: u64 = 500_000_000;
/// Maximum number of subscriptions in one incarnation. Each causes an event, and these must not displace all other
/// events.
const MAX_SUBSCRIPTIONS: u32 = 64;
/// Maximum number of notifications that wait for one subscriber. The inverse of a subscription to all protocols of 17
/// branes fits, and the replay of another such subscription.
const QUEUE: usize = 512;

/// Maximum number of protocols in a subscription: more than exist.
const MAX_PROTOCOLS: usize = 16;

/// A record for a subscriber's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: u32,
    pub token: u32,
    pub payload: Vec<u8>,
}

/// A notification in a subscriber's queue.
#[derive(Debug)]
struct Queued {
    /// Number of the transition since the manager's start. Its subscribers take turns. `None` for a replay, which has
    /// no turn.
    turn: Option<u64>,
    body: Notification,
}

/// Event of a subscriber, for the log and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubscriberEvent {
    Joined(SubscriberId),
    Left(SubscriberId),
    Quarantined(SubscriberId, String),
    Readmitted(SubscriberId),
}

#[derive(Debug, Default)]
struct Subscriber {
    subscription: Option<Subscription>,
    known: KnownBranes,
    queue: VecDeque<Queued>,
    /// Token and deadline of the notification that was sent last.
    unacknowledged: Option<(u32, u64)>,
    /// Token of the `LEAVE` that is answered when the queue is empty.
    leaving: Option<u32>,
    notified: u64,
    /// Reason for the quarantine; empty if the subscriber is not quarantined.
    quarantined: String,
    /// Number of subscriptions in this incarnation.
    subscriptions: u32,
    /// True if the incarnation is up on its region. The link comes up again only after a restart.
    linked: bool,
}

impl Subscriber {
    /// Enqueues the notifications of a transition for this subscriber.
    fn enqueue(
        &mut self,
        subscription: &Subscription,
        brane: &BraneSnapshot,
        transition: Transition,
        turn: Option<u64>,
        former_name: Option<&str>,
    ) {
        if !subscription.transitions.contains(&transition) {
            return;
        }
        for item in selection::items(subscription, &brane.families, transition) {
            self.queue.push_back(Queued {
                turn,
                body: Notification {
                    transition,
                    brane: brane.name.clone(),
                    id: brane.id.index() as u32,
                    generation: brane.generation,
                    family: item.family,
                    replay: turn.is_none(),
                    identity: brane.identity,
                    protocol: item.protocol,
                    former_name: former_name.map(Into::into),
                },
            });
        }
    }

    /// Enqueues the notifications of the branes that the subscriber has missed.
    fn replay<'a>(
        &mut self,
        subscription: &Subscription,
        branes: impl IntoIterator<Item = &'a BraneSnapshot>,
    ) {
        for brane in branes {
            for transition in [Transition::AfterCreate, Transition::AfterStart] {
                let is_past = transition == Transition::AfterCreate || brane.started;
                if is_past && self.known.update(subscription, brane, transition) {
                    self.enqueue(subscription, brane, transition, None, None);
                }
            }
        }
    }

    /// Ends the subscription and enqueues the inverse of the subscriber's earlier notifications.
    fn unwind(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            for (brane, transition) in self.known.unwind() {
                self.enqueue(&subscription, &brane, transition, None, None);
            }
        }
    }

    /// Returns true if a notification of this turn waits for an acknowledgement.
    fn has_turn(&self, turn: u64) -> bool {
        self.queue.iter().any(|queued| queued.turn == Some(turn))
    }
}

/// All subscribers, by the number of their protection domain.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
    restarts: Vec<RestartTimer>,
    token: u32,
    /// Number of the last transition.
    turn: u64,
    outgoing: Vec<(SubscriberId, Record)>,
    events: Vec<SubscriberEvent>,
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
        let subscriptions = self.all.iter().filter_map(|s| s.subscription.as_ref());
        subscriptions
            .into_iter()
            .any(|subscription| selection::wants(subscription, brane, transition))
    }

    /// Notifies all subscribers to this transition of a brane. [`Self::is_awaited`] then returns true if an
    /// acknowledgement is awaited.
    pub(crate) fn notify(&mut self, brane: &BraneSnapshot, transition: Transition) {
        self.notify_all(brane, transition, None);
    }

    /// Notifies all subscribers that know a brane of its new name, and all subscribers to the brane's name. `brane` has
    /// the new name.
    pub(crate) fn renamed(&mut self, brane: &BraneSnapshot, former_name: &str) {
        self.notify_all(brane, Transition::Renamed, Some(former_name));
        for s in &mut self.all {
            if let Some(subscription) = s.subscription.take() {
                s.replay(&subscription, [brane]);
                s.subscription = Some(subscription);
            }
        }
        self.quarantine_full();
    }

    fn notify_all(&mut self, brane: &BraneSnapshot, transition: Transition, former_name: Option<&str>) {
        self.turn += 1;
        for s in &mut self.all {
            let Some(subscription) = s.subscription.take() else {
                continue;
            };
            if s.known.update(&subscription, brane, transition) {
                s.enqueue(&subscription, brane, transition, Some(self.turn), former_name);
            }
            s.subscription = Some(subscription);
        }
        self.quarantine_full();
    }

    /// Returns true if a transition of the instance waits for an acknowledgement.
    pub(crate) fn is_awaited(&self, instance: BraneId) -> bool {
        let mut queued = self.all.iter().flat_map(|s| &s.queue);
        queued.any(|queued| {
            let body = &queued.body;
            body.id as usize == instance.index() && body.transition.waits() && queued.turn.is_some()
        })
    }

    /// Quarantines the subscribers with too many waiting notifications.
    fn quarantine_full(&mut self) {
        for id in self.ids() {
            if self.all[id.index()].queue.len() > QUEUE {
                self.quarantine(id, "more waits for it than it takes");
            }
        }
    }

    /// Sends each subscriber its next notification, if it is the subscriber's turn. Must be called after every event.
    pub(crate) fn send_due(&mut self, now: u64) {
        for id in self.ids() {
            self.send_next(now, id);
        }
    }

    /// Returns true if another subscriber must acknowledge first.
    fn is_behind(&self, id: SubscriberId, turn: u64, transition: Transition) -> bool {
        let (before, after) = self.all.split_at(id.index());
        let mut first = if transition.is_up() {
            before.iter()
        } else {
            after[1..].iter()
        };
        first.any(|s| s.has_turn(turn))
    }

    /// Sends the first notification of the queue if none is unacknowledged.
    fn send_next(&mut self, now: u64, id: SubscriberId) {
        let s = &self.all[id.index()];
        if s.unacknowledged.is_some() {
            return;
        }
        if let Some(first) = s.queue.front() {
            if first
                .turn
                .is_some_and(|turn| self.is_behind(id, turn, first.body.transition))
            {
                return;
            }
            let payload = crate::encode(&first.body);
            self.token = self.token.wrapping_add(1);
            let s = &mut self.all[id.index()];
            s.unacknowledged = Some((self.token, now + ACK_NS));
            s.notified += 1;
            let record = Record {
                kind: notice::TRANSITION,
                token: self.token,
                payload,
            };
            self.outgoing.push((id, record));
            return;
        }
        let s = &mut self.all[id.index()];
        if let Some(token) = s.leaving.take() {
            *s = Subscriber {
                subscriptions: s.subscriptions,
                linked: s.linked,
                ..Subscriber::default()
            };
            self.send(id, notice::LEFT, token, &[]);
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

    /// Handles a record of a subscriber. `branes` are the announced branes, by number.
    pub(crate) fn record(
        &mut self,
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
            request::SUBSCRIBE => self.subscribe(id, token, payload, branes),
            request::ACK => match s.unacknowledged {
                Some((sent, _)) if sent == token => {
                    s.unacknowledged = None;
                    s.queue.pop_front();
                }
                _ => self.quarantine(id, "it answers what was not asked"),
            },
            request::LEAVE if s.subscription.is_some() && s.leaving.is_none() => {
                s.unwind();
                s.leaving = Some(token);
                self.quarantine_full();
            }
            _ => self.quarantine(id, "it sends unknown records"),
        }
    }

    fn subscribe(&mut self, id: SubscriberId, token: u32, payload: &[u8], branes: &[BraneSnapshot]) {
        let refuse = |all: &mut Self, why: &[u8]| all.send(id, notice::REFUSED, token, why);
        let Ok(subscription) = minicbor::decode::<Subscription>(payload) else {
            return refuse(self, b"the subscription is not readable");
        };
        let s = &mut self.all[id.index()];
        let too_many = subscription.transitions.len() > Transition::ALL.len()
            || subscription.protocols.len() > MAX_PROTOCOLS;
        if too_many || s.leaving.is_some() {
            return refuse(self, b"each transition and protocol once, and not while leaving");
        }
        let name = subscription.brane.as_deref().unwrap_or("all");
        if crate::names::check(name).is_err() {
            return refuse(self, b"no brane can have that name");
        }
        s.subscriptions += 1;
        if s.subscriptions > MAX_SUBSCRIPTIONS {
            return self.quarantine(id, "it subscribes again and again");
        }
        // The inverse of the notifications ends the earlier subscription.
        s.unwind();
        s.replay(&subscription, branes);
        s.subscription = Some(subscription);
        self.send(id, notice::SUBSCRIBED, token, &[]);
        self.events.push(SubscriberEvent::Joined(id));
        self.quarantine_full();
    }

    /// Handles a link that is up. A subscriber that resets its link by itself is quarantined; otherwise it could end a
    /// quarantine by a reset.
    pub(crate) fn link_up(&mut self, id: SubscriberId) {
        let Some(s) = self.all.get_mut(id.index()) else {
            return;
        };
        if core::mem::replace(&mut s.linked, true) {
            self.quarantine(id, "it reset its link by itself");
        }
    }

    /// Handles a fault. The subscriber restarts later.
    pub(crate) fn fault(&mut self, now: u64, id: SubscriberId) {
        if let Some(timer) = self.restarts.get_mut(id.index()) {
            timer.failed(now);
            self.quarantine(id, "it failed");
        }
    }

    /// Returns the subscribers that must restart now, and removes the state of their earlier incarnations.
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

    /// Ends the subscription of a subscriber that violates the protocol or is late. No brane waits for it any more.
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

    /// Ends the quarantine of a subscriber, whose domain the caller restarts. Returns false if it is not quarantined.
    pub(crate) fn readmit(&mut self, now: u64, id: SubscriberId) -> bool {
        let Some(s) = self.all.get_mut(id.index()) else {
            return false;
        };
        if s.quarantined.is_empty() {
            return false;
        }
        *s = Subscriber::default();
        self.restarts[id.index()] = RestartTimer::running(now);
        self.events.push(SubscriberEvent::Readmitted(id));
        true
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

    /// Returns the time at which [`Self::tick`] or [`Self::take_restarts`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let acks = self
            .all
            .iter()
            .filter_map(|s| s.unacknowledged.map(|(_, until)| until));
        acks.chain(self.restarts.iter().filter_map(|timer| timer.restart_at))
            .min()
    }

    /// Removes and returns the records for the subscribers' rings.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(SubscriberId, Record)> {
        core::mem::take(&mut self.outgoing)
    }

    pub(crate) fn take_events(&mut self) -> Vec<SubscriberEvent> {
        core::mem::take(&mut self.events)
    }

    /// Lists the subscribers that have a subscription or are quarantined.
    pub(crate) fn list(&self, name: impl Fn(SubscriberId) -> String) -> Vec<SubscriberInfo> {
        let all = self.ids().zip(&self.all);
        all.filter(|(_, s)| s.subscription.is_some() || !s.quarantined.is_empty())
            .map(|(id, s)| {
                let subscription = s.subscription.as_ref();
                SubscriberInfo {
                    subscriber: name(id),
                    brane: subscription.and_then(|w| w.brane.clone()),
                    family: subscription.and_then(|w| w.family),
                    transitions: subscription
                        .map(|w| w.transitions.iter().map(|t| t.name().into()).collect())
                        .unwrap_or_default(),
                    notified: s.notified,
                    quarantined: s.quarantined.clone(),
                    protocols: subscription
                        .map(|w| w.protocols.iter().map(|p| p.name().into()).collect())
                        .unwrap_or_default(),
                }
            })
            .collect()
    }
}
