//! The table of verbs as `clap` commands, only for completions and the man page.
//!
//! The grammar itself parses the command line, as on the console, so that both accept the same commands.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use operator_cli::help;
use operator_cli::table::{Arity, Opt, Program, Value, Verb};

/// Returns the command of one of the two programs.
pub fn command(program: Program) -> Command {
    let (name, about) = match program {
        Program::Nicctl => (
            "nicctl",
            "Make and remove the network devices of a running system",
        ),
        _ => ("branectl", "Command the branes of a running system"),
    };
    let socket = Arg::new("socket")
        .long("socket")
        .value_name("PATH")
        .value_hint(ValueHint::FilePath)
        .global(true)
        .help("the system's control line (default: BRANES_CONTROL, or the path that `cargo xtask run` uses)");
    let mut command = Command::new(name)
        .about(about)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg(socket)
        .subcommands(program.verbs().map(|v| verb(program, v)))
        .subcommand(
            Command::new("completions")
                .about("completions for a shell, on standard output")
                .arg(
                    Arg::new("SHELL")
                        .required(true)
                        .value_parser(["bash", "zsh", "fish"]),
                ),
        )
        .subcommand(Command::new("man").about("the man page, on standard output"));
    if program == Program::Branectl {
        let inside = Command::new("in")
            .about("a command inside a brane")
            .arg(Arg::new("BRANE").required(true).help("the brane's name"))
            .subcommand_required(true)
            .disable_help_subcommand(true)
            .subcommands(Program::InBrane.verbs().map(|v| verb(Program::InBrane, v)));
        let devices = Command::new("nicctl")
            .about("make and remove devices")
            .subcommand_required(true)
            .disable_help_subcommand(true)
            .subcommands(Program::Nicctl.verbs().map(|v| verb(Program::Nicctl, v)));
        command = command.subcommand(inside).subcommand(devices);
    }
    command
}

fn verb(program: Program, verb: &'static Verb) -> Command {
    let mut command = Command::new(verb.name)
        .about(verb.help)
        .long_about(format!("{}\n\n{}", verb.help, verb.long))
        .after_help(format!("Example:\n  {}", help::example(program, verb)));
    for a in verb.arguments {
        let arg = Arg::new(a.name).help(a.help).value_name(a.name);
        let arg = match a.arity {
            Arity::One => arg.required(true),
            Arity::Optional => arg,
            Arity::Many => arg.num_args(0..),
        };
        // The value behind a word of many differs, so the words are no limit there.
        let among = if a.arity == Arity::Many {
            Value::Text
        } else {
            a.value
        };
        command = command.arg(value(arg, among));
    }
    for o in verb.all_options() {
        command = command.arg(option(o));
    }
    command
}

fn option(o: &'static Opt) -> Arg {
    let mut arg = Arg::new(o.long).long(o.long).help(o.help);
    if let Some(c) = o.short {
        arg = arg.short(c);
    }
    match o.value {
        None => arg.action(ArgAction::SetTrue),
        Some((name, of)) => {
            let action = if o.many { ArgAction::Append } else { ArgAction::Set };
            value(arg.value_name(name).action(action), of)
        }
    }
}

fn value(arg: Arg, of: Value) -> Arg {
    match of {
        Value::Word(words) => arg.value_parser(PossibleValuesParser::new(words)),
        Value::File => arg.value_hint(ValueHint::FilePath),
        _ => arg.value_hint(ValueHint::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed_and_take_every_example() {
        for program in [Program::Branectl, Program::Nicctl] {
            command(program).debug_assert();
        }
        for program in Program::ALL {
            for verb in program.verbs() {
                let example = help::example(program, verb);
                let of = if program == Program::Nicctl {
                    Program::Nicctl
                } else {
                    Program::Branectl
                };
                let taken = command(of).try_get_matches_from(example.split(' '));
                assert!(taken.is_ok(), "{example}: {}", taken.unwrap_err());
            }
        }
    }
}
