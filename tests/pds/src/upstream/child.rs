//! The protection domain `upstream-child.elf`: depending on its name, it reads from an unmapped address or
//! panics. It is written for the upstream crate `sel4-microkit` and uses nothing that only this project's
//! runtime has.
//!
//! Owns nothing. The other side is its parent, `upstream-parent.elf`, to which the kernel reports the fault.
#![no_std]
#![no_main]

use sel4_microkit::{NullHandler, debug_println, panicking, pd_is_passive, pd_name, protection_domain};

/// An address at which nothing is mapped.
const UNMAPPED: usize = 0x1234_5000;

#[protection_domain]
fn init() -> NullHandler {
    assert!(!pd_is_passive());
    match pd_name().unwrap() {
        // SAFETY: the fault is intended: no memory of the program is at that address, so the kernel stops this
        // thread.
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
