//! The protection domain `upstream-hello.elf`: prints a line as soon as it runs. It is written for the upstream crate
//! `sel4-microkit` and uses nothing that only this project's runtime has.
//!
//! Owns nothing. It has no log, so its text goes to the kernel's debug console. No other domain is on the other side.
#![no_std]
#![no_main]

use sel4_microkit::{Handler, Infallible, debug_print, debug_println, protection_domain};

#[protection_domain]
fn init() -> HandlerImpl {
    debug_print!("hello: ");
    debug_println!("{}, {}!", "Hello", "World");
    HandlerImpl
}

struct HandlerImpl;

impl Handler for HandlerImpl {
    type Error = Infallible;
}
