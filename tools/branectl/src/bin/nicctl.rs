//! Commands from the host to a running system: devices.

use brane_manager_api::table::Program;

fn main() -> std::process::ExitCode {
    branes_branectl::main(Program::Nicctl)
}
