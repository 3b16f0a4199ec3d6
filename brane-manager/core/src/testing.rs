//! For tests, here and in other crates (feature `testing`): a whole system around the manager. The switches of its NICs are the
//! driver's own, called with the bytes of the protected calls; branes and watchers are simulated, and answer or fail as told.
#![expect(missing_docs, reason = "for tests; most names say it all")]

mod nics;
mod world;

pub use nics::Nics;
pub use world::{Manner, Pd, Watcher, World, assign};
