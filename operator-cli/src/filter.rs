//! The rules of a brane's packet filter, in the words of a line and in a file. A rule is parsed here, at the operator's end, and the
//! manager gets it as data. Owns no state. The person who writes the rules is not trusted: the crate `branes-pfil` checks each rule.

use crate::command::Command;
use crate::error::{BAD_FILE, Error};
use crate::value_parsers;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::filter::{Edit, MAX_FILTER, MAX_RULES, Rule};
use brane_abi::operator::{MAX_REQUEST, Refusal, Request};
use branes_pfil::Fault;

/// Words that `filter BRANE` accepts.
pub const ACTIONS: &[&str] = &["list", "add", "delete", "flush", "replace"];

/// Builds the command of `filter` from its words. `head` is the part of the line before the action, for usages.
pub fn command(head: &str, brane: String, action: Option<&str>, words: &[String]) -> Result<Command, Error> {
    let wrong = |what: String, usage: &str| Error::new(what, format!("usage: {head} {usage}"));
    let alone = |usage: &str| match words.first() {
        Some(extra) => Err(wrong(format!("\"{extra}\" is one word too many"), usage)),
        None => Ok(()),
    };
    let number = |word: &str| value_parsers::number(word, 1, MAX_RULES as u64).map(|n| n as u16);
    let edit = match value_parsers::word(action.unwrap_or("list"), ACTIONS)?.as_str() {
        "add" => {
            let (at, rest) = match words {
                [at, number_of, rest @ ..] if at == "at" => (Some(number(number_of)?), rest),
                rest => (None, rest),
            };
            if rest.is_empty() {
                return Err(wrong("missing RULE".into(), "add [at NUMBER] RULE..."));
            }
            Edit::Add {
                at,
                rule: rule(&rest.join(" "))?,
            }
        }
        "delete" => match words {
            [word] => Edit::Delete(number(word)?),
            [] => return Err(wrong("missing NUMBER".into(), "delete NUMBER")),
            [_, extra, ..] => {
                return Err(wrong(
                    format!("\"{extra}\" is one word too many"),
                    "delete NUMBER",
                ));
            }
        },
        "flush" => {
            alone("flush")?;
            Edit::Flush
        }
        "replace" => return replacement(brane, words),
        _ => {
            alone("list")?;
            return Ok(Command::FilterList(brane));
        }
    };
    Ok(Command::Send(Request::Filter { brane, edit }))
}

/// Builds the command of `filter BRANE replace`. A single word that cannot begin a rule names a file.
fn replacement(brane: String, words: &[String]) -> Result<Command, Error> {
    let begins_rule = |word: &str| {
        let first = word.split([' ', ';']).next();
        matches!(first, Some("pass" | "drop" | "reject"))
    };
    match words {
        [file] if !begins_rule(file) && !file.contains([' ', ';']) => Ok(Command::FilterFile {
            brane,
            file: file.clone(),
        }),
        words => {
            let rules = rules(&words.join(" "))?;
            if rules.is_empty() {
                return Err(Error::new(
                    "no rules are given",
                    "write rules with ; between them, or name a file; flush deletes all rules",
                ));
            }
            Ok(Command::FilterReplace { brane, rules })
        }
    }
}

/// Parses one rule.
fn rule(text: &str) -> Result<Rule, Error> {
    branes_pfil::parse(text).map_err(|fault| Error::new(format!("{fault}\n{}", marked(text, &fault)), ""))
}

/// Parses rules with `;` between them.
pub fn rules(text: &str) -> Result<Vec<Rule>, Error> {
    let mut all = Vec::new();
    for part in parts(text).into_iter().filter(|part| !part.trim().is_empty()) {
        let part = part.trim();
        let parsed = branes_pfil::parse(part).map_err(|fault| {
            let number = all.len() + 1;
            Error::new(format!("rule {number}, {fault}\n{}", marked(part, &fault)), "")
        });
        all.push(parsed?);
    }
    bounded(&all)?;
    Ok(all)
}

