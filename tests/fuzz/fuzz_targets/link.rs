//! A brane on a hostile link that speaks by a grammar: router advertisements, DHCP, neighbour discovery, ARP, IGMP, MLD, what
//! makes the brane use what it has learnt, and time. There is no panic, the brane sends from its own addresses only, and each
//! address that it takes can be a host's.
#![no_main]

#[path = "../../../net-server/core/tests/common/mod.rs"]
mod common;
#[path = "../../../net-server/core/tests/common/grammar.rs"]
mod grammar;

use grammar::Link;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    /// One brane for many inputs: what one leaves behind, the next meets. A fresh one every now and then bounds that.
    static LINK: RefCell<(u32, Option<Link>)> = const { RefCell::new((0, None)) };
}

/// Options of the address sanitizer. A test's host never gives its regions back, as a protection domain's are there for its life.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const core::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}

fuzz_target!(|bytes: &[u8]| {
    LINK.with_borrow_mut(|(runs, link)| {
        *runs += 1;
        if runs.is_multiple_of(2_000) {
            *link = None;
        }
        link.get_or_insert_with(Link::new).run(bytes, |link| {
            link.sent();
        });
    });
});
