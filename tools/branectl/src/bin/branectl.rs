//! The program `branectl`: commands for branes, from the host to a running system.

use operator_cli::table::Program;

fn main() -> std::process::ExitCode {
    branes_branectl::main(Program::Branectl)
}