/// Splits a text at each `;` between rules. The instructions of a BPF program have `;` between them too: these stand between
/// quotes, or have a digit behind them.
fn parts(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted && !rest.trim_start().starts_with(|c: char| c.is_ascii_digit()) => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// Parses a file of rules: one in each line. A `#` begins a comment. The error has all faults, each with its line and a mark below
/// the column. A file without rules is an error too, because it may be the output of a program that has failed.
pub fn file(name: &str, text: &str) -> Result<Vec<Rule>, Error> {
    let mut all = Vec::new();
    let mut faults = String::new();
    for (line, number) in text.lines().zip(1usize..) {
        // No rule has a `#`.
        let line = line.split('#').next().unwrap_or("").trim_end();
        if line.is_empty() {
            continue;
        }
        match branes_pfil::parse(line) {
            Ok(rule) => all.push(rule),
            Err(fault) => {
                if !faults.is_empty() {
                    faults.push('\n');
                }
                faults += &format!(
                    "{name}:{number}:{}: {}\n{}",
                    fault.column,
                    fault.problem,
                    marked(line, &fault)
                );
            }
        }
    }
    if !faults.is_empty() {
        return Err(Error::coded(BAD_FILE, faults, ""));
    }
    if all.is_empty() {
        return Err(Error::coded(
            BAD_FILE,
            format!("{name} has no rules"),
            "`filter BRANE flush` deletes all rules",
        ));
    }
    bounded(&all)?;
    Ok(all)
}

/// Returns the text of a rule, with a mark below the column of the fault.
fn marked(text: &str, fault: &Fault) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("  {shown}\n  {}^", " ".repeat(fault.column.saturating_sub(1)))
}

/// Fails if a filter cannot have as many rules, or as long ones.
fn bounded(rules: &[Rule]) -> Result<(), Error> {
    if rules.len() > MAX_RULES {
        return Err(Refusal::TooManyRules {
            rules: rules.len() as u32,
            most: MAX_RULES as u32,
        }
        .into());
    }
    let bytes = length(&rules);
    if bytes > MAX_FILTER {
        return Err(Refusal::FilterTooLong {
            bytes: bytes as u32,
            most: MAX_FILTER as u32,
        }
        .into());
    }
    Ok(())
}

/// Returns the length of a value in CBOR, in bytes.
fn length<T: minicbor::Encode<()>>(value: &T) -> usize {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and all the types used can be encoded.
    let _ = minicbor::encode(value, &mut bytes);
    bytes.len()
}

/// Builds the requests that replace all rules of a brane's filter at once: the rules in parts, then the replacement.
pub fn requests(brane: &str, rules: &[Rule]) -> Result<VecDeque<Request>, Error> {
    let stage = |first: bool, rules: &[Rule]| Request::Filter {
        brane: brane.into(),
        edit: Edit::Stage {
            first,
            rules: rules.to_vec(),
        },
    };
    let mut out = VecDeque::new();
    let mut left = rules;
    while !left.is_empty() || out.is_empty() {
        let first = out.is_empty();
        let fits = |count: &usize| length(&stage(first, &left[..*count])) <= MAX_REQUEST;
        let count = (1..=left.len()).take_while(fits).last();
        let Some(count) = count.or(left.is_empty().then_some(0)) else {
            let number = rules.len() - left.len() + 1;
            return Err(Error::new(
                format!("rule {number} is too long for a request"),
                "drop ports, or shorten its program",
            ));
        };
        out.push_back(stage(first, &left[..count]));
        left = &left[count..];
    }
    out.push_back(Request::Filter {
        brane: brane.into(),
        edit: Edit::Replace,
    });
    Ok(out)
}

