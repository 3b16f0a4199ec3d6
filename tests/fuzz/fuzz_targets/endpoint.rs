//! Fuzz target: an endpoint of a shared region with a hostile peer, which writes anything at any time: epochs,
//! acknowledgements, indices, records.
//!
//! Checks that there is no panic, that the link is up only with the peer's consent, and that a violation lasts
//! until a new epoch. An honest incarnation of the peer must then recover the link.
#![no_main]

#[path = "../../../abi/tests/common/mod.rs"]
mod common;
#[path = "../../../abi/tests/common/hostile_peer.rs"]
mod hostile_peer;

use brane_abi::layout::ctl;
use brane_abi::shared::SharedRegion;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One region for all inputs, because regions are never freed.
    static MEMORY: SharedRegion = common::region(ctl::SIZE);
}

fuzz_target!(|program: &[u8]| {
    MEMORY.with(|memory| hostile_peer::run(*memory, program));
});
