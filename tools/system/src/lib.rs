//! The system description `system.xml`: one typed model that the image builder, the generated constants, the rule
//! checks and the tests read.
//!
//! The syntax is that of Microkit 2.3's system description format for the board `x86_64_generic`. The file is input
//! of the build and may be anything: every fault in it ends in an [`Error`] with file, line and column, never in a
//! panic. Programs (ELF files) and prefill files are not opened here; what concerns them is checked by the image
//! builder.

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
    /// Reads and checks a description. `file` is the name that errors carry. All faults are returned, not only the
    /// first; but rules that concern several elements are tried only when each element by itself is sound.
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

    /// The protection domain of that name.
    pub fn pd(&self, name: &str) -> Option<&ProtectionDomain> {
        self.protection_domains.iter().find(|pd| pd.name == name)
    }

    /// The memory region of that name.
    pub fn region(&self, name: &str) -> Option<&MemoryRegion> {
        self.memory_regions.iter().find(|mr| mr.name == name)
    }

    /// The children of a protection domain.
    pub fn children<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = &'a ProtectionDomain> + 'a {
        self.protection_domains
            .iter()
            .filter(move |pd| pd.parent.as_deref() == Some(parent))
    }

    /// Each channel that a protection domain has: its own end and the other one.
    pub fn ends<'a>(&'a self, pd: &'a str) -> impl Iterator<Item = (&'a End, &'a End)> + 'a {
        self.channels.iter().flat_map(move |channel| {
            let [a, b] = &channel.ends;
            [(a, b), (b, a)].into_iter().filter(move |(own, _)| own.pd == pd)
        })
    }
}
