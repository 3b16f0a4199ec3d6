//! The counter file that the plugin in QEMU writes.
//!
//! Owns: the file, from before QEMU starts until the value is dropped. On the other side: the plugin, which is trusted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::protocol::{FILE_BYTES, MAX_DOMAINS, TOTAL, Word, record};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// The counters of one guest.
pub struct Counters {
    file: NamedTempFile,
}

/// Cost of a domain: since the start of the guest, or of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Instructions in user mode.
    pub user: u64,
    /// Instructions of the kernel on behalf of the domain.
    pub kernel: u64,
    /// Kernel entries by a system call.
    pub calls: u64,
    /// Kernel entries by an interrupt.
    pub interrupts: u64,
    /// Kernel entries by a fault.
    pub faults: u64,
    /// Number of switches to the domain.
    pub switches: u64,
}

/// The record of one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Page-table root of the domain: the value of CR3. Zero for the kernel's idle thread.
    pub root: u64,
    /// Cost so far.
    pub spent: Spent,
}

impl Counters {
    /// Creates a file of zeros.
    pub fn new() -> Result<Counters> {
        let file = NamedTempFile::new().context("making the counter file")?;
        file.as_file()
            .set_len(FILE_BYTES as u64)
            .context("making the counter file")?;
        Ok(Counters { file })
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the instructions that the guest has executed so far.
    pub fn total(&self) -> Result<u64> {
        let mut word = [0; 8];
        self.read(&mut word, TOTAL)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Returns the records in use: first that of the idle thread, then those of the domains in the order of
    /// their first run.
    pub fn domains(&self) -> Result<Vec<Domain>> {
        let mut bytes = vec![0; FILE_BYTES - record(0) * 8];
        self.read(&mut bytes, record(0))?;
        Ok(records(&bytes))
    }

    fn read(&self, bytes: &mut [u8], word: usize) -> Result<()> {
        let file: &File = self.file.as_file();
        file.read_exact_at(bytes, word as u64 * 8)
            .context("reading the counter file")
    }
}

/// Parses records: the first, and those behind it that have a page-table root.
fn records(bytes: &[u8]) -> Vec<Domain> {
    let words: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    let all = (0..MAX_DOMAINS).map_while(|index| {
        let at = |word: Word| words.get(record(index) - record(0) + word as usize).copied();
        Some(Domain {
            root: at(Word::Root)?,
            spent: Spent {
                user: at(Word::User)?,
                kernel: at(Word::Kernel)?,
                calls: at(Word::Calls)?,
                interrupts: at(Word::Interrupts)?,
                faults: at(Word::Faults)?,
                switches: at(Word::Switches)?,
            },
        })
    });
    all.enumerate()
        .take_while(|(index, domain)| *index == 0 || domain.root != 0)
        .map(|(_, domain)| domain)
        .collect()
}

/// Finds QEMU's thread for the guest's processor. Returns its folder in `/proc`.
pub fn processor_thread(qemu: u32) -> Result<PathBuf> {
    let threads = format!("/proc/{qemu}/task");
    for thread in std::fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
        let thread = thread?.path();
        if std::fs::read_to_string(thread.join("comm"))?.starts_with("CPU 0") {
            return Ok(thread);
        }
    }
    anyhow::bail!("QEMU has no thread for a processor in {threads}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RECORD_WORDS;

    #[test]
    fn records_end_with_the_first_unused_one() {
        let mut words = [0u64; 5 * RECORD_WORDS];
        words[Word::Kernel as usize] = 7;
        words[RECORD_WORDS + Word::Root as usize] = 0x1000;
        words[RECORD_WORDS + Word::Switches as usize] = 3;
        words[3 * RECORD_WORDS + Word::Root as usize] = 0x2000;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let read = records(&bytes);
        assert_eq!(read.len(), 2);
        assert_eq!(
            (read[0].spent.kernel, read[1].root, read[1].spent.switches),
            (7, 0x1000, 3)
        );
    }

    #[test]
    fn a_new_file_counts_nothing() {
        let counters = Counters::new().unwrap();
        assert_eq!(counters.total().unwrap(), 0);
        assert_eq!(counters.domains().unwrap(), [Domain::default()]);
    }
}
