//! `branectl` and `nicctl`: commands from the host to a running system, over its control line.
//!
//! The crate `operator-cli` has the grammar, the sequences of requests and the answers' text, as for the
//! console. This crate has the parts that need a host: the line, files, completions for shells, man pages. Exit
//! status: 0 done, 1 refused or found bad, 2 not understood. Answers go to standard output, errors to standard
//! error.

pub mod apply;
pub mod capture;
pub mod cli;
mod files;
pub mod operator;
pub mod remote;
pub mod shell;

use brane_abi::operator::{Answer, Request};
use operator::{Failure, Operator, System};
use operator_cli::command::Command;
use operator_cli::error::Error;
use operator_cli::parse::{self, Context, Parsed};
use operator_cli::session::{End, Output, Session, Step};
use operator_cli::table::Program;
use operator_cli::{complete, help};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Path of the control line that `cargo xtask run` creates.
pub const DEFAULT_SOCKET: &str = "target/run/default/branectl.sock";

const REFUSED: u8 = 1;
const USAGE: u8 = 2;

/// Runs the whole program, from its arguments to its exit status.
pub fn main(program: Program) -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let status = run(program, &words);
    ExitCode::from(status)
}

/// Removes `--socket PATH` from the words, at any place before `--`. Returns the path and the other words.
fn socket(words: &[String]) -> Result<(PathBuf, Vec<&str>), Error> {
    let mut path = std::env::var_os("BRANES_CONTROL").map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from);
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word.as_str());
            rest.extend(words.by_ref().map(String::as_str));
        } else if word == "--socket" {
            let value = words.next();
            path = value
                .ok_or_else(|| Error::new("missing PATH after --socket", "name the socket"))?
                .into();
        } else if let Some(value) = word.strip_prefix("--socket=") {
            path = value.into();
        } else {
            rest.push(word.as_str());
        }
    }
    Ok((path, rest))
}

fn run(program: Program, words: &[String]) -> u8 {
    let (path, words) = match socket(words) {
        Ok(found) => found,
        Err(e) => return print_error(&e),
    };
    let mut system = System::new(&path);
    match words[..] {
        ["completions", shell] => {
            return match shell::script(program, shell) {
                Some(script) => print(&script),
                None => print_error(&Error::new(
                    format!("no completions for \"{shell}\""),
                    "there are bash, zsh and fish",
                )),
            };
        }
        ["completions", ..] => {
            return print_error(&Error::new("missing SHELL", "usage: completions bash|zsh|fish"));
        }
        ["man"] => {
            let mut page = Vec::new();
            let rendered = man(program, &mut page);
            return match rendered {
                Ok(()) => print(&String::from_utf8_lossy(&page)),
                Err(e) => print_error(&Error::new("no man page", e.to_string())),
            };
        }
        ["names", ref line @ ..] => {
            // For scripts of shells: prints nothing if the system does not answer.
            let line = line.join(" ");
            return match system.call(&Request::Names) {
                Ok(Answer::Names(names)) => {
                    let found = complete::line(&line, &Context::of(program), &names);
                    print(
                        &found
                            .candidates
                            .iter()
                            .map(|c| format!("{c}\n"))
                            .collect::<String>(),
                    )
                }
                _ => REFUSED,
            };
        }
        [] => return print(&host_help(program)),
        ["-V" | "--version"] => return print(&version(program)),
        _ => {}
    }
    match parse::words_of(&words, &Context::of(program)) {
        Ok(Parsed {
            command: Command::HelpOf(of, None),
            ..
        }) if of == program => print(&host_help(program)),
        Ok(Parsed {
            command: Command::Enter(brane),
            ..
        }) => print_error(&Error::new(
            "enter is for the console",
            format!("write in {brane} COMMAND"),
        )),
        Ok(Parsed {
            command: Command::Save { file },
            json,
        }) => files::save(file.as_deref(), json, &mut system),
        Ok(Parsed {
            command: Command::Apply { file, dry_run, yes },
            json,
        }) => {
            let consent = match (dry_run, yes) {
                (true, _) => files::Consent::DryRun,
                (_, true) => files::Consent::Given,
                _ => files::Consent::Ask,
            };
            files::apply(&file, consent, json, &mut system)
        }
        Ok(Parsed {
            command: Command::Capture(options),
            json,
        }) => capture::run(&options, json, &mut system),
        Ok(Parsed {
            command: Command::FilterFile { brane, file },
            json,
        }) => match files::rules(&file) {
            Ok(rules) => {
                let command = Command::FilterReplace { brane, rules };
                carry_out(Parsed { command, json }, &mut system, &mut std::io::stdout())
            }
            Err(e) => print_error(&e),
        },
        Ok(parsed) => carry_out(parsed, &mut system, &mut std::io::stdout()),
        Err(e) => print_error(&e),
    }
}

