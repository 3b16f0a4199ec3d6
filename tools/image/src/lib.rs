//! Builds the boot image.
//!
//! Owns: the check of program files against the system description, the layout of every address space, the
//! numbering of objects, the sealing of programs, and the image file. On the other side: `runtime/initialiser`,
//! which creates exactly the described objects at boot. The program files come from our own build. They are
//! checked so that mistakes are reported here by name, and not at boot.

pub mod backtrace;
mod build;
mod elf;
mod error;
mod grants;
mod layout;
mod loader;
mod plan;
mod report;
mod seal;
pub mod symbols;
mod tables;
mod unlink;

pub use build::{build, measure};
pub use error::Error;
pub use report::Report;
pub use seal::seal;
pub use unlink::Description;
