//! The verbs of `branectl`, in groups. It owns no state, and nobody is on the other side.

mod branes;
mod interfaces;
mod observation;
mod system;

use super::{Argument, Value, Verb, capture, filter, one, reach};

pub use interfaces::mode;

const BRANE: Argument = one("BRANE", Value::Brane, "the brane's name");

/// Groups of verbs in the order of `help`.
pub const VERBS: &[&[Verb]] = &[
    branes::VERBS,
    interfaces::VERBS,
    filter::OF_BRANECTL,
    reach::VERBS,
    capture::VERBS,
    observation::VERBS,
    system::VERBS,
];
