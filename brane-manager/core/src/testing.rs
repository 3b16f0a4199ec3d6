//! For tests, here and in other crates (feature `testing`): a whole system around the manager. The switches of its NICs
//! are the driver's own, called with the bytes of the protected calls. Branes and subscribers are simulated; they
//! answer, or fail as the test determines. After every action of the manager, the rules of `invariants` are checked.

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
