//! Subscribers to the transitions of branes: who is told what, and who has to answer before a brane goes on.
//!
//! Subscribers are not trusted. Each is told one thing at a time and has [`TIME_NS`] to answer; one that does not, that breaks
//! the rules of its ring or faults is cut off until it starts anew, and everybody goes on without it. What waits for one is
//! bounded by [`QUEUE`].

use crate::names::printable;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::hooks::{Subscription, Told, Transition, say, tell};
use brane_abi::operator::Hook;

/// How long a subscriber has for its answer, in nanoseconds.
pub(crate) const TIME_NS: u64 = 500_000_000;
/// Subscriptions in one life: each is an event, and operators shall see other events too.
const MAX_JOINS: u32 = 64;
/// Most that waits for one subscriber; a replay for the most branes that a system has fits.
const QUEUE: usize = 256;

/// What is said to a subscriber: a record for its ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub kind: u32,
    pub token: u32,
    pub payload: Vec<u8>,
}

/// A brane as a subscriber hears of it.
#[derive(Clone, Debug)]
pub(crate) struct Living {
    pub instance: usize,
    pub name: String,
    pub generation: u32,
    pub families: Vec<Family>,
    pub started: bool,
}

#[derive(Debug)]
struct Waiting {
    /// The instance that goes on when this is answered.
    instance: Option<usize>,
    told: Told,
}

/// What happened to a subscriber, for the log and the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Joined(usize),
    Left(usize),
    Cut(usize, String),
}

#[derive(Debug, Default)]
struct Subscriber {
    wants: Option<Subscription>,
    queue: VecDeque<Waiting>,
    /// The token of what was sent last, and until when it must be answered.
    asked: Option<(u32, u64)>,
    /// The token of the `LEAVE` that is answered when all is told.
    leaving: Option<u32>,
    told: u64,
    cut: String,
    /// Subscriptions in this life.
    joins: u32,
    /// Its life on the region has begun; another one begins only after a restart.
    linked: bool,
}

/// All subscribers, by the number of their protection domain.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    all: Vec<Subscriber>,
    token: u32,
    /// What is to be put into the rings, with the subscriber's number.
    pub out: Vec<(usize, Record)>,
    pub news: Vec<News>,
}

fn wanted(s: &Subscription, brane: &str, family: Family, transition: Transition) -> bool {
    s.brane.as_deref().is_none_or(|b| b == brane)
        && s.family.is_none_or(|f| f == family)
        && s.transitions.contains(&transition)
}

/// The families in the order in which a transition is told.
fn ordered(families: &[Family], transition: Transition) -> Vec<Family> {
    let up = matches!(transition, Transition::AfterCreate | Transition::AfterStart);
    let all = Family::ALL.into_iter().filter(|f| families.contains(f));
    if up { all.collect() } else { all.rev().collect() }
}

impl Hooks {
    pub(crate) fn new(subscribers: usize) -> Hooks {
        Hooks {
            all: (0..subscribers).map(|_| Subscriber::default()).collect(),
            ..Hooks::default()
        }
    }

    /// Whether anybody would be told of this.
    pub(crate) fn anybody(&self, brane: &Living, transition: Transition) -> bool {
        let families = &brane.families;
        self.all.iter().any(|s| {
            s.wants
                .as_ref()
                .is_some_and(|w| families.iter().any(|&f| wanted(w, &brane.name, f, transition)))
        })
    }

    /// Tells a transition of a brane to all who want it; [`Self::waits`] says whether somebody has still to answer.
    pub(crate) fn tell(&mut self, now: u64, brane: &Living, transition: Transition) {
        for k in 0..self.all.len() {
            self.enqueue(now, k, brane, transition, false);
        }
    }

    /// Whether a transition of the instance still waits for an answer.
    pub(crate) fn waits(&self, instance: usize) -> bool {
        let mut waiting = self.all.iter().flat_map(|s| &s.queue);
        waiting.any(|w| w.instance == Some(instance))
    }

    fn enqueue(&mut self, now: u64, k: usize, brane: &Living, transition: Transition, replay: bool) {
        let s = &mut self.all[k];
        let Some(wants) = &s.wants else { return };
        for family in ordered(&brane.families, transition) {
            if !wanted(wants, &brane.name, family, transition) {
                continue;
            }
            s.queue.push_back(Waiting {
                instance: (!replay).then_some(brane.instance),
                told: Told {
                    transition,
                    brane: brane.name.clone(),
                    id: brane.instance as u32,
                    generation: brane.generation,
                    family,
                    replay,
                },
            });
        }
        if s.queue.len() > QUEUE {
            return self.cut(k, "more waits for it than it takes");
        }
        self.next(now, k);
    }

