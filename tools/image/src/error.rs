//! What can be wrong with programs, prefill files and layout, in words for the person who builds the image.

use std::path::PathBuf;

/// Why no image was made. Nothing has been written when one of these is returned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        cause: std::io::Error,
    },
    /// A file that the system description names is in none of the searched folders.
    #[error("{who} needs the file '{name}', which is in none of: {}", searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The protection domain or memory region that names it.
        who: String,
        /// The file's name as written.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A file is not a static x86_64 ELF program.
    #[error("{}: {what}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A symbol that the builder has to fill in is missing or unusable.
    #[error("protection domain '{pd}': symbol '{symbol}' in {}: {what}", path.display())]
    Symbol {
        /// The protection domain.
        pd: String,
        /// The symbol.
        symbol: String,
        /// The ELF file that was searched.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Two things want the same addresses.
    #[error(
        "protection domain '{pd}': {first} ({first_start:#x}..{first_end:#x}) overlaps {second} ({second_start:#x}..{second_end:#x})"
    )]
    Overlap {
        /// The protection domain.
        pd: String,
        /// The one that starts lower.
        first: String,
        /// Its first address.
        first_start: u64,
        /// The first address behind it.
        first_end: u64,
        /// The other.
        second: String,
        /// Its first address.
        second_start: u64,
        /// The first address behind it.
        second_end: u64,
    },
    /// Something lies outside what a program can address.
    #[error(
        "protection domain '{pd}': {what} ({start:#x}..{end:#x}) is outside the addresses for programs (below {limit:#x})"
    )]
    Range {
        /// The protection domain.
        pd: String,
        /// What.
        what: String,
        /// Its first address.
        start: u64,
        /// The first address behind it.
        end: u64,
        /// The first address that programs may not use.
        limit: u64,
    },
    /// A prefill file does not fit its region.
    #[error("memory region '{region}' has {size:#x} bytes, its prefill file {} has {len:#x}: {what}", path.display())]
    Prefill {
        /// The region.
        region: String,
        /// Its size.
        size: u64,
        /// The file.
        path: PathBuf,
        /// The file's size.
        len: u64,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The description asks for something that this kernel cannot give and that cannot be left out.
    #[error("{who}: {what}")]
    Unsupported {
        /// The protection domain or region.
        who: String,
        /// What, and what to write instead.
        what: String,
    },
    /// The image does not fit the machine.
    #[error("image needs {needed} MiB, machine has {has} MiB: {hint}")]
    Memory {
        /// MiB that the image needs.
        needed: u64,
        /// MiB that the machine has.
        has: u64,
        /// What takes the memory.
        hint: String,
    },
}
