//! Sealing of a program after linking: the section `.pristine` receives a copy of `.data`, from which a
//! restarted protection domain restores itself. The linker script of the PD runtime reserves the space and
//! defines the symbols.

use std::path::Path;

use crate::Error;
use crate::elf::{Program, read, symbols};
use crate::loader::write_whole;

/// Fills the pristine copy in the ELF file at `path`. Idempotent.
pub fn seal(path: &Path) -> Result<(), Error> {
    let refuse = |what: String| Error::Elf {
        path: path.into(),
        what,
    };
    let program = Program::load(path, None)?;
    let mut bytes = read(path)?;
    let symbols = symbols(path, &bytes)?;
    let address = |name: &str| match symbols.get(name).map(Vec::as_slice) {
        Some([(address, _)]) => Ok(*address),
        _ => Err(refuse(format!(
            "symbol '{name}' is missing: link with the linker script of the PD runtime"
        ))),
    };
    let data = address("__data_start")?..address("__data_end")?;
    let copy = address("__pristine_start")?..address("__pristine_end")?;
    let len = |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start);
    if len(&copy) < len(&data) {
        return Err(refuse(format!(
            "the pristine copy has room for {:#x} bytes, .data has {:#x}: the linker script is wrong",
            len(&copy),
            len(&data)
        )));
    }
    let size = len(&data);
    if size == 0 {
        return Ok(());
    }
    let place = |what: &str, start: u64| {
        program
            .segments
            .iter()
            .find(|s| s.start <= start && start.saturating_add(size) <= s.start + s.file_size)
            .map(|s| (s.offset + start - s.start) as usize)
            .ok_or_else(|| refuse(format!("{what} at {start:#x} has no bytes in the file")))
    };
    let from = place(".data", data.start)?;
    let to = place("the pristine copy", copy.start)?;
    let size = size as usize;
    let content = bytes[from..from + size].to_vec();
    if bytes[to..to + size] == content[..] {
        return Ok(());
    }
    if to < from + size && from < to + size {
        return Err(refuse("the pristine copy overlaps .data".into()));
    }
    bytes[to..to + size].copy_from_slice(&content);
    write_whole(path, &bytes)
}
