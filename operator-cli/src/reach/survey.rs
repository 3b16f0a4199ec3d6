//! Collects what `why` and `reach` need: one request after the other. It owns the answers so far, and never waits. The manager's
//! answers are trusted. Tables of branes are not: each is bounded, and a brane that does not answer is asked nothing more.

use super::ends::{End, family_of, started};
use super::{Explanation, Matrix, Reach, Snapshot, Tables, Traffic, Why, why};
use crate::error::Error;
use crate::refusals::Words;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Protocol;
use brane_abi::filter::{MAX_FILTER, MAX_RULES, Rule};
use brane_abi::operator::{Answer, Brane, Refusal, Request};
use brane_abi::query::{self, Query, Socket};

/// Most pages of one table of one brane.
const MAX_PAGES: u32 = 64;
/// Most neighbours and sockets of one brane that are kept.
const KEPT: usize = 512;
/// Milliseconds for which `reach --probe` waits for a reply.
const PATIENCE_MS: u32 = 1000;

/// The next action of a survey.
#[derive(Debug)]
pub enum Next {
    /// Send this request, then pass its answer in.
    Send(Request),
    /// The result of `why`.
    Explained(Explanation),
    /// The result of `reach`.
    Computed(Matrix),
}

/// The question.
#[derive(Debug)]
enum Goal {
    Why(Why),
    Reach(Reach),
}

/// Pings to a brane that should reply, at most. The first one to a new neighbour can be lost while the reply waits for an address.
const PINGS: u32 = 3;

/// A request that was sent, or that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Branes,
    Devices,
    Table(String, Query, u32),
    /// The pair, and the number of pings that had no reply.
    Ping(usize, u32),
}

/// `why` or `reach` under execution.
#[derive(Debug)]
pub struct Survey {
    goal: Goal,
    snapshot: Snapshot,
    left: VecDeque<Task>,
    sent: Option<Task>,
    matrix: Option<Matrix>,
}

impl Survey {
    /// Creates the survey of `why`.
    pub fn why(why: Why) -> Survey {
        Survey::new(Goal::Why(why))
    }

    /// Creates the survey of `reach`.
    pub fn reach(reach: Reach) -> Survey {
        Survey::new(Goal::Reach(reach))
    }

    fn new(goal: Goal) -> Survey {
        Survey {
            goal,
            snapshot: Snapshot::default(),
            left: [Task::Branes, Task::Devices].into(),
            sent: None,
            matrix: None,
        }
    }

    /// Executes the next step. `reply` is the answer to the last request; `None` at the beginning. Fails if the manager refuses a
    /// list, or if a name does not exist.
    pub fn step(&mut self, reply: Option<Result<Answer, Refusal>>) -> Result<Next, Error> {
        if let (Some(task), Some(reply)) = (self.sent.take(), reply) {
            self.received(task, reply)?;
        }
        loop {
            if let Some(task) = self.left.pop_front() {
                let request = self.request(&task);
                self.sent = Some(task);
                return Ok(Next::Send(request));
            }
            match (&self.goal, self.matrix.take()) {
                (Goal::Why(question), _) => return Ok(Next::Explained(why(&self.snapshot, question)?)),
                (Goal::Reach(_), Some(matrix)) => return Ok(Next::Computed(matrix)),
                (Goal::Reach(reach), None) => {
                    let matrix = Matrix::new(&self.snapshot, reach.traffic, reach.probe);
                    if reach.probe {
                        self.left = (0..matrix.pairs.len()).map(|at| Task::Ping(at, 0)).collect();
                    }
                    self.matrix = Some(matrix);
                }
            }
        }
    }

    fn traffic(&self) -> Traffic {
        match &self.goal {
            Goal::Why(why) => why.traffic,
            Goal::Reach(reach) => reach.traffic,
        }
    }

