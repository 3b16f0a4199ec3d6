//! Errors in programs, prefill files and layout, in words for the person who builds the image.

use std::path::PathBuf;

/// Reason why no image was made. Nothing has been written if one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("cannot write {}: {cause}", path.display())]
    Write { path: PathBuf, cause: std::io::Error },
    /// A file that the system description names is in none of the searched folders.
    #[error("{who} needs the file '{name}', which is in none of: {}", searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The protection domain or memory region that names it.
        who: String,
        /// The file's name in the description.
        name: String,
        /// The searched folders.
        searched: Vec<PathBuf>,
    },
    /// A file is no static x86_64 ELF program.
    #[error("{}: {what}", path.display())]
    Elf {
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// A symbol that the builder fills in is missing or unusable.
    #[error("protection domain '{pd}': symbol '{symbol}' in {}: {what}", path.display())]
    Symbol {
        pd: String,
        symbol: String,
        /// The ELF file that was searched.
        path: PathBuf,
        /// The fault.
        what: String,
    },
    /// Two parts of an address space overlap.
    #[error(
        "protection domain '{pd}': {first} ({first_start:#x}..{first_end:#x}) overlaps {second} ({second_start:#x}..{second_end:#x})"
    )]
    Overlap {
        pd: String,
        /// The part that starts lower.
        first: String,
        first_start: u64,
        /// The first address after it.
        first_end: u64,
        /// The other part.
        second: String,
        second_start: u64,
        /// The first address after it.
        second_end: u64,
    },
    /// A mapping is outside the addresses for programs.
    #[error(
        "protection domain '{pd}': {what} ({start:#x}..{end:#x}) is outside the addresses for programs (below {limit:#x})"
    )]
    Range {
        pd: String,
        /// The mapping.
        what: String,
        start: u64,
        /// The first address after it.
        end: u64,
        /// The first address that programs may not use.
        limit: u64,
    },
    #[error("memory region '{region}' has {size:#x} bytes, its prefill file {} has {len:#x}: {what}", path.display())]
    Prefill {
        region: String,
        size: u64,
        path: PathBuf,
        len: u64,
        /// The fault, and the remedy.
        what: String,
    },
    /// The description asks for a feature that this kernel cannot provide and that cannot be omitted.
    #[error("{who}: {what}")]
    Unsupported {
        /// The protection domain or region.
        who: String,
        /// The feature, and a replacement.
        what: String,
    },
    /// The image does not fit into the machine's memory.
    #[error("image needs {needed} MiB, machine has {has} MiB: {hint}")]
    Memory {
        /// MiB that the image needs.
        needed: u64,
        /// MiB that the machine has.
        has: u64,
        /// The largest users of memory.
        hint: String,
    },
}
