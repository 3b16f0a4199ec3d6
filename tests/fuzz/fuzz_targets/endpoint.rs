//! An endpoint of a shared region whose peer writes anything at any time: epochs, acknowledgements, indices, records. There is
//! no panic, the link is up only with the peer's consent, a violation lasts until a new epoch, and an honest incarnation of
//! the peer recovers the link.
#![no_main]

#[path = "../../../abi/tests/common/mod.rs"]
mod common;
#[path = "../../../abi/tests/common/hostile_peer.rs"]
mod hostile_peer;

use brane_abi::layout::ctl;
use brane_abi::shared::SharedRegion;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// One region for all inputs: regions are never given back.
    static MEMORY: SharedRegion = common::region(ctl::SIZE);
}

fuzz_target!(|program: &[u8]| {
    MEMORY.with(|memory| hostile_peer::run(*memory, program));
});