    fn request(&self, task: &Task) -> Request {
        match task {
            Task::Branes => Request::List { fresh: true },
            Task::Devices => Request::Devices,
            Task::Table(brane, query, _) => Request::Query {
                brane: brane.clone(),
                query: query.clone(),
            },
            Task::Ping(at, _) => {
                let pair = self.matrix.as_ref().and_then(|matrix| matrix.pairs.get(*at));
                // A task for a ping exists only beside its pair.
                pair.map_or(Request::Devices, |pair| Request::Query {
                    brane: pair.from.clone(),
                    query: Query::Ping {
                        to: pair.address,
                        sequence: *at as u16,
                        size: 56,
                        timeout_ms: PATIENCE_MS,
                    },
                })
            }
        }
    }

    fn received(&mut self, task: Task, reply: Result<Answer, Refusal>) -> Result<(), Error> {
        match (task, reply) {
            (Task::Branes, Ok(Answer::Branes(branes))) => {
                self.snapshot.branes = branes.into_iter().map(short).collect();
                self.plan()?;
            }
            (Task::Devices, Ok(Answer::Devices(devices))) => self.snapshot.devices = devices,
            (Task::Branes | Task::Devices, Err(refusal)) => return Err(refusal.into()),
            (Task::Branes | Task::Devices, Ok(_)) => {
                return Err(Error::new(
                    "the manager answered something else",
                    "give the command again",
                ));
            }
            (Task::Table(brane, query, page), reply) => self.table(brane, &query, page, reply),
            (Task::Ping(at, lost), reply) => {
                if let Some(pair) = self.matrix.as_mut().and_then(|m| m.pairs.get_mut(at)) {
                    pair.tried = came(reply);
                    if pair.differs() && lost + 1 < PINGS {
                        self.left.push_front(Task::Ping(at, lost + 1));
                    }
                }
            }
        }
        Ok(())
    }

    /// Plans the queries to the branes of the question. Fails if a name does not exist.
    fn plan(&mut self) -> Result<(), Error> {
        let branes = &self.snapshot.branes;
        let traffic = self.traffic();
        let mut tasks = Vec::new();
        let mut plan = |brane: &Brane, neighbours: Option<brane_abi::control::Family>| {
            if !started(brane) {
                return;
            }
            let mut table = |query| tasks.push(Task::Table(brane.name.clone(), query, 0));
            table(Query::Routes);
            table(Query::Filter { skip: 0 });
            if let Some(family) = neighbours {
                table(Query::Neighbours { family, skip: 0 });
            }
            if traffic != Traffic::Icmp {
                table(Query::Sockets { skip: 0 });
            }
        };
        match &self.goal {
            Goal::Why(why) => {
                let (from, to) = End::both(&self.snapshot, &why.from, &why.to)?;
                let address = why_address(&from, &to);
                let family = address.map_or_else(|| End::family(&from, &to), family_of);
                if let Some(brane) = from.brane {
                    plan(brane, Some(family));
                }
                let other = to
                    .brane
                    .filter(|to| from.brane.is_none_or(|from| from.name != to.name));
                if let Some(brane) = other {
                    plan(brane, None);
                }
            }
            Goal::Reach(_) => branes.iter().for_each(|brane| plan(brane, None)),
        }
        self.left.extend(tasks);
        Ok(())
    }

    fn table(&mut self, brane: String, query: &Query, page: u32, reply: Result<Answer, Refusal>) {
        let traffic = self.traffic();
        let tables = self.snapshot.tables.entry(brane.clone()).or_default();
        let more = match reply {
            Ok(Answer::Query(answer)) => add(tables, query, traffic, answer),
            Ok(_) => Err("the brane answered something else".into()),
            Err(refusal) => Err(refusal.words().what),
        };
        let skip = match more {
            Ok(skip) => skip.filter(|_| page + 1 < MAX_PAGES),
            Err(why) => {
                // The brane may hang, so it is asked nothing more.
                self.left
                    .retain(|task| !matches!(task, Task::Table(of, ..) if *of == brane));
                tables.silent = Some(why);
                None
            }
        };
        let next = skip.and_then(|skip| match query {
            Query::Filter { .. } => Some(Query::Filter { skip }),
            Query::Sockets { .. } => Some(Query::Sockets { skip }),
            Query::Neighbours { family, .. } => Some(Query::Neighbours {
                family: *family,
                skip,
            }),
            _ => None,
        });
        if let Some(query) = next {
            self.left.push_front(Task::Table(brane, query, page + 1));
        }
    }
}

