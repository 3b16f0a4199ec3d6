//! Queries to the brane, such as those of `ifconfig`, `netstat` and `ping` (`brane_abi::query`).
//!
//! The brane is not trusted: its answer is bounded, and an answer that cannot be decoded is a protocol error.

use crate::error::Error;
use crate::net_client::{Core, NetClient, Shared};
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::query::{Answer, MAX_QUERY, Query};
use brane_abi::socket::{CONTROL_BIT, QUESTIONS, request};
use core::task::{Poll, Waker};

/// A query under way.
pub(crate) struct PendingQuery {
    token: u32,
    outcome: Option<Result<Answer, Error>>,
    /// Its task has ended; the entry is freed when the answer arrives.
    dropped: bool,
    waker: Option<Waker>,
}

/// Drops the query when its task ends.
struct Pending {
    shared: Rc<Shared>,
    token: u32,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let core = &mut *self.shared.core.borrow_mut();
        if let Some(query) = core.queries.iter_mut().find(|q| q.token == self.token) {
            query.dropped = true;
        }
        core.queries.retain(|q| !(q.dropped && q.outcome.is_some()));
    }
}

impl NetClient {
    /// Sends a query to the brane and waits for its answer. A refusal is an answer ([`Answer::Refused`]).
    ///
    /// # Errors
    /// - [`Error::NoResources`]: too many queries are under way.
    /// - [`Error::InvalidInput`]: the query is too long.
    /// - The link's error, if the link ends meanwhile.
    pub async fn query(&self, query: &Query) -> Result<Answer, Error> {
        // Writing to a vector cannot fail.
        let text = minicbor::to_vec(query).unwrap_or_default();
        if text.is_empty() || text.len() > MAX_QUERY {
            return Err(Error::InvalidInput);
        }
        let token = self.0.core.borrow_mut().ask(&self.0, &text)?;
        let pending = Pending {
            shared: self.0.clone(),
            token,
        };
        core::future::poll_fn(|cx| {
            let core = &mut *pending.shared.core.borrow_mut();
            let Some(query) = core.queries.iter_mut().find(|q| q.token == token) else {
                return Poll::Ready(Err(Error::BraneRestarted));
            };
            if let Some(outcome) = &query.outcome {
                return Poll::Ready(outcome.clone());
            }
            query.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Core {
    fn ask(&mut self, shared: &Shared, text: &[u8]) -> Result<u32, Error> {
        if !self.is_up() {
            return Err(Error::NotReady);
        }
        if self.queries.len() >= QUESTIONS {
            return Err(Error::NoResources);
        }
        self.last_token = self.last_token.wrapping_add(1);
        let token = self.last_token;
        self.send([request::QUERY, token, 0], text)?;
        shared.mark(CONTROL_BIT);
        self.queries.push(PendingQuery {
            token,
            outcome: None,
            dropped: false,
            waker: None,
        });
        Ok(token)
    }

    /// Stores an answer and wakes its task. Returns false if no query has this token or the answer cannot be decoded.
    pub(crate) fn take_answer(&mut self, token: u32, text: &[u8]) -> bool {
        let Some(at) = self
            .queries
            .iter()
            .position(|q| q.token == token && q.outcome.is_none())
        else {
            return false;
        };
        let answer = minicbor::decode::<Answer>(text);
        let sound = answer.is_ok();
        let query = &mut self.queries[at];
        query.outcome = Some(answer.map_err(|_| Error::Protocol));
        if let Some(waker) = query.waker.take() {
            waker.wake();
        }
        if query.dropped {
            self.queries.swap_remove(at);
        }
        sound
    }

    /// Ends all queries with the link.
    pub(crate) fn lose_queries(&mut self, error: Error) {
        for query in &mut self.queries {
            query.outcome.get_or_insert(Err(error));
            if let Some(waker) = query.waker.take() {
                waker.wake();
            }
        }
        self.queries.retain(|query| !query.dropped);
    }
}

/// Returns an empty list of queries.
pub(crate) fn none() -> Vec<PendingQuery> {
    Vec::with_capacity(QUESTIONS)
}
