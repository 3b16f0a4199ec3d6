//! Parses a line into a [`Command`]. The crate `shlex` splits words as a shell does, and the crate `getargs` separates options
//! from arguments. The [`table`](crate::table) defines which of them are valid.
//!
//! Owns no state. The person who types is not trusted, so the length of a line and the number of its words are bounded.

use crate::command::Command;
use crate::error::Error;
use crate::table::{Arity, Program, Verb};
use crate::value_parsers;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::operator::{MAX_REQUEST, Refusal, Request};
use getargs::{Arg, Options};

/// Longest line in bytes.
pub const MAX_LINE: usize = 512;
/// Most words of a line.
pub const MAX_WORDS: usize = 64;

/// Context in which a line is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Program of the verb if the line names none.
    pub program: Program,
    /// The entered brane, for [`Program::InBrane`].
    pub brane: Option<String>,
}

impl Context {
    /// Returns the context of a program, without a brane.
    pub const fn of(program: Program) -> Context {
        Context { program, brane: None }
    }
}

/// A parsed line.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The command.
    pub command: Command,
    /// True if the answer is shown as JSON.
    pub json: bool,
}

/// Arguments and options of a line, by name.
#[derive(Debug, Default)]
pub struct Matches {
    values: Vec<(&'static str, Vec<String>)>,
    brane: Option<String>,
    usage: String,
}

impl Matches {
    /// Returns all values of an argument or option.
    pub fn all(&self, key: &str) -> &[String] {
        let found = self.values.iter().find(|(k, _)| *k == key);
        found.map_or(&[], |(_, v)| v)
    }

    /// Returns true if the option is given.
    pub fn flag(&self, key: &str) -> bool {
        self.values.iter().any(|(k, _)| *k == key)
    }

    /// Returns the value of an option or of an optional argument.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.all(key).first().map(String::as_str)
    }

    /// Returns the value of an optional argument.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.value(key)
    }

    /// Returns the value of a required argument. Fails if it is missing.
    pub fn one(&self, key: &str) -> Result<&str, Error> {
        self.value(key)
            .ok_or_else(|| Error::new(format!("missing {key}"), format!("usage: {}", self.usage)))
    }

    /// Returns the value of an argument that is an existing name. Checks its length only.
    pub fn name(&self, key: &str) -> Result<String, Error> {
        value_parsers::name(self.one(key)?)
    }

    /// Returns the value of an option that is a number from `least` to `most`.
    pub fn number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, Error> {
        self.value(key)
            .map(|w| value_parsers::number(w, least, most))
            .transpose()
    }

    /// Returns the brane of a command inside a brane. Fails if there is none.
    pub fn brane(&self) -> Result<String, Error> {
        self.brane.clone().ok_or_else(|| {
            Error::new(
                "no brane is given",
                "write in BRANE COMMAND, or enter BRANE first",
            )
        })
    }

    /// Fails if both options are given, because they exclude each other.
    pub fn not_both(&self, a: &str, b: &str) -> Result<(), Error> {
        if self.flag(a) && self.flag(b) {
            return Err(Error::new(
                format!("--{a} and --{b} are given"),
                "drop one of them",
            ));
        }
        Ok(())
    }

    fn add(&mut self, key: &'static str, value: Option<&str>) {
        let value = value.map(String::from);
        match self.values.iter_mut().find(|(k, _)| *k == key) {
            Some((_, values)) => values.extend(value),
            None => self.values.push((key, value.into_iter().collect())),
        }
    }
}

/// Splits a line into words. A comment (`#`) ends the line.
pub fn words(line: &str) -> Result<Vec<String>, Error> {
    if line.len() > MAX_LINE {
        return Err(Error::new(
            format!("line of {} bytes", line.len()),
            format!("{MAX_LINE} are allowed"),
        ));
    }
    shlex::split(line).ok_or_else(|| {
        Error::new(
            "a quotation mark or backslash stands alone",
            "close it, or drop it",
        )
    })
}

/// Parses a line. Returns `None` if it has no words.
pub fn line(line: &str, context: &Context) -> Result<Option<Parsed>, Error> {
    let words = words(line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.is_empty() {
        return Ok(None);
    }
    self::words_of(&words, context).map(Some)
}

/// Start of a line: the program and brane of its verb, and the number of words before the verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub program: Program,
    pub brane: Option<String>,
    pub skip: usize,
    /// True if `-j` stands before the verb. `help` is the flag for `--help` there.
    pub json: bool,
    pub help: bool,
}

