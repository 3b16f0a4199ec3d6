//! The commands `apply` and `save`: files, and the dialog with the person at the terminal.

use crate::operator::{Failure, Operator};
use crate::{REFUSED, USAGE, apply, print, print_error};
use brane_abi::filter::Rule;
use brane_abi::layout::MAX_NICS;
use branes_bootconfig::Size;
use operator_cli::error::{self, Error};
use operator_cli::parse::fits;
use operator_cli::{filter, json, unparse};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

/// More branes and NICs than any system has. The manager rejects numbers beyond its own system.
const SIZE: Size = Size {
    instances: 1000,
    nics: MAX_NICS,
    ports_per_nic: None,
};

/// Consent to changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Nothing is changed.
    DryRun,
    /// Changes are made.
    Given,
    /// The person at the terminal is asked.
    Ask,
}

fn failed(failure: &Failure, as_json: bool) -> u8 {
    let error = match failure {
        Failure::Refused(refusal) => Error::from(refusal.clone()),
        Failure::Line(why) => Error::coded(error::NO_SYSTEM, why.as_str(), ""),
    };
    print_refusal(&error, as_json)
}

fn print_refusal(error: &Error, as_json: bool) -> u8 {
    if as_json {
        print(&format!("{}\n", json::error(error)));
    }
    eprintln!("{error}");
    REFUSED
}

fn saved(file: &str, bytes: usize) -> Value {
    json!({"file": file, "bytes": bytes})
}

fn done(commands: &[String], applied: usize) -> Value {
    json!({"commands": commands, "applied": applied})
}

/// Runs `save [FILE]`.
pub fn save(file: Option<&str>, as_json: bool, system: &mut dyn Operator) -> u8 {
    let config = match apply::running(system) {
        Ok(config) => config,
        Err(failure) => return failed(&failure, as_json),
    };
    let text = branes_bootconfig::to_toml(&config);
    let Some(file) = file else {
        return print(&text);
    };
    if let Err(e) = std::fs::write(file, &text) {
        return print_refusal(
            &Error::coded(
                error::BAD_FILE,
                format!("{file}: {e}"),
                "name a file that can be written",
            ),
            as_json,
        );
    }
    if as_json {
        print(&format!("{}\n", saved(file, text.len())));
    }
    0
}

/// Runs `apply FILE`.
pub fn apply(file: &str, consent: Consent, as_json: bool, system: &mut dyn Operator) -> u8 {
    let wanted = match branes_bootconfig::load(Path::new(file), SIZE) {
        Ok(wanted) => wanted,
        Err(e) => {
            eprintln!("{e}");
            return USAGE;
        }
    };
    if consent == Consent::Ask && (as_json || !std::io::stdin().is_terminal()) {
        return print_error(&Error::new(
            "there is no terminal to ask whether to apply the file",
            "say --yes, or --dry-run to see the difference",
        ));
    }
    let now = match apply::running(system) {
        Ok(now) => now,
        Err(failure) => return failed(&failure, as_json),
    };
    let plan = match apply::plan(&now, &wanted) {
        Ok(plan) => plan,
        Err(e) => return print_refusal(&e, as_json),
    };
    if let Some(e) = plan.iter().find_map(|r| fits(r).err()) {
        return print_refusal(&e, as_json);
    }
    let steps = unparse::steps(&plan);
    let lines: Vec<String> = steps.iter().map(|step| step.line.clone()).collect();
    if !as_json {
        let all: String = lines.iter().map(|l| format!("{l}\n")).collect();
        print(if all.is_empty() {
            "nothing to change\n"
        } else {
            &all
        });
    }
    let mut applied = 0;
    let mut status = 0;
    if consent == Consent::Given || consent == Consent::Ask && !plan.is_empty() && agreed() {
        for step in &steps {
            let mut requests = step.requests.iter();
            if let Err(failure) = requests.try_for_each(|request| system.call(request).map(drop)) {
                eprintln!("stopped at: {}", step.line);
                status = failed(&failure, false);
                break;
            }
            applied += 1;
        }
    }
    if as_json {
        print(&format!("{}\n", done(&lines, applied)));
    }
    status
}

/// Reads the rules of a filter from a file, or from standard input if the name is `-`.
pub fn rules(file: &str) -> Result<Vec<Rule>, Error> {
    let (name, text) = match file {
        "-" => ("standard input", std::io::read_to_string(std::io::stdin())),
        file => (file, std::fs::read_to_string(file)),
    };
    let text = text.map_err(|e| {
        Error::coded(
            error::BAD_FILE,
            format!("{name}: {e}"),
            "name a file with a rule in each line",
        )
    })?;
    filter::file(name, &text)
}

/// Asks the person at the terminal.
fn agreed() -> bool {
    eprint!("apply? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok() && matches!(line.trim(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use boon::{Compiler, Schemas};
    use operator_cli::schema::schema;

    #[test]
    fn answers_are_as_their_schemas_say() {
        let commands = ["branectl start red".to_string()];
        for (name, answer) in [("save", saved("x.toml", 12)), ("apply", done(&commands, 1))] {
            let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
            let url = format!("file:///{name}.json");
            let text: Value = serde_json::from_str(schema(name).unwrap()).unwrap();
            compiler.add_resource(&url, text).unwrap();
            let index = compiler.compile(&url, &mut schemas).unwrap();
            schemas
                .validate(&answer, index)
                .unwrap_or_else(|e| panic!("{name}: {e:#}"));
            assert!(schemas.validate(&json!({"x": 1}), index).is_err());
        }
    }
}
