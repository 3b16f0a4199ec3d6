//! Rules of packet filters: `[[brane.filter]]`.

use crate::file::Filter;
use crate::rules::Rules;
use brane_abi::filter::{MAX_RULES, Rule};
use brane_manager_core::filter::{self, BadFilter};
use std::ops::Range;
use toml::Spanned;

impl Rules<'_> {
    /// Parses the rules of a brane and checks that a filter can have them.
    pub(crate) fn filter(&mut self, brane: &str, given: &[Filter]) -> Vec<Rule> {
        let mut out = Vec::new();
        for Filter { rule } in given {
            match branes_pfil::parse(rule.get_ref()) {
                Ok(rule) => out.push(rule),
                Err(fault) => {
                    let place = self.place(rule, fault.column);
                    self.wrong(place, format!("brane.filter.rule: {}", fault.problem));
                }
            }
        }
        let (at, fix) = match filter::check(&out) {
            Ok(_) => return out,
            Err(BadFilter::TooManyRules(_)) => (MAX_RULES, "drop some, or join some into one"),
            Err(_) => (out.len() - 1, "drop some, or ports and programs of some"),
        };
        if let (Some(rule), Err(why)) = (given.get(at), filter::check(&out)) {
            let what = format!("brane.filter: brane `{brane}`: {why}: {fix}");
            self.wrong(rule.rule.span(), what);
        }
        out
    }

    /// Returns the place of a character of a string. `column` counts characters from 1. A string of several lines
    /// has only one place.
    fn place(&self, string: &Spanned<String>, column: usize) -> Range<usize> {
        let span = string.span();
        let raw = self.text.get(span.clone()).unwrap_or("");
        let quote = raw.chars().next().unwrap_or(' ');
        if raw.starts_with("\"\"\"") || raw.starts_with("'''") {
            return span;
        }
        let mut inner = raw.char_indices().skip(1);
        for _ in 1..column {
            // In a basic string, an escape sequence stands for one character.
            let escape = match inner.next() {
                Some((_, '\\')) if quote == '"' => inner.next().map_or(' ', |(_, c)| c),
                _ => continue,
            };
            let digits = match escape {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            inner.by_ref().take(digits).for_each(drop);
        }
        let at = span.start + inner.next().map_or(raw.len(), |(at, _)| at);
        at..span.end.max(at)
    }
}
