//! The protection domain `upstream-child.elf`: reads where nothing is mapped, or panics, by its own name. It is written for the
//! upstream crate `sel4-microkit` and uses nothing that only this project's runtime has.
//!
//! Owns nothing. The other side is its parent, `upstream-parent.elf`, which the kernel tells of the fault.
#![no_std]
#![no_main]

use sel4_microkit::{NullHandler, debug_println, panicking, pd_is_passive, pd_name, protection_domain};

/// An address at which nothing is mapped.
const UNMAPPED: usize = 0x1234_5000;

#[protection_domain]
fn init() -> NullHandler {
    assert!(!pd_is_passive());
    match pd_name().unwrap() {
        // SAFETY: meant to fault: no memory of the program is at that address, so the kernel stops this thread.
        "faulter" => unsafe {
            core::arch::asm!("mov {0}, [{0}]", inout(reg) UNMAPPED => _, options(nostack, readonly));
        },
        name => {
            let result = panicking::catch_unwind(|| name.len());
            panicking::set_hook(&|info| debug_println!("child: {info}"));
            panic!("{name} gives up after {result:?}")
        }
    }
    NullHandler::new()
}
