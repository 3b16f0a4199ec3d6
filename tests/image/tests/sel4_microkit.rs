//! The runtime runs programs that are written for the upstream crate `sel4-microkit`
//! (`tests/pds/src/upstream`). They have no log, so their output goes to the kernel's debug console.

use anyhow::{Result, ensure};
use image_tests::PATIENCE;
use image_tests::guest::{Boot, Guest};

/// Lines of the programs. The lines of one program have their order.
const LINES: [&str; 11] = [
    "hello: Hello, World!",
    "server: 4096 bytes from Channel { index: 9 }, stack and heap",
    "client: 12 bytes reversed, 0",
    "client: 1 bytes reversed, 0",
    "client: notified by {5}",
    "parent: fault 1 of Child { index: 3 } at 0x12345000",
    "parent: fault 2 of Child { index: 3 } at 0x12345000",
    "child: panicked at ",
    "panicker gives up after Ok(8)",
    "parent: exception 6 of Child { index: 4 }",
    "[manager] ",
];

#[test]
fn programs_for_the_upstream_crate_run_and_print_on_the_debug_console() -> Result<()> {
    let mut guest = Guest::boot(Boot {
        config: "upstream-api",
        ..Boot::default()
    })?;
    for line in LINES {
        guest.wait_for(line, PATIENCE)?;
    }
    let log = guest.log();
    ensure!(
        !log.contains("fault 3 of"),
        "the child was resumed a second time:\n{log}"
    );
    ensure!(!log.contains("monitor:"), "a program failed:\n{log}");
    // The debug console and the driver of that serial line continue beside each other.
    let list = guest.command("list")?;
    ensure!(list.contains("main"), "{list}");
    Ok(())
}