/// Returns the rules as text, with `;` between them.
pub fn joined(rules: &[Rule]) -> String {
    let texts: Vec<String> = rules.iter().map(branes_pfil::print).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{self, Context};
    use crate::table::Program;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let parsed = parse::line(line, &Context::of(Program::Branectl));
        parsed.map(|p| p.unwrap().command).map_err(|e| e.to_string())
    }

    fn of(text: &str) -> Rule {
        branes_pfil::parse(text).unwrap()
    }

    fn replaced(line: &str) -> Vec<String> {
        match parsed(line) {
            Ok(Command::FilterReplace { rules, .. }) => rules.iter().map(branes_pfil::print).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn words_become_changes() {
        let edit = |edit| {
            Ok(Command::Send(Request::Filter {
                brane: "red".into(),
                edit,
            }))
        };
        let list = Ok(Command::FilterList("red".into()));
        assert_eq!(parsed("filter red"), list);
        assert_eq!(parsed("filter red list"), list);
        assert_eq!(parsed("in red filter"), list);
        assert_eq!(parsed("in red filter list"), list);
        let rule = of("drop in proto tcp to any port 80");
        for (line, at) in [
            ("filter red add drop in proto tcp to port 80", None),
            ("filter red add 'drop in proto tcp to port 80'", None),
            ("in red filter add at 7 drop in proto tcp to port 80", Some(7)),
        ] {
            let rule = rule.clone();
            assert_eq!(parsed(line), edit(Edit::Add { at, rule }), "{line}");
        }
        assert_eq!(parsed("filter red delete 7"), edit(Edit::Delete(7)));
        assert_eq!(parsed("filter red flush"), edit(Edit::Flush));
    }

    #[test]
    fn rules_of_a_replacement_are_separated_by_semicolons() {
        let bpf = "drop bpf \"48 0 0 9; 21 0 1 6; 6 0 0 1; 6 0 0 0\"";
        assert_eq!(replaced("filter red replace drop"), ["drop"]);
        assert_eq!(replaced("filter red replace pass in; drop;"), ["pass in", "drop"]);
        assert_eq!(replaced("filter red replace 'pass in;drop'"), ["pass in", "drop"]);
        assert_eq!(
            replaced("filter red replace pass ;; drop in"),
            ["pass", "drop in"]
        );
        for line in [
            format!("filter red replace pass; {bpf}; reject out"),
            format!("filter red replace 'pass; {bpf}; reject out'"),
        ] {
            assert_eq!(replaced(&line), ["pass", bpf, "reject out"], "{line}");
        }
        for (line, file) in [
            ("filter red replace rules.txt", "rules.txt"),
            ("filter red replace -", "-"),
            ("filter red replace ./drop", "./drop"),
            ("in red filter replace dropped", "dropped"),
        ] {
            let (brane, file) = ("red".into(), file.into());
            assert_eq!(parsed(line), Ok(Command::FilterFile { brane, file }), "{line}");
        }
    }

    #[test]
    fn faults_have_a_mark_below_their_column() {
        let fault = |text: &str| branes_pfil::parse(text).unwrap_err();
        let text = "drop in proto tpc to port 80";
        let problem = fault(text).problem;
        assert_eq!(
            parsed(&format!("filter red add {text}")),
            Err(format!(
                "column 15: {problem}\n  drop in proto tpc to port 80\n                ^"
            ))
        );
        assert_eq!(
            parsed(&format!("filter red replace pass; {text}; drop")),
            Err(format!(
                "rule 2, column 15: {problem}\n  drop in proto tpc to port 80\n                ^"
            ))
        );
        let missing = fault("drop on").problem;
        assert_eq!(
            parsed("filter red add drop on"),
            Err(format!("column 8: {missing}\n  drop on\n         ^"))
        );
    }

    #[test]
    fn mistakes_of_the_line_have_a_fix() {
        for (line, error) in [
            (
                "filter",
                "missing BRANE: usage: filter BRANE [ACTION] [WORD...] [-j]",
            ),
            (
                "filter red show",
                "\"show\" is none of list, add, delete, flush, replace: use one of them",
            ),
            (
                "filter red list all",
                "\"all\" is one word too many: usage: filter BRANE list",
            ),
            (
                "filter red flush all",
                "\"all\" is one word too many: usage: filter BRANE flush",
            ),
            (
                "filter red add",
                "missing RULE: usage: filter BRANE add [at NUMBER] RULE...",
            ),
            (
                "filter red add at 2",
                "missing RULE: usage: filter BRANE add [at NUMBER] RULE...",
            ),
            (
                "filter red add at 0 drop",
                "\"0\" is not a number from 1 to 64: write it in decimal digits",
            ),
            (
                "filter red delete",
                "missing NUMBER: usage: filter BRANE delete NUMBER",
            ),
            (
                "in red filter delete",
                "missing NUMBER: usage: filter delete NUMBER",
            ),
            (
                "filter red delete 65",
                "\"65\" is not a number from 1 to 64: write it in decimal digits",
            ),
            (
                "filter red delete 1 2",
                "\"2\" is one word too many: usage: filter BRANE delete NUMBER",
            ),
            (
                "filter red replace",
                "no rules are given: write rules with ; between them, or name a file; flush deletes all rules",
            ),
            (
                "filter red replace ';'",
                "no rules are given: write rules with ; between them, or name a file; flush deletes all rules",
            ),
        ] {
            assert_eq!(parsed(line), Err(error.into()), "{line}");
        }
    }

    #[test]
    fn a_file_has_a_rule_in_each_line() {
        let text = "# the web server\n\n  pass in proto tcp to port 80 # http\ndrop in\n#\n";
        let rules = file("web.rules", text).unwrap();
        assert_eq!(joined(&rules), "pass in proto tcp to any port 80; drop in");
        for (text, what) in [
            (
                "pass\n\ndorp in\n\tpass  ni # x\n",
                "r:3:1: \n  dorp in\n  ^\nr:4:8: \n   pass  ni\n         ^",
            ),
            ("# nothing\n", "r has no rules"),
            ("", "r has no rules"),
        ] {
            let error = file("r", text).unwrap_err();
            assert_eq!(error.code, BAD_FILE);
            // Without the problems themselves, which branes-pfil words.
            let lines = error.what.lines().map(|line| match line.split_once(": ") {
                Some((place, _)) => format!("{place}: "),
                None => line.to_string(),
            });
            assert_eq!(lines.collect::<Vec<_>>().join("\n"), what);
        }
    }

    #[test]
    fn too_many_or_too_long_rules_are_refused_before_anything_is_sent() {
        let many = "drop\n".repeat(MAX_RULES);
        assert_eq!(file("r", &many).unwrap().len(), MAX_RULES);
        let error = file("r", &format!("{many}drop\n")).unwrap_err();
        assert_eq!(error.code, "too-many-rules");
        let ports = "port 1000-2000,2001-3000,3001-4000,4001-5000,5001-6000,6001-7000,7001-8000,8001-9000";
        let long = format!("drop proto tcp from fec0::1/128 {ports} to fec0::2/128 {ports}\n");
        let error = file("r", &long.repeat(MAX_RULES)).unwrap_err();
        assert_eq!(error.code, "filter-too-long");
    }

    #[test]
    fn a_rule_that_no_request_can_hold_is_named() {
        let program = "69 0 0 4294967295; ".repeat(63) + "6 0 0 4294967295";
        let mut long = of(&format!("drop bpf \"{program}\""));
        let short = of("pass");
        assert!(requests("red", &[short.clone(), long.clone()]).is_ok());
        let ports = "1001,1002,1003,1004,1005,1006,1007,1008";
        let with_ports = of(&format!("drop from fec0::1 port {ports} to fec0::2 port {ports}"));
        (long.from, long.to) = (with_ports.from, with_ports.to);
        assert_eq!(branes_pfil::check(&long), Ok(()));
        assert_eq!(
            requests("red", &[short, long]).unwrap_err().to_string(),
            "rule 2 is too long for a request: drop ports, or shorten its program"
        );
    }

    /// Generates rules of very different length.
    fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
        let text = prop_oneof![
            Just("drop".to_string()),
            (1u16..9).prop_map(|n| {
                let ports: Vec<String> = (0..n).map(|i| format!("{}-{}", 1000 * i, 1000 * i + n)).collect();
                format!("reject out proto udp to fec0::/64 port {}", ports.join(","))
            }),
            (1usize..40).prop_map(|n| format!("pass bpf \"{}6 0 0 1\"", "48 0 0 9; ".repeat(n))),
        ];
        proptest::collection::vec(text.prop_map(|text| of(&text)), 0..=MAX_RULES)
    }

    proptest! {
        #[test]
        fn requests_hold_all_rules_in_order_and_are_short(rules in some_rules()) {
            let mut collected = Vec::new();
            let requests = requests("red", &rules).unwrap();
            for (n, request) in requests.iter().enumerate() {
                prop_assert!(length(request) <= MAX_REQUEST);
                let Request::Filter { brane, edit } = request else { panic!() };
                prop_assert_eq!(brane, "red");
                match edit {
                    Edit::Stage { first, rules } => {
                        prop_assert_eq!(*first, n == 0);
                        prop_assert!(n == 0 || !rules.is_empty());
                        collected.extend(rules.clone());
                    }
                    Edit::Replace => prop_assert_eq!(n, requests.len() - 1),
                    other => panic!("{other:?}"),
                }
            }
            prop_assert!(requests.len() >= 2);
            prop_assert_eq!(&collected, &rules);
            if length(&rules) <= MAX_FILTER {
                prop_assert_eq!(super::rules(&joined(&rules)), Ok(rules));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = rules(&text);
            let _ = file("r", &text);
        }
    }
}
