//! `cargo xtask`: the command for all work on this project. Builds the kernel, the protection domains and the
//! image, boots the image, tests and checks everything.
//!
//! Owns: the verbs and the order of their steps. Each step's work is in a crate of its own (`tools/kernel`,
//! `tools/system`, `tools/bootconfig`, `tools/image`, `tools/audit`, `tools/qemu`, `tools/bench`). On the other
//! side: the person at the keyboard, and cargo. Every failure ends as one message that names the cure, and a
//! non-zero exit code.

mod audit;
mod bench;
mod check;
mod cli;
mod fuzz;
mod gdb;
mod image;
mod kernel;
mod mutants;
mod network;
mod output;
mod programs;
mod release;
mod run;
mod runner;
mod sizes;
mod test;
mod words;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Verb};
use workspace::Workspace;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // A request for help is not a failure.
        Err(text) if !text.use_stderr() => text.exit(),
        Err(error) => {
            eprintln!("{}", cli::one_line(&error));
            return ExitCode::from(2);
        }
    };
    let done = Workspace::find().and_then(|workspace| match cli.verb {
        Verb::Run(options) => run::run(&workspace, &options),
        Verb::Gdb(options) => gdb::gdb(&workspace, &options),
        Verb::Test(options) => test::test(&workspace, &options),
        Verb::Check => check::check(&workspace),
        Verb::Doc => check::doc(&workspace),
        Verb::Image(options) => image::write(&workspace, &options),
        Verb::Release(options) => release::release(&workspace, &options),
        Verb::Audit(options) => audit::audit(&workspace, &options),
        Verb::Mutants(options) => mutants::mutants(&workspace, &options),
        Verb::Sizes(options) => sizes::sizes(&workspace, &options),
        Verb::Bench(options) => bench::bench(&workspace, &options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the name of the current step to standard error. Standard output belongs to results.
fn progress(what: &str) {
    eprintln!("==> {what}");
}
