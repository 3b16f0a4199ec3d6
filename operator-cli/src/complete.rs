//! Completion of the word at the cursor, from the table and from existing names. Owns no state.

use crate::parse::{Context, start};
use crate::table::{Arity, Program, Value, Verb};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::operator::Names;

/// Possible completions of the word at the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Start of the word, in bytes of the line.
    pub start: usize,
    /// Whole words, sorted.
    pub candidates: Vec<String>,
}

impl Completion {
    /// Returns the longest common prefix of all candidates.
    pub fn shared(&self) -> &str {
        let mut all = self.candidates.iter();
        let Some(first) = all.next() else {
            return "";
        };
        let mut len = first.len();
        for other in all {
            let same = first.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
            len = len.min(same.map_or(first.len().min(other.len()), |((at, _), _)| at));
        }
        &first[..len]
    }
}

/// Completes the last word of `line`, which ends at the cursor.
pub fn line(line: &str, context: &Context, names: &Names) -> Completion {
    let begin = line
        .rfind(char::is_whitespace)
        .map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
    let before: Vec<&str> = line[..begin].split_whitespace().collect();
    let word = &line[begin..];
    let mut candidates: Vec<String> = words(&before, word, context, names);
    candidates.retain(|c| c.starts_with(word) && c != word);
    if candidates.is_empty() && words(&before, word, context, names).iter().any(|c| c == word) {
        candidates.push(word.into());
    }
    candidates.sort();
    candidates.dedup();
    Completion {
        start: begin,
        candidates,
    }
}

/// Returns the words that can follow `before`. `word` is the start of the word at the cursor.
fn words(before: &[&str], word: &str, context: &Context, names: &Names) -> Vec<String> {
    if context.brane.is_some()
        && before
            .first()
            .is_some_and(|word| matches!(*word, "branectl" | "nicctl"))
    {
        return Vec::new();
    }
    let start = start(before, context);
    let rest = &before[start.skip..];
    let Some((&name, arguments)) = rest.split_first() else {
        return verbs(start.program, context);
    };
    match (start.program, name, arguments) {
        (Program::Branectl, "in" | "enter", []) => return names.branes.clone(),
        (_, "help", []) => return every_verb(),
        _ => {}
    }
    let Some(verb) = start.program.verb(name) else {
        return Vec::new();
    };
    let brane = start.brane.as_deref();
    // The word is the value of an option.
    if let Some((_, value)) = arguments.last().and_then(|last| option(verb, last)) {
        return of(value, brane, names);
    }
    if let Some((option, _)) = word.strip_prefix("--").and_then(|w| w.split_once('=')) {
        let found = verb
            .all_options()
            .find(|o| o.long == option)
            .and_then(|o| o.value);
        let all = found.map_or(Vec::new(), |(_, value)| of(value, brane, names));
        return all.into_iter().map(|v| format!("--{option}={v}")).collect();
    }
    if word.starts_with('-') {
        return verb.all_options().map(|o| format!("--{}", o.long)).collect();
    }
    // Find the argument's position. Options and their values do not count.
    let mut position = 0;
    let mut value = false;
    for word in arguments {
        let skipped = core::mem::take(&mut value);
        if word.starts_with('-') && word.len() > 1 && !skipped {
            value = option(verb, word).is_some();
        } else if !skipped {
            position += 1;
        }
    }
    let argument = verb
        .arguments
        .get(position)
        .or(verb.arguments.last().filter(|a| a.arity == Arity::Many));
    argument.map_or(Vec::new(), |a| of(a.value, brane, names))
}

/// Returns name and meaning of the value, if `word` is an option that takes a value.
fn option(verb: &'static Verb, word: &str) -> Option<(&'static str, Value)> {
    let mut all = verb.options.iter();
    let found = match word.strip_prefix("--") {
        Some(long) => all.find(|o| o.long == long),
        None => {
            let last = word.strip_prefix('-')?.chars().last()?;
            all.find(|o| o.short == Some(last))
        }
    };
    found?.value
}

fn verbs(program: Program, context: &Context) -> Vec<String> {
    let mut out: Vec<String> = program.verbs().map(|v| v.name.to_string()).collect();
    let more: &[&str] = match (program, context.brane.is_some()) {
        (Program::Branectl, _) => &["in", "enter", "nicctl"],
        (Program::InBrane, true) => &["help", "exit"],
        _ => &["help"],
    };
    out.extend(more.iter().map(ToString::to_string));
    out
}

fn every_verb() -> Vec<String> {
    let mut out: Vec<String> = ["in", "nicctl"].map(String::from).into();
    for program in Program::ALL {
        out.extend(program.verbs().map(|v| v.name.to_string()));
    }
    out
}

/// Returns all words with this meaning.
fn of(value: Value, brane: Option<&str>, names: &Names) -> Vec<String> {
    let mut out = Vec::new();
    match value {
        Value::Brane => out.extend_from_slice(&names.branes),
        Value::Device => out.extend_from_slice(&names.devices),
        Value::Interface => out.extend_from_slice(&names.interfaces),
        Value::DeviceOrInterface => {
            out.extend_from_slice(&names.devices);
            out.extend_from_slice(&names.interfaces);
        }
        Value::BraneOrInterface => {
            out.extend_from_slice(&names.branes);
            out.extend_from_slice(&names.interfaces);
        }
        Value::AnyTarget => {
            out.extend_from_slice(&names.branes);
            out.extend_from_slice(&names.devices);
            out.extend_from_slice(&names.nics);
        }
        Value::CaptureTarget => {
            out.push("all".into());
            out.extend_from_slice(&names.branes);
            out.extend_from_slice(&names.devices);
            out.extend_from_slice(&names.interfaces);
        }
        Value::Domain => {
            out.extend_from_slice(&names.logs);
            out.extend_from_slice(&names.branes);
        }
        Value::Local => {
            let own = names.interfaces.iter().filter_map(|i| i.split_once('/'));
            out.extend(own.filter(|(b, _)| Some(*b) == brane).map(|(_, i)| i.to_string()));
            if !out.iter().any(|i| i == "lo0") {
                out.push("lo0".into());
            }
        }
        Value::Nic => out.extend_from_slice(&names.nics),
        Value::Word(words) => out.extend(words.iter().map(ToString::to_string)),
        Value::Verb => out = every_verb(),
        Value::File | Value::Text => {}
    }
    out
}