    /// Sends what waits first, where nothing is out.
    fn next(&mut self, now: u64, k: usize) {
        let s = &mut self.all[k];
        if s.asked.is_some() {
            return;
        }
        if let Some(first) = s.queue.front() {
            self.token = self.token.wrapping_add(1);
            s.asked = Some((self.token, now + TIME_NS));
            s.told += 1;
            let record = Record {
                kind: tell::TRANSITION,
                token: self.token,
                payload: crate::encode(&first.told),
            };
            self.out.push((k, record));
        } else if let Some(token) = s.leaving.take() {
            *s = Subscriber {
                joins: s.joins,
                linked: s.linked,
                ..Subscriber::default()
            };
            self.say(k, tell::LEFT, token, &[]);
            self.news.push(News::Left(k));
        }
    }

    fn say(&mut self, k: usize, kind: u32, token: u32, payload: &[u8]) {
        let record = Record {
            kind,
            token,
            payload: payload.to_vec(),
        };
        self.out.push((k, record));
    }

    /// Takes a record of the subscriber; `living` are the branes that there are, by number.
    pub(crate) fn record(
        &mut self,
        now: u64,
        k: usize,
        kind: u32,
        token: u32,
        payload: &[u8],
        living: &[Living],
    ) {
        let Some(s) = self.all.get_mut(k) else { return };
        if !s.cut.is_empty() {
            return;
        }
        match kind {
            say::SUBSCRIBE => {
                let Ok(wants) = minicbor::decode::<Subscription>(payload) else {
                    return self.say(k, tell::REFUSED, token, b"the subscription is not readable");
                };
                if wants.transitions.len() > Transition::ALL.len() || s.leaving.is_some() {
                    return self.say(
                        k,
                        tell::REFUSED,
                        token,
                        b"each transition once, and not while leaving",
                    );
                }
                let name = wants.brane.as_deref().unwrap_or("all");
                if crate::names::check(name).is_err() {
                    return self.say(k, tell::REFUSED, token, b"no brane can have that name");
                }
                s.joins += 1;
                if s.joins > MAX_JOINS {
                    return self.cut(k, "it subscribes again and again");
                }
                // What is under way is gone through with the old one.
                s.wants = Some(wants);
                self.say(k, tell::JOINED, token, &[]);
                self.news.push(News::Joined(k));
                for brane in living {
                    self.enqueue(now, k, brane, Transition::AfterCreate, true);
                    if brane.started {
                        self.enqueue(now, k, brane, Transition::AfterStart, true);
                    }
                }
            }
            say::DONE => match s.asked {
                Some((asked, _)) if asked == token => {
                    s.asked = None;
                    s.queue.pop_front();
                    self.next(now, k);
                }
                _ => self.cut(k, "it answers what was not asked"),
            },
            say::LEAVE if s.wants.is_some() && s.leaving.is_none() => {
                for brane in living.iter().rev() {
                    if brane.started {
                        self.enqueue(now, k, brane, Transition::BeforeShutdown, true);
                    }
                    self.enqueue(now, k, brane, Transition::BeforeDestroy, true);
                }
                if let Some(s) = self.all.get_mut(k)
                    && s.wants.take().is_some()
                {
                    s.leaving = Some(token);
                }
                self.next(now, k);
            }
            _ => self.cut(k, "it says what nobody understands"),
        }
    }

    /// Its region is up. One that begins anew by itself is cut off: otherwise who was cut off could come back so.
    pub(crate) fn link_up(&mut self, k: usize) {
        let Some(s) = self.all.get_mut(k) else { return };
        if core::mem::replace(&mut s.linked, true) {
            self.cut(k, "it reset its link by itself");
        }
    }

    /// It is started anew: nothing of its last life holds.
    pub(crate) fn fresh(&mut self, k: usize) {
        if let Some(s) = self.all.get_mut(k) {
            *s = Subscriber::default();
        }
    }

    /// Ends the subscription of one that does not do what it must; nobody waits for it any more.
    pub(crate) fn cut(&mut self, k: usize, why: &str) {
        let Some(s) = self.all.get_mut(k) else { return };
        if s.cut.is_empty() {
            let told = s.told;
            *s = Subscriber {
                cut: printable(why),
                told,
                ..Subscriber::default()
            };
            self.news.push(News::Cut(k, printable(why)));
        }
    }

    /// Cuts off who is late.
    pub(crate) fn tick(&mut self, now: u64) {
        for k in 0..self.all.len() {
            if self.all[k].asked.is_some_and(|(_, until)| until <= now) {
                self.cut(k, "no answer within 500 ms");
            }
        }
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.all
            .iter()
            .filter_map(|s| s.asked.map(|(_, until)| until))
            .min()
    }

    /// As an operator sees them: those that subscribe, or were cut off.
    pub(crate) fn list(&self, name: impl Fn(usize) -> String) -> Vec<Hook> {
        let all = self.all.iter().enumerate();
        all.filter(|(_, s)| s.wants.is_some() || !s.cut.is_empty())
            .map(|(k, s)| {
                let wants = s.wants.as_ref();
                Hook {
                    subscriber: name(k),
                    brane: wants.and_then(|w| w.brane.clone()),
                    family: wants.and_then(|w| w.family),
                    transitions: wants
                        .map(|w| w.transitions.iter().map(|t| t.name().into()).collect())
                        .unwrap_or_default(),
                    told: s.told,
                    cut: s.cut.clone(),
                }
            })
            .collect()
    }
}