fn why_address(from: &End<'_>, to: &End<'_>) -> Option<core::net::IpAddr> {
    from.address.or(to.address)
}

/// Removes what no step needs from a brane.
fn short(mut brane: Brane) -> Brane {
    brane.vifs = Vec::new();
    brane.status.counters = Vec::new();
    brane
}

/// Adds a page of a table. Returns the number of entries to skip in the next query, if more follow. Fails with the reason if the
/// brane gives no valid table.
fn add(
    tables: &mut Tables,
    query: &Query,
    traffic: Traffic,
    answer: query::Answer,
) -> Result<Option<u32>, String> {
    match (query, answer) {
        (_, query::Answer::Refused(why)) => Err(why.words().what),
        (Query::Routes, query::Answer::Routes(mut list)) => {
            list.truncate(KEPT);
            tables.routes = Some(list);
            Ok(None)
        }
        (Query::Filter { skip }, query::Answer::Filter(list, more)) => {
            let rules = tables.rules.get_or_insert_default();
            let next = skip + list.len() as u32;
            let more = more && !list.is_empty();
            rules.extend(list.into_iter().map(|status| status.rule));
            if rules.len() > MAX_RULES || length(rules) > MAX_FILTER {
                tables.rules = None;
                return Err("its filter is longer than a filter can be".into());
            }
            Ok(more.then_some(next))
        }
        (Query::Neighbours { skip, .. }, query::Answer::Neighbours(list, more)) => {
            let all = tables.neighbours.get_or_insert_default();
            let next = skip + list.len() as u32;
            let more = more && !list.is_empty() && all.len() < KEPT;
            all.extend(list);
            Ok(more.then_some(next))
        }
        (Query::Sockets { skip }, query::Answer::Sockets(list, more)) => {
            let all = tables.listeners.get_or_insert_default();
            let next = skip + list.len() as u32;
            let more = more && !list.is_empty() && all.len() < KEPT;
            all.extend(list.into_iter().filter(|socket| accepts(socket, traffic)));
            Ok(more.then_some(next))
        }
        _ => Err("the brane answered something else".into()),
    }
}

/// Returns true if a socket accepts new traffic with this protocol and port.
fn accepts(socket: &Socket, traffic: Traffic) -> bool {
    let protocol = match traffic {
        Traffic::Icmp => return false,
        Traffic::Tcp(_) => Protocol::Tcp,
        Traffic::Udp(_) => Protocol::Udp,
    };
    let listens = protocol == Protocol::Udp || socket.state == "LISTEN";
    socket.protocol == protocol && listens && Some(socket.local.port()) == traffic.port()
}

fn length(rules: &Vec<Rule>) -> usize {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and rules can be encoded.
    let _ = minicbor::encode(rules, &mut bytes);
    bytes.len()
}

/// Returns true if a reply came, false if none came or none can come. `None` if the brane did not try it.
fn came(reply: Result<Answer, Refusal>) -> Option<bool> {
    use query::Refusal as Why;
    match reply {
        Ok(Answer::Query(query::Answer::Echo { .. })) => Some(true),
        Ok(Answer::Query(query::Answer::Refused(
            Why::NoReply(_)
            | Why::NoRoute(_)
            | Why::NoSuchProtocol(_)
            | Why::CannotSend(_)
            | Why::InterfaceIsDown
            | Why::InterfaceIsGone,
        ))) => Some(false),
        _ => None,
    }
}
