//! Questions to the brane: what `ifconfig`, `netstat`, `ping` and the like ask (`brane_abi::query`).
//!
//! What the brane answers is an allegation like any event: it is bounded, and what cannot be read is a breach of protocol.

use crate::error::Error;
use crate::stack::{Core, Shared, Stack};
use alloc::rc::Rc;
use alloc::vec::Vec;
use brane_abi::query::{Answer, MAX_QUERY, Query};
use brane_abi::socket::{CONTROL_BIT, QUESTIONS, request};
use core::task::{Poll, Waker};

/// A question under way.
pub(crate) struct Question {
    token: u32,
    outcome: Option<Result<Answer, Error>>,
    /// Its task has gone; the place is free when the answer comes.
    dropped: bool,
    waker: Option<Waker>,
}

/// Forgets a question that nobody waits for any more.
struct Pending {
    shared: Rc<Shared>,
    token: u32,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let core = &mut *self.shared.core.borrow_mut();
        if let Some(question) = core.questions.iter_mut().find(|q| q.token == self.token) {
            question.dropped = true;
        }
        core.questions.retain(|q| !(q.dropped && q.outcome.is_some()));
    }
}

impl Stack {
    /// Asks the brane. A refusal is an answer ([`Answer::Refused`]). Errors: [`Error::NoResources`] with too many questions under
    /// way, [`Error::InvalidInput`] for one that is too long, and what ends the link meanwhile.
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
            let Some(question) = core.questions.iter_mut().find(|q| q.token == token) else {
                return Poll::Ready(Err(Error::BraneRestarted));
            };
            if let Some(outcome) = &question.outcome {
                return Poll::Ready(outcome.clone());
            }
            question.waker = Some(cx.waker().clone());
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
        if self.questions.len() >= QUESTIONS {
            return Err(Error::NoResources);
        }
        self.last_token = self.last_token.wrapping_add(1);
        let token = self.last_token;
        self.send([request::QUERY, token, 0], text)?;
        shared.mark(CONTROL_BIT);
        self.questions.push(Question {
            token,
            outcome: None,
            dropped: false,
            waker: None,
        });
        Ok(token)
    }

    /// An answer has come; `false` when it makes no sense.
    pub(crate) fn take_answer(&mut self, token: u32, text: &[u8]) -> bool {
        let Some(at) = self
            .questions
            .iter()
            .position(|q| q.token == token && q.outcome.is_none())
        else {
            return false;
        };
        let answer = minicbor::decode::<Answer>(text);
        let sound = answer.is_ok();
        let question = &mut self.questions[at];
        question.outcome = Some(answer.map_err(|_| Error::Protocol));
        if let Some(waker) = question.waker.take() {
            waker.wake();
        }
        if question.dropped {
            self.questions.swap_remove(at);
        }
        sound
    }

    /// The link has ended: no question is answered any more.
    pub(crate) fn lose_questions(&mut self, error: Error) {
        for question in &mut self.questions {
            question.outcome.get_or_insert(Err(error));
            if let Some(waker) = question.waker.take() {
                waker.wake();
            }
        }
        self.questions.retain(|question| !question.dropped);
    }
}

/// No questions yet.
pub(crate) fn none() -> Vec<Question> {
    Vec::with_capacity(QUESTIONS)
}
