//! Evaluates the filter of a brane with the filter's own code, for a packet of a new flow and the answer to it.

use super::{Tables, Verdict};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::filter::{Direction, Rule};
use branes_pfil::chain;
use branes_pfil::filter::Filter;
use branes_pfil::state::LEAST;

/// Result of a step without its name and brane.
pub(super) type Finding = (Verdict, String, String);

/// The filter of one brane.
pub(super) enum Gate {
    /// The rules in force. The filter notes the flow of the first packet, as the filter of the brane does.
    Rules(Box<Filter>, Notes),
    /// The rules are unknown, for this reason.
    Unknown(String),
}

/// Kinds of clauses that need a note beside the verdict.
#[derive(Clone, Copy)]
pub(super) struct Notes {
    states: bool,
    rates: bool,
}

impl Gate {
    /// Builds the filter. Rates are removed, because the traffic of others decides about them.
    pub(super) fn new(tables: Option<&Tables>) -> Gate {
        let rules = match tables {
            Some(Tables {
                rules: Some(rules), ..
            }) => rules,
            Some(tables) => {
                let why = tables.silent.as_deref();
                return Gate::Unknown(why.unwrap_or("its filter is not known").to_string());
            }
            None => return Gate::Unknown("the brane was not asked".to_string()),
        };
        let Some(mut filter) = Filter::new(0, LEAST) else {
            return Gate::Unknown("memory is short".to_string());
        };
        let unlimited = |rule: &Rule| Rule {
            rate: None,
            ..rule.clone()
        };
        let plain: Vec<Rule> = rules.iter().map(unlimited).collect();
        if let Err((index, problem)) = filter.replace(&plain) {
            return Gate::Unknown(format!("rule {} is not valid: {problem}", index + 1));
        }
        let notes = Notes {
            states: rules.iter().any(|rule| !rule.states.is_empty()),
            rates: rules.iter().any(|rule| rule.rate.is_some()),
        };
        Gate::Rules(Box::new(filter), notes)
    }

    /// Decides on a packet. The rule whose counter grows has decided.
    pub(super) fn decide(&mut self, direction: Direction, interface: &str, packet: &[u8]) -> Finding {
        let (filter, notes) = match self {
            Gate::Rules(filter, notes) => (filter, notes),
            Gate::Unknown(why) => return (Verdict::Unknown, "filter".into(), why.clone()),
        };
        if filter.is_empty() {
            return (Verdict::Pass, "no rules".into(), String::new());
        }
        let counts = |filter: &Filter| filter.statuses().map(|s| s.packets).collect::<Vec<_>>();
        let before = counts(filter);
        let verdict = match filter.decide(1, direction, interface, packet) {
            chain::Verdict::Drop | chain::Verdict::Reject => Verdict::Stop,
            chain::Verdict::Pass | chain::Verdict::Modified | chain::Verdict::Absorb => Verdict::Pass,
        };
        let after = counts(filter);
        let found = before
            .iter()
            .zip(&after)
            .position(|(before, after)| before != after);
        let thing = match found.and_then(|at| Some((at + 1, filter.statuses().nth(at)?))) {
            Some((number, status)) => format!("rule {number}: {}", branes_pfil::print(&status.rule)),
            None => "no rule matches".to_string(),
        };
        let detail = match (notes.states, notes.rates) {
            (false, false) => "",
            (true, false) => "evaluated for a new flow",
            (false, true) => "rates are ignored",
            (true, true) => "evaluated for a new flow, rates are ignored",
        };
        (verdict, thing, detail.to_string())
    }
}