/// Reads `branectl`, `nicctl` and `in BRANE` at the start of a line, and the common options among them.
pub(crate) fn start(words: &[&str], context: &Context) -> Start {
    let mut start = Start {
        program: context.program,
        brane: context.brane.clone(),
        skip: 0,
        json: false,
        help: false,
    };
    start.options(words);
    if let Some(program) = [Program::Branectl, Program::Nicctl]
        .into_iter()
        .find(|p| words.get(start.skip) == Some(&p.prefix()))
    {
        start.program = program;
        start.skip += 1;
        start.options(words);
    }
    if start.program == Program::Branectl
        && let ["in", brane, ..] = words[start.skip..]
        && !is_help(brane)
    {
        start.program = Program::InBrane;
        start.brane = Some(brane.into());
        start.skip += 2;
        start.options(words);
    }
    start
}

impl Start {
    fn options(&mut self, words: &[&str]) {
        while let Some(word) = words.get(self.skip) {
            match *word {
                "-j" | "--json" => self.json = true,
                word if is_help(word) => self.help = true,
                _ => return,
            }
            self.skip += 1;
        }
    }
}

fn is_help(word: &str) -> bool {
    matches!(word, "-h" | "--help")
}

/// Parses the words of a line.
pub fn words_of(words: &[&str], context: &Context) -> Result<Parsed, Error> {
    if words.len() > MAX_WORDS {
        return Err(Error::new(
            format!("line of {} words", words.len()),
            format!("{MAX_WORDS} are allowed"),
        ));
    }
    check_scope(words, context)?;
    let start = start(words, context);
    let rest = &words[start.skip..];
    if let Some(brane) = &start.brane {
        value_parsers::name(brane)?;
    }
    let plain = |command| Ok(Parsed { command, json: false });
    let Some((&name, arguments)) = rest.split_first() else {
        if start.help {
            return plain(Command::HelpOf(start.program, None));
        }
        return Err(match words.last() {
            Some(_) if start.program == Program::InBrane => {
                Error::new("missing COMMAND", "usage: in BRANE COMMAND...")
            }
            _ => Error::new("missing VERB", "`help` lists the verbs"),
        });
    };
    if start.help || (arguments.iter().take_while(|w| **w != "--")).any(|w| is_help(w)) {
        let verb = start.program.verb(name);
        if verb.is_none() && !matches!(name, "in" | "enter" | "help" | "exit") {
            return Err(unknown(start.program, name, context.brane.is_some()));
        }
        let program = match name {
            "in" | "enter" => Program::InBrane,
            _ => start.program,
        };
        return plain(Command::HelpOf(program, verb.map(|v| v.name)));
    }
    match (start.program, name, arguments) {
        (Program::Branectl, "in", _) => {
            return Err(Error::new("missing BRANE", "usage: in BRANE COMMAND..."));
        }
        (Program::Branectl, "enter", _) => return enter(arguments, start.json),
        (_, "exit", []) => return plain(Command::Exit),
        (Program::InBrane | Program::Nicctl, "help", []) => {
            let of = if start.program == Program::InBrane {
                "in"
            } else {
                "nicctl"
            };
            return plain(Command::Help(Some(of.into())));
        }
        (Program::InBrane | Program::Nicctl, "help", [verb]) => {
            return plain(Command::Help(Some(verb.to_string())));
        }
        _ => {}
    }
    let verb = start
        .program
        .verb(name)
        .ok_or_else(|| unknown(start.program, name, context.brane.is_some()))?;
    let (mut matches, json) = matched(verb, arguments)?;
    matches.brane = start.brane;
    let command = (verb.build)(&matches)?;
    bounded(&command)?;
    Ok(Parsed {
        command,
        json: json || start.json,
    })
}

/// Parses the arguments of `enter`.
fn enter(arguments: &[&str], mut json: bool) -> Result<Parsed, Error> {
    const USAGE: &str = "usage: enter BRANE";
    let mut branes = Vec::new();
    for word in arguments {
        match *word {
            "-j" | "--json" => json = true,
            option if option.starts_with('-') => {
                return Err(Error::new(
                    format!("no option {} of enter", shortened(option)),
                    USAGE,
                ));
            }
            brane => branes.push(brane),
        }
    }
    match branes[..] {
        [] => Err(Error::new("missing BRANE", USAGE)),
        [brane] => Ok(Parsed {
            command: Command::Enter(value_parsers::name(brane)?),
            json,
        }),
        [_, extra, ..] => Err(Error::new(
            format!("\"{}\" is one word too many", shortened(extra)),
            USAGE,
        )),
    }
}

/// Refuses the programs that manage the whole system when the prompt is that of a brane.
fn check_scope(words: &[&str], context: &Context) -> Result<(), Error> {
    let Some(brane) = &context.brane else {
        return Ok(());
    };
    let is_program = |word: &&&str| matches!(**word, "branectl" | "nicctl");
    let first = words
        .iter()
        .find(|word| !matches!(**word, "-j" | "--json" | "-h" | "--help"));
    match first.filter(is_program) {
        Some(program) => Err(Error::coded(
            crate::error::WRONG_PROGRAM,
            format!("{program} manages the whole system, and this prompt only brane {brane}"),
            "write exit first; `help` lists the commands here",
        )),
        None => Ok(()),
    }
}

