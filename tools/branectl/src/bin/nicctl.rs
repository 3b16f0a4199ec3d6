//! Commands from the host to a running system: devices.

use operator_cli::table::Program;

fn main() -> std::process::ExitCode {
    branes_branectl::main(Program::Nicctl)
}
