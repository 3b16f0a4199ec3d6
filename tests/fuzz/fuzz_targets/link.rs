//! Fuzz target: a brane on a hostile link whose peer speaks by a grammar. The grammar covers router
//! advertisements, DHCP, neighbor discovery, ARP, IGMP, MLD, events that make the brane use the learnt state,
//! and time. Checks that the brane does not panic, sends only from its own addresses, and configures only
//! addresses that a host can have.
#![no_main]

#[path = "../../../net-server/core/tests/common/mod.rs"]
mod common;
#[path = "../../../net-server/core/tests/common/grammar.rs"]
mod grammar;

use grammar::Link;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    /// One brane for many inputs, so that an input meets the state that earlier inputs left. It is replaced
    /// from time to time to bound that state.
    static LINK: RefCell<(u32, Option<Link>)> = const { RefCell::new((0, None)) };
}

/// Options of the address sanitizer. A test's host never frees its regions, because those of a protection
/// domain exist forever.
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
