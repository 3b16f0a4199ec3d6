//! Checks the rules of a brane's packet filter. They come from operators and from the boot configuration.

use crate::encode;
use alloc::vec::Vec;
use brane_abi::filter::{MAX_FILTER, MAX_RULES, Rule};
use branes_pfil::Problem;
use core::fmt;

/// Reason why a brane cannot have a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFilter {
    /// It has this many rules, more than [`MAX_RULES`].
    TooManyRules(usize),
    /// Its rules have this many bytes in CBOR, more than [`MAX_FILTER`].
    TooLong(usize),
    /// The rule with this number, from 1 on, is not possible.
    Rule(usize, Problem),
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFilter::TooManyRules(rules) => write!(f, "{rules} rules, a filter takes {MAX_RULES}"),
            BadFilter::TooLong(bytes) => {
                write!(f, "the rules of the filter have {bytes} bytes, {MAX_FILTER} fit")
            }
            BadFilter::Rule(number, problem) => write!(f, "rule {number}: {problem}"),
        }
    }
}

/// Checks that a brane can have these rules. Returns them as the payload of `FILTER`.
pub fn check(rules: &[Rule]) -> Result<Vec<u8>, BadFilter> {
    if rules.len() > MAX_RULES {
        return Err(BadFilter::TooManyRules(rules.len()));
    }
    for (n, rule) in rules.iter().enumerate() {
        branes_pfil::check(rule).map_err(|problem| BadFilter::Rule(n + 1, problem))?;
    }
    let payload = encode(&rules);
    match payload.len() > MAX_FILTER {
        true => Err(BadFilter::TooLong(payload.len())),
        false => Ok(payload),
    }
}
