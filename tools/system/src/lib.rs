//! The system description `system.xml`: one typed model for the image builder, the generated constants, the
//! rule checks and the tests.
//!
//! The syntax is Microkit 2.3's system description format for the board `x86_64_generic`. The file is input
//! of the build and may contain anything: every fault becomes an [`Error`] with file, line and column, and
//! never a panic. Programs (ELF files) and prefill files are not opened here. The image builder checks them.

pub mod codegen;
pub mod configs;
mod error;
mod model;
mod parse;
mod rules;
mod xml;

pub use error::{Error, Errors, Position};
pub use model::*;
pub use rules::{RULES, Rule};

impl System {
    /// Parses and checks a description. `file` is the name in errors. Returns all faults, not only the first
    /// one. Rules about several elements are checked only if each element is valid by itself.
    pub fn parse(text: &str, file: &str) -> Result<System, Errors> {
        let mut errors = Errors::new(file);
        if let Some(mut system) = parse::system(text, &mut errors)
            && errors.is_empty()
        {
            rules::check(&mut system, &mut errors);
            if errors.is_empty() {
                return Ok(system);
            }
        }
        Err(errors)
    }

    /// Returns the protection domain with this name.
    pub fn pd(&self, name: &str) -> Option<&ProtectionDomain> {
        self.protection_domains.iter().find(|pd| pd.name == name)
    }

    /// Returns the memory region with this name.
    pub fn region(&self, name: &str) -> Option<&MemoryRegion> {
        self.memory_regions.iter().find(|mr| mr.name == name)
    }

    /// Returns the children of a protection domain.
    pub fn children<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = &'a ProtectionDomain> + 'a {
        self.protection_domains
            .iter()
            .filter(move |pd| pd.parent.as_deref() == Some(parent))
    }

    /// Returns the channels of a protection domain: its own end and the other end of each.
    pub fn ends<'a>(&'a self, pd: &'a str) -> impl Iterator<Item = (&'a End, &'a End)> + 'a {
        self.channels.iter().flat_map(move |channel| {
            let [a, b] = &channel.ends;
            [(a, b), (b, a)].into_iter().filter(move |(own, _)| own.pd == pd)
        })
    }
}
