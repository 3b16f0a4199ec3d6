//! Builds both flavours of the real kernel and checks the results.

use std::fs;
use std::path::Path;

use branes_kernel::{Flavour, Kernel, build};
use object::{Object, ObjectSymbol};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn json(kernel: &Kernel) -> serde_json::Value {
    serde_json::from_slice(&fs::read(&kernel.labels_json).unwrap()).unwrap()
}

#[test]
fn both_flavours_are_built_once_and_share_their_numbers() {
    let kernels = [Flavour::Debug, Flavour::Release].map(|flavour| build(root(), flavour).unwrap());
    for kernel in &kernels {
        assert_eq!(fs::read(&kernel.elf).unwrap()[..5], *b"\x7fELF\x02", "64-bit");
        assert_eq!(fs::read(&kernel.sel4_32).unwrap()[..5], *b"\x7fELF\x01", "32-bit");
        let again = build(root(), kernel.flavour).unwrap();
        assert!(!again.fresh, "built again without a change");
        assert_eq!(again.elf, kernel.elf);
    }
    let [mut debug, release] = kernels.each_ref().map(json);
    let printing = debug["syscall"].as_object_mut().unwrap().remove("DEBUG_PUT_CHAR");
    let runtime = sel4::registry::SYS_DEBUG_PUT_CHAR;
    assert_eq!(
        printing,
        Some(runtime.into()),
        "only the debug flavour prints for programs"
    );
    assert_eq!(debug, release);
    assert_eq!(debug["label"]["UNTYPED_RETYPE"], 1);
    assert_eq!(debug["label"]["X86_IO_PORT_OUT8"], 47);
    assert_eq!(debug["syscall"]["CALL"], -1);
    assert_eq!(debug["object"]["UNTYPED"], 0);
}

#[test]
fn only_the_debug_flavour_has_messages() {
    let booting = b"Booting all finished";
    let says = |flavour| {
        let elf = fs::read(build(root(), flavour).unwrap().elf).unwrap();
        elf.windows(booting.len()).any(|window| window == booting)
    };
    assert!(says(Flavour::Debug));
    assert!(!says(Flavour::Release));
}

/// Checks the alignment to which the exit path for a pending interrupt rounds the stack pointer. `cargo xtask
/// test interrupts` loads that path, but damage there depends on what the linker puts behind the stack. This
/// test does not.
#[test]
fn the_kernels_stack_lies_on_a_boundary_of_its_size() {
    for flavour in [Flavour::Debug, Flavour::Release] {
        let file = fs::read(build(root(), flavour).unwrap().elf).unwrap();
        let elf = object::File::parse(&*file).unwrap();
        let stack = elf.symbol_by_name("kernel_stack_alloc").unwrap();
        assert_eq!(stack.size(), 4096);
        assert_eq!(
            stack.address() % stack.size(),
            0,
            "{flavour}: {:#x}",
            stack.address()
        );
    }
}
