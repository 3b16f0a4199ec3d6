//! Runs the harness with a real QEMU: the kernel's own first lines, and the error without a kernel.

use std::path::Path;
use std::time::Duration;

use branes_kernel::Flavour;
use branes_qemu::{Error, Machine};

fn debug_kernel() -> branes_kernel::Kernel {
    branes_kernel::build(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")),
        Flavour::Debug,
    )
    .unwrap()
}

/// Makes a file that is no program. The kernel reports that and stops.
fn no_program(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("loader.img");
    std::fs::write(&path, [0; 4096]).unwrap();
    path
}

#[test]
fn the_console_is_read_in_order_and_qemu_ends_with_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut qemu = Machine::new(debug_kernel().sel4_32, no_program(folder.path()))
        .start()
        .unwrap();
    let process = format!("/proc/{}", qemu.pid());
    qemu.wait_for("Boot config", Duration::from_secs(20)).unwrap();
    let between = qemu.wait_for("ELF", Duration::from_secs(20)).unwrap();
    assert!(between.contains("Physical Memory Region"), "{between}");
    match qemu.wait_for("Boot config: parsing", Duration::from_millis(200)) {
        Err(Error::Silent { tail, .. }) => assert!(tail.contains("ELF"), "{tail}"),
        other => panic!("the console was read twice: {other:?}"),
    }
    qemu.send_line("without a reader").unwrap();
    assert!(Path::new(&process).exists());
    drop(qemu);
    assert!(!Path::new(&process).exists(), "QEMU outlived its value");
}

#[test]
fn a_qemu_that_ends_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("sel4_32.elf");
    let mut qemu = Machine::new(&missing, no_program(folder.path())).start().unwrap();
    let message = qemu
        .wait_for("anything", Duration::from_secs(20))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("QEMU ended") && message.contains("sel4_32.elf"),
        "{message}"
    );
}
