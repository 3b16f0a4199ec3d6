//! Commands to running branes whose answers are awaited.
//!
//! Branes are not trusted: one that does not answer a change within [`TIME_NS`] has broken the protocol and is started anew,
//! with the configuration as it then is. A question to its inside may stay without an answer; that costs the asker alone.

use super::{Cx, Manager, command};
use alloc::vec::Vec;
use brane_abi::control::report as kind;
use brane_abi::inside::MAX_ANSWER;

/// How long a brane may take to answer a change, in nanoseconds.
pub(crate) const TIME_NS: u64 = 2_000_000_000;
/// How long an answer to a question may take, the longest time that one can name included; in nanoseconds.
pub(crate) const QUERY_NS: u64 = 12_000_000_000;
/// Most commands to one brane whose answers are awaited, before a question is not sent. Changes are, since what they tell has
/// happened already; there are few of them, because each locks its brane.
const MAX_ORDERS: usize = 32;

/// A command whose answer is awaited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub token: u32,
    pub deadline: u64,
    /// A question, which need not be answered.
    pub question: bool,
    /// Who waits.
    pub job: u32,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(alloc::string::String),
    Answer(Vec<u8>),
    /// The brane failed before it answered, or takes no more commands.
    Lost,
    /// No answer in time.
    Late,
}

impl Manager {
    /// Whether the brane has been configured in its present life, so that changes have to be told to it.
    pub(super) fn takes_orders(&self, brane: usize) -> bool {
        self.branes[brane].told
    }

    /// Sends a command for a job; `false` for a question where too many are awaited already.
    pub(super) fn send_order(
        &mut self,
        brane: usize,
        kind: u32,
        payload: Vec<u8>,
        question: bool,
        job: u32,
        cx: &mut Cx<'_>,
    ) -> bool {
        let token = self.next_token();
        let b = &mut self.branes[brane];
        if question && b.orders.len() >= MAX_ORDERS {
            return false;
        }
        b.orders.push(Order {
            token,
            deadline: cx.now + if question { QUERY_NS } else { TIME_NS },
            question,
            job,
        });
        cx.actions.push(command(brane, kind, token, payload));
        true
    }

    pub(super) fn order_answered(
        &mut self,
        brane: usize,
        report: u32,
        token: u32,
        payload: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let b = &mut self.branes[brane];
        let Some(at) = b.orders.iter().position(|o| o.token == token) else {
            return;
        };
        let order = b.orders.swap_remove(at);
        let outcome = match report {
            kind::DONE => Outcome::Done,
            kind::ANSWER if order.question && payload.len() <= MAX_ANSWER => {
                Outcome::Answer(payload.to_vec())
            }
            kind::REFUSED => Outcome::Refused(crate::report::reason(payload)),
            _ => {
                b.counts.reports_refused += 1;
                self.unwanted(brane, "answers of the wrong kind", cx);
                Outcome::Lost
            }
        };
        self.job_goes_on(order.job, outcome, cx);
    }

    /// The brane answers no more: all who wait are told.
    pub(super) fn orders_lost(&mut self, brane: usize, cx: &mut Cx<'_>) {
        for order in core::mem::take(&mut self.branes[brane].orders) {
            self.job_goes_on(order.job, Outcome::Lost, cx);
        }
    }

    /// Looks whose time is over.
    pub(super) fn orders_due(&mut self, brane: usize, cx: &mut Cx<'_>) {
        let late = |o: &Order| o.deadline <= cx.now;
        let b = &mut self.branes[brane];
        if b.orders.iter().any(|o| late(o) && !o.question) {
            // Ends the wait of all.
            return self.breach(brane, "no answer to a change", cx);
        }
        let over: Vec<Order> = b.orders.extract_if(.., |o| late(o)).collect();
        for order in over {
            self.job_goes_on(order.job, Outcome::Late, cx);
        }
    }
}
