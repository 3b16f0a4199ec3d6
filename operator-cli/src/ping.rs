//! `ping`: the options and results of a sequence of echo requests. The brane is not trusted: stored replies are bounded.

use crate::refusals::Words;
use crate::table_layout::milliseconds;
use alloc::format;
use alloc::string::String;
use brane_abi::query;
use core::net::IpAddr;
use serde_json::{Value, json};

/// Options of the echo requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The brane that sends them.
    pub brane: String,
    /// The destination: an address or a name.
    pub host: String,
    /// Number of requests; `None` for no limit.
    pub count: Option<u16>,
    /// Bytes of data.
    pub size: u16,
    /// Milliseconds between two requests.
    pub interval_ms: u32,
    /// Milliseconds to wait for a reply.
    pub timeout_ms: u32,
}

/// Most replies that are kept for the answer in JSON.
const KEPT: usize = 1000;

/// Results of the echo requests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The destination's address, if it is known.
    pub to: Option<IpAddr>,
    /// Number of sent requests.
    pub sent: u64,
    /// Number of received replies.
    pub received: u64,
    least: u32,
    most: u32,
    sum: u64,
    replies: alloc::vec::Vec<Value>,
}

impl Outcome {
    /// Creates the results before the first request.
    pub fn new(to: Option<IpAddr>) -> Outcome {
        Outcome {
            to,
            ..Outcome::default()
        }
    }

    /// Counts a reply. Returns its line for the screen.
    pub fn reply(&mut self, sequence: u16, from: IpAddr, size: u16, ttl: u8, rtt_us: u32) -> String {
        self.least = if self.received == 0 {
            rtt_us
        } else {
            self.least.min(rtt_us)
        };
        self.most = self.most.max(rtt_us);
        self.sum = self.sum.saturating_add(rtt_us.into());
        self.received += 1;
        if self.replies.len() < KEPT {
            self.replies
                .push(json!({"sequence": sequence, "from": format!("{from}"), "size": size, "ttl": ttl, "rtt_us": rtt_us}));
        }
        format!(
            "{size} bytes from {from}: seq={sequence} ttl={ttl} time={}\n",
            milliseconds(rtt_us.into())
        )
    }

    /// Returns the line for an answer of the brane that is no reply.
    pub fn none(&mut self, sequence: u16, answer: &query::Answer) -> String {
        match answer {
            query::Answer::Refused(why) => format!("no reply to seq {sequence}: {}\n", why.words().what),
            _ => format!("no reply to seq {sequence}: the brane answered something else\n"),
        }
    }

    /// Returns the percentage of requests without a reply.
    fn lost(&self) -> u64 {
        (self.sent - self.received.min(self.sent)) * 100 / self.sent.max(1)
    }

    fn mean(&self) -> u64 {
        self.sum / self.received.max(1)
    }

    /// Returns the summary for the screen.
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} sent, {} received, {}% lost\n",
            self.sent,
            self.received,
            self.lost()
        );
        if self.received > 0 {
            out += &format!(
                "round trip least/mean/most {} / {} / {}\n",
                milliseconds(self.least.into()),
                milliseconds(self.mean()),
                milliseconds(self.most.into())
            );
        }
        out
    }

    /// Returns the results as JSON.
    pub fn json(&self) -> Value {
        let mut out = json!({
            "to": self.to.map(|to| format!("{to}")),
            "sent": self.sent,
            "received": self.received,
            "replies": self.replies,
        });
        if self.received > 0 {
            out["rtt_us"] = json!({"least": self.least, "mean": self.mean(), "most": self.most});
        }
        out
    }
}
