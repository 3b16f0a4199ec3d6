//! For tests, here and in other crates (feature `testing`): a whole system around the manager. The switches of its NICs are the
//! driver's own, called with the bytes of the protected calls; branes and subscribers are simulated, and answer or fail as told.
//! After everything that the manager does, the rules of `invariants` are checked.

mod balance;
pub mod child;
mod invariants;
mod nics;
mod pd;
mod world;

pub use balance::Balance;
pub use nics::{Known, Nics};
pub use pd::{Manner, Pd};
pub use world::{Subscriber, World, assign};
