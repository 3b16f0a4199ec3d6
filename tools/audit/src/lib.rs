//! Audit of capabilities: compares the description with the built image, and finds every path between branes.
//!
//! Owns a model of the described authority ([`model`]), readers of the two kinds of image ([`image`],
//! [`capdl`]), and the comparison of the two ([`compare`]). Also owns the roles of the domains ([`roles`]) and
//! the search for paths ([`reach`]). On the other side: `system.xml`, which people write, and images, which our
//! builder and the SDK's tool write. None of them is trusted here: an error in one shows as a difference or as
//! a path. The audit runs on the host and changes nothing.

pub mod authority;
pub mod capdl;
pub mod compare;
mod error;
mod frames;
pub mod image;
pub mod model;
pub mod reach;
mod render;
pub mod report;
pub mod roles;

pub use authority::Authority;
pub use error::Error;
pub use model::Kernel;
pub use report::Report;
