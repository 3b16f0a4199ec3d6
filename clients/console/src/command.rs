//! What can be typed.

use alloc::format;
use alloc::string::String;
use brane_abi::console;

/// The commands: name, argument, what it does. `help` prints this list.
pub const COMMANDS: [(&str, &str, &str); 6] = [
    ("help", "", "this list"),
    ("list", "", "all branes: state, restarts, interfaces, addresses"),
    (
        "show",
        "NAME",
        "one brane in full: interfaces, addresses, counters",
    ),
    ("stats", "", "all counters that are not 0"),
    ("crash", "NAME", "make a brane fault; the manager restarts it"),
    (
        "hang",
        "NAME",
        "make a brane run without answering; the manager notices and restarts it",
    ),
];

/// Longest name that is passed on, in bytes; all real ones are shorter.
pub const MAX_NAME: usize = 48;

/// A command as understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answered by the console itself.
    Help,
    /// See [`console::LIST`].
    List,
    /// See [`console::SHOW`].
    Show(String),
    /// See [`console::STATS`].
    Stats,
    /// See [`console::CRASH`].
    Crash(String),
    /// See [`console::HANG`].
    Hang(String),
}

impl Command {
    /// From a line's words; the error says what to type instead.
    pub fn parse<'a>(name: &str, arguments: impl IntoIterator<Item = &'a str>) -> Result<Command, String> {
        let Some((name, takes, _)) = COMMANDS.iter().find(|(n, ..)| *n == name) else {
            return Err(format!("unknown command \"{name}\": type `help` for the list"));
        };
        let mut arguments = arguments.into_iter();
        let usage = || match *takes {
            "" => format!("usage: {name} (it takes no argument)"),
            what => format!("usage: {name} {what} (`list` shows the names)"),
        };
        let argument = arguments.next();
        if arguments.next().is_some() || argument.is_some() == takes.is_empty() {
            return Err(usage());
        }
        let argument = String::from(argument.unwrap_or_default());
        if argument.len() > MAX_NAME {
            return Err(format!(
                "no name is longer than 31 characters, this one has {}",
                argument.len()
            ));
        }
        Ok(match *name {
            "list" => Command::List,
            "show" => Command::Show(argument),
            "stats" => Command::Stats,
            "crash" => Command::Crash(argument),
            "hang" => Command::Hang(argument),
            _ => Command::Help,
        })
    }

    /// The manager's label for it and its argument; `None` for what the console answers itself.
    pub fn call(&self) -> Option<(u64, &str)> {
        match self {
            Command::Help => None,
            Command::List => Some((console::LIST, "")),
            Command::Show(name) => Some((console::SHOW, name)),
            Command::Stats => Some((console::STATS, "")),
            Command::Crash(name) => Some((console::CRASH, name)),
            Command::Hang(name) => Some((console::HANG, name)),
        }
    }

    /// Whether its answer shows what branes say of themselves, so that they should be asked first.
    pub fn wants_refresh(&self) -> bool {
        matches!(self, Command::List | Command::Show(_) | Command::Stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_list_is_understood() {
        for (name, takes, _) in COMMANDS {
            let argument = (!takes.is_empty()).then_some("red");
            let command = Command::parse(name, argument).unwrap();
            assert_eq!(command == Command::Help, name == "help");
            let other = if takes.is_empty() { Some("red") } else { None };
            let error = Command::parse(name, other).unwrap_err();
            assert!(error.starts_with(&format!("usage: {name}")), "{error}");
        }
        assert_eq!(Command::parse("show", ["red"]), Ok(Command::Show("red".into())));
    }

    #[test]
    fn errors_say_what_to_type() {
        let error =
            |name, arguments: &[&'static str]| Command::parse(name, arguments.iter().copied()).unwrap_err();
        assert_eq!(
            error("lst", &[]),
            "unknown command \"lst\": type `help` for the list"
        );
        assert_eq!(error("crash", &[]), "usage: crash NAME (`list` shows the names)");
        assert_eq!(error("hang", &[]), "usage: hang NAME (`list` shows the names)");
        assert_eq!(
            error("crash", &["red", "blue"]),
            "usage: crash NAME (`list` shows the names)"
        );
        assert_eq!(error("list", &["red"]), "usage: list (it takes no argument)");
        assert!(Command::parse("show", ["x".repeat(99).as_str()]).is_err());
    }
}
