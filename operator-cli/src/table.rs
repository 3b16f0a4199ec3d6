//! The table of verbs: the grammar as data. Parser, help, completion, the man pages and `docs/commands.md` are derived from it.
//! The table is constant.

mod branectl;
mod capture;
mod filter;
mod in_brane;
mod nicctl;
mod reach;

use crate::command::Command;
use crate::error::Error;
use crate::parse::Matches;
use alloc::string::String;

/// Program that has a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `branectl`, and the console without a word before it.
    Branectl,
    /// `nicctl`.
    Nicctl,
    /// Commands inside a brane: `in BRANE COMMAND`, or after `enter BRANE`.
    InBrane,
}

impl Program {
    /// All programs.
    pub const ALL: [Program; 3] = [Program::Branectl, Program::Nicctl, Program::InBrane];

    /// Returns the words before its verbs, at the console and in examples.
    pub const fn prefix(self) -> &'static str {
        match self {
            Program::Branectl => "branectl",
            Program::Nicctl => "nicctl",
            Program::InBrane => "branectl in BRANE",
        }
    }

    /// Returns its verbs in the order of `help`.
    pub fn verbs(self) -> impl Iterator<Item = &'static Verb> + Clone {
        let groups: &[&[Verb]] = match self {
            Program::Branectl => branectl::VERBS,
            Program::Nicctl => &[nicctl::VERBS],
            Program::InBrane => &[in_brane::VERBS, filter::IN_BRANE],
        };
        groups.iter().copied().flatten()
    }

    /// Returns a verb by its name, or by its name in the previous version.
    pub fn verb(self, name: &str) -> Option<&'static Verb> {
        let former = FORMER_NAMES.iter().find(|(former, _)| *former == name);
        let name = former.map_or(name, |(_, name)| name);
        self.verbs().find(|v| v.name == name)
    }
}

/// Former names of verbs, each with its present name. A former name works for one more version.
const FORMER_NAMES: [(&str, &str); 1] = [("hooks", "subscribers")];

/// Meaning of a word. It decides how the word is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// An existing brane.
    Brane,
    /// An existing device.
    Device,
    /// An existing `BRANE/INTERFACE`.
    Interface,
    /// A device, or `BRANE/INTERFACE`.
    DeviceOrInterface,
    /// A brane, or `BRANE/INTERFACE`.
    BraneOrInterface,
    /// A brane, a device or a NIC.
    AnyTarget,
    /// `all`, a brane, `BRANE/INTERFACE` or a device.
    CaptureTarget,
    /// A protection domain that has a log, or a brane.
    Domain,
    /// An interface of the command's brane.
    Local,
    /// A NIC.
    Nic,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a verb.
    Verb,
    /// A file of the host.
    File,
    /// Anything else: new names, addresses, numbers.
    Text,
}

/// Number of times that an argument may stand in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Once.
    One,
    /// Once or not at all.
    Optional,
    /// Any number of times, also zero.
    Many,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name in the usage line: `BRANE`.
    pub name: &'static str,
    /// Meaning of its words.
    pub value: Value,
    /// Number of times that it may stand in a line.
    pub arity: Arity,
    /// Its help text.
    pub help: &'static str,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its long name, without the dashes.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// Name and meaning of its value, if it has one.
    pub value: Option<(&'static str, Value)>,
    /// True if it may be given more than once.
    pub many: bool,
    /// Its help text.
    pub help: &'static str,
}

/// A verb.
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// Its arguments in order.
    pub arguments: &'static [Argument],
    /// Its options, without the common option `-j`.
    pub options: &'static [Opt],
    /// Its help text, in one line.
    pub help: &'static str,
    /// Its long help text, in paragraphs of one line each.
    pub long: &'static str,
    /// A line that is a useful example.
    pub example: &'static str,
    /// Names of the schemas of its answers with `-j`, as in `schemas/NAME.json`, separated by spaces. Empty if it has no answer
    /// of its own.
    pub schema: &'static str,
    /// Builds the command from a line's arguments and options.
    pub build: fn(&Matches) -> Result<Command, Error>,
}

/// The common option of all verbs.
pub const JSON: Opt = flag("json", Some('j'), "answer in JSON");

const fn flag(long: &'static str, short: Option<char>, help: &'static str) -> Opt {
    Opt {
        long,
        short,
        value: None,
        many: false,
        help,
    }
}

const fn option(
    long: &'static str,
    short: Option<char>,
    name: &'static str,
    value: Value,
    help: &'static str,
) -> Opt {
    Opt {
        long,
        short,
        value: Some((name, value)),
        many: false,
        help,
    }
}

const fn options(
    long: &'static str,
    short: Option<char>,
    name: &'static str,
    value: Value,
    help: &'static str,
) -> Opt {
    Opt {
        many: true,
        ..option(long, short, name, value, help)
    }
}

const fn one(name: &'static str, value: Value, help: &'static str) -> Argument {
    Argument {
        name,
        value,
        arity: Arity::One,
        help,
    }
}

const fn optional(name: &'static str, value: Value, help: &'static str) -> Argument {
    Argument {
        arity: Arity::Optional,
        ..one(name, value, help)
    }
}

const fn many(name: &'static str, value: Value, help: &'static str) -> Argument {
    Argument {
        arity: Arity::Many,
        ..one(name, value, help)
    }
}

impl Verb {
    /// Returns the names of the schemas of its answers.
    pub fn schemas(&self) -> impl Iterator<Item = &'static str> {
        self.schema.split_whitespace()
    }

    /// Returns all its options, `-j` last.
    pub fn all_options(&self) -> impl Iterator<Item = &Opt> {
        self.options.iter().chain(core::iter::once(&JSON))
    }

    /// Returns its usage line, such as `delete BRANE [--deadline TIME] [-j]`.
    pub fn usage(&self) -> String {
        let mut out = String::from(self.name);
        for a in self.arguments {
            out.push(' ');
            out += &match a.arity {
                Arity::One => String::from(a.name),
                Arity::Optional => alloc::format!("[{}]", a.name),
                Arity::Many => alloc::format!("[{}...]", a.name),
            };
        }
        for o in self.all_options() {
            out += " [";
            match o.short {
                Some(c) => out.extend(['-', c]),
                None => {
                    out += "--";
                    out += o.long;
                }
            }
            if let Some((name, _)) = o.value {
                out.push(' ');
                out += name;
            }
            out.push(']');
            if o.many {
                out += "...";
            }
        }
        out
    }
}