/// Returns the verbs, and the commands that only the host's program has.
fn host_help(program: Program) -> String {
    let name = program.prefix();
    format!(
        "usage: {name} [--socket PATH] VERB...\n\n{}\n\
         --socket PATH is the system's control line: the environment variable BRANES_CONTROL, or\n\
         {DEFAULT_SOCKET}, where it is left out.\n\
         `{name} completions bash|zsh|fish` and `{name} man` print completions and the man page.\n",
        help::list(program)
    )
}

fn version(program: Program) -> String {
    format!(
        "{} {} (control line version {})\n",
        program.prefix(),
        env!("CARGO_PKG_VERSION"),
        brane_abi::remote::VERSION
    )
}

fn print_error(e: &Error) -> u8 {
    eprintln!("{e}");
    USAGE
}

/// Writes to standard output. A closed pipe is no error.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    0
}

/// Writes the man page of a program.
pub fn man(program: Program, out: &mut dyn Write) -> std::io::Result<()> {
    let mut out = out;
    let command = cli::command(program);
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    // One section for each verb, because all verbs are on one page.
    for v in program.verbs() {
        let text = help::verb(program, v).replace('\\', "\\\\").replace('-', "\\-");
        writeln!(out, ".SH {}\n.nf", v.name.to_uppercase())?;
        for line in text.lines() {
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            writeln!(out, "{guard}{line}")?;
        }
        writeln!(out, ".fi")?;
    }
    Ok(())
}

/// Executes a command. Returns the exit status.
pub fn carry_out(parsed: Parsed, system: &mut dyn Operator, out: &mut dyn Write) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    if matches!(parsed.command, Command::Ping(_)) {
        // During `ping`, Ctrl-C prints the results so far. It ends all other commands.
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone());
    }
    let mut job = Session::new(parsed);
    let mut output = Output::default();
    let mut step = job.step(None, &mut output);
    loop {
        if !matches!(step, Step::Done(_)) && stop.swap(false, Ordering::Relaxed) {
            step = job.cancel(&mut output);
        }
        eprint!("{}", std::mem::take(&mut output.error));
        let text = std::mem::take(&mut output.text);
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            // Standard output was closed by its reader, as behind `| head`.
            return 0;
        }
        step = match step.clone() {
            Step::Done(End::Success) => return 0,
            Step::Done(End::Failure) => return REFUSED,
            Step::Pause(ms) => {
                let end = Instant::now() + Duration::from_millis(ms.into());
                loop {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(left.min(Duration::from_millis(50)));
                }
                if stop.load(Ordering::Relaxed) {
                    continue;
                }
                job.step(None, &mut output)
            }
            Step::Send(request) => match system.call(&request) {
                Ok(answer) => job.step(Some(Ok(answer)), &mut output),
                Err(Failure::Refused(refusal)) => job.step(Some(Err(refusal)), &mut output),
                Err(Failure::Line(why)) => {
                    eprintln!("{why}");
                    return REFUSED;
                }
            },
        };
    }
}
