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
pub(super) enum Gate<'a> {
    /// The filter without rates, and the rules as they are. The filter notes the flow of the first packet, as the filter of the brane does.
    Rules(Box<Filter>, &'a [Rule]),
    /// The rules are unknown, for this reason.
    Unknown(String),
}

impl<'a> Gate<'a> {
    /// Builds the filter. Rates are removed, because the traffic of others decides about them.
    pub(super) fn new(tables: Option<&'a Tables>) -> Gate<'a> {
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
        Gate::Rules(Box::new(filter), rules)
    }

    /// Returns true if a rule is for this direction, so that the step is worth showing.
    pub(super) fn has(&self, direction: Direction) -> bool {
        match self {
            Gate::Rules(_, rules) => rules.iter().any(|rule| rule.direction == Some(direction)),
            Gate::Unknown(_) => false,
        }
    }

    /// Decides on a packet. The rule whose counter grows has decided.
    pub(super) fn decide(&mut self, direction: Direction, interface: &str, packet: &[u8]) -> Finding {
        let (filter, rules) = match self {
            Gate::Rules(filter, rules) => (filter, *rules),
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
        let thing = match found.and_then(|at| Some((at + 1, rules.get(at)?))) {
            Some((number, rule)) => format!("rule {number}: {}", branes_pfil::print(rule)),
            None => "no rule matches".to_string(),
        };
        let states = rules.iter().any(|rule| !rule.states.is_empty());
        let rates = rules.iter().any(|rule| rule.rate.is_some());
        let detail = match (states, rates) {
            (false, false) => "",
            (true, false) => "evaluated for a new flow",
            (false, true) => "rates are ignored",
            (true, true) => "evaluated for a new flow, rates are ignored",
        };
        (verdict, thing, detail.to_string())
    }
}