/// Returns the word of `among` with the fewest changed letters. Returns `None` if no word is near enough.
pub fn near<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(32).collect();
    let distance = |name: &&str| textdistance::str::levenshtein(&word, name);
    let best = among.min_by_key(distance)?;
    // Half of the letters may be wrong, because two exchanged letters count as two changes.
    (distance(&best) <= (best.len() / 2).max(1)).then_some(best)
}

fn unknown(program: Program, name: &str, in_brane: bool) -> Error {
    let here = program.verbs().map(|v| v.name);
    let extra: &[&str] = match program {
        Program::Branectl => &["in", "enter", "exit"],
        Program::Nicctl => &["help"],
        Program::InBrane => &["help", "exit"],
    };
    let what = format!("no verb \"{}\"", shortened(name));
    if let Some(near) = near(name, here.chain(extra.iter().copied())) {
        return Error::new(what, format!("did you mean {near}?"));
    }
    // After a typing error, a verb of another program is the most likely mistake.
    for other in Program::ALL.into_iter().filter(|p| *p != program) {
        if other.verb(name).is_some() {
            let fix = match other {
                Program::InBrane => format!("it is a command inside a brane: in BRANE {name}"),
                _ if in_brane => format!(
                    "it is a command of {}, outside of this brane: write exit first",
                    other.prefix()
                ),
                _ => format!("write {} {name}", other.prefix()),
            };
            return Error::new(what, fix);
        }
    }
    Error::new(what, "`help` lists the verbs")
}

/// Returns a word for a message, cut after 40 characters.
fn shortened(word: &str) -> String {
    match word.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &word[..at]),
        None => word.into(),
    }
}

fn matched(verb: &'static Verb, words: &[&str]) -> Result<(Matches, bool), Error> {
    let usage = verb.usage();
    let wrong = |what: String| Error::new(what, format!("usage: {usage}"));
    let mut matches = Matches {
        usage: usage.clone(),
        ..Matches::default()
    };
    let mut json = false;
    let mut arguments = verb.arguments.iter();
    let mut rest = None;
    let mut options = Options::new(words.iter().copied());
    loop {
        let found = match options.next_arg() {
            Ok(None) => break,
            Ok(Some(found)) => found,
            Err(e) => return Err(wrong(format!("{e}"))),
        };
        let option = match found {
            Arg::Positional(word) => {
                let argument = match rest {
                    Some(many) => many,
                    None => arguments
                        .next()
                        .ok_or_else(|| wrong(format!("\"{}\" is one word too many", shortened(word))))?,
                };
                if argument.arity == Arity::Many {
                    rest = Some(argument);
                }
                matches.add(argument.name, Some(word));
                continue;
            }
            Arg::Short(c) => (verb.all_options().find(|o| o.short == Some(c)), format!("-{c}")),
            Arg::Long(word) => (
                verb.all_options().find(|o| o.long == word),
                format!("--{}", shortened(word)),
            ),
        };
        let (Some(option), shown) = option else {
            let near = match found {
                Arg::Long(word) => near(word, verb.all_options().map(|o| o.long)),
                _ => None,
            };
            let what = format!("no option {} of {}", option.1, verb.name);
            return Err(match near {
                Some(near) => Error::new(what, format!("did you mean --{near}?")),
                None => wrong(what),
            });
        };
        let value = match option.value {
            None => None,
            Some((name, _)) => match options.value() {
                Ok(value) => Some(value),
                Err(_) => return Err(wrong(format!("missing {name} after {shown}"))),
            },
        };
        if !option.many && option.value.is_some() && matches.flag(option.long) {
            return Err(wrong(format!("--{} is given twice", option.long)));
        }
        json |= option.long == crate::table::JSON.long;
        matches.add(option.long, value);
    }
    for argument in arguments {
        if argument.arity == Arity::One {
            return Err(wrong(format!("missing {}", argument.name)));
        }
    }
    Ok((matches, json))
}

/// Fails if the command's request is longer than the manager accepts.
fn bounded(command: &Command) -> Result<(), Error> {
    match command {
        Command::Send(request) => fits(request),
        _ => Ok(()),
    }
}

/// Fails if a request is longer than [`MAX_REQUEST`].
pub fn fits(request: &Request) -> Result<(), Error> {
    let mut bytes = Vec::new();
    // Writing to a vector cannot fail, and every request can be encoded.
    let _ = minicbor::encode(request, &mut bytes);
    let length = bytes.len();
    if length > MAX_REQUEST {
        return Err(Refusal::RequestTooLong(length as u32).into());
    }
    Ok(())
}
