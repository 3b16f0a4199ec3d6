//! Adds function, file and line to the fault reports in a console's output.
//!
//! Owns: the recognition of fault reports in the console's output, and the lines added below them. On the other
//! side: the guest, which is not trusted. Its output is any text and passes unchanged and at once. A line that
//! imitates a report gets the places of the addresses in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use brane_abi::backtrace::{Registers, parse_words};
use branes_system::System;

use crate::Error;
use crate::symbols::{Place, Symbols};

/// Name of the workspace's folder in the symbols.
const SOURCES: &str = "/branes/";
/// Maximum number of bytes of a line that are examined.
const LINE: usize = 1024;
/// Maximum number of words of one stack.
const WORDS: usize = 512;
/// Functions that belong to the panic itself. They are left out, so that the panicking function is first.
const PANIC: &[&str] = &[
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_index_fail",
    "core::slice::index::slice_start_index",
    "core::slice::index::slice_end_index",
    "core::cell::panic_already",
    "sel4_microkit::start::panic",
    "__rustc::rust_begin_unwind",
    "rust_begin_unwind",
];

/// Prefix that serial writes in front of a line of the level `error`.
const ERROR: &str = "error: ";
/// The root task's line about a failed domain: the text before the name, the text after it, and the text before
/// the instruction.
const MONITOR: (&str, &str, &str) = ("monitor: '", "' stopped: ", "instruction ");

/// An incomplete report.
struct Stack {
    failed: Registers,
    words: HashMap<u64, u64>,
}

/// The reader of one console's output.
pub struct Annotator {
    /// Program files, by protection domain.
    programs: HashMap<String, PathBuf>,
    /// Symbols by program file. `None` for a file without symbols.
    symbols: HashMap<PathBuf, Option<Symbols>>,
    /// The line so far.
    line: Vec<u8>,
    stacks: HashMap<String, Stack>,
}

impl Annotator {
    /// Returns an annotator for the image of `system`, whose program files are in the folder `programs`.
    pub fn new(system: &System, programs: &Path) -> Annotator {
        let programs = system
            .protection_domains
            .iter()
            .map(|pd| (pd.name.clone(), programs.join(&pd.program)));
        Annotator {
            programs: programs.collect(),
            symbols: HashMap::new(),
            line: Vec::new(),
            stacks: HashMap::new(),
        }
    }

    /// Returns an annotator for the image that `cargo xtask` has built in a folder.
    ///
    /// # Errors
    /// The folder's description of the system cannot be read.
    pub fn for_image(folder: &Path) -> Result<Annotator, Error> {
        let path = folder.join("system.xml");
        let text = std::fs::read_to_string(&path).map_err(|cause| Error::Read {
            path: path.clone(),
            cause,
        })?;
        let system = System::parse(&text, &path.display().to_string()).map_err(|cause| Error::Elf {
            path,
            what: cause.to_string(),
        })?;
        Ok(Annotator::new(&system, &folder.join("programs")))
    }

    /// Returns the bytes with places added below each line that is a fault report.
    pub fn annotate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            out.push(byte);
            match byte {
                b'\n' => {
                    let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                    // The guest ends its lines by CR LF, so added lines do too.
                    let end = if line.ends_with('\r') { "\r\n" } else { "\n" };
                    for place in self.places(line.trim_end_matches('\r')) {
                        let Place { function, file, line } = place;
                        let file = file.strip_prefix(SOURCES).unwrap_or(&file);
                        out.extend_from_slice(format!("    at {function} ({file}:{line}){end}").as_bytes());
                    }
                }
                _ if self.line.len() < LINE => self.line.push(byte),
                _ => {}
            }
        }
        out
    }

    /// Returns the places to show below a line.
    fn places(&mut self, line: &str) -> Vec<Place> {
        let (before, monitored, at) = MONITOR;
        if let Some((pd, fault)) = line.strip_prefix(before).and_then(|l| l.split_once(monitored)) {
            let address = fault.split_once(at).and_then(|(_, rest)| {
                let digits = rest.strip_prefix("0x")?;
                let end = digits
                    .find(|c: char| !c.is_ascii_hexdigit())
                    .unwrap_or(digits.len());
                u64::from_str_radix(&digits[..end], 16).ok()
            });
            return match (address, self.symbols(pd)) {
                (Some(address), Some(symbols)) => symbols.places(address),
                _ => Vec::new(),
            };
        }
        // Serial writes the name of the domain in front of each line of a log.
        let Some((pd, text)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
            return Vec::new();
        };
        let text = text.strip_prefix(ERROR).unwrap_or(text);
        if let Some(failed) = Registers::parse(text) {
            let Some(symbols) = self.symbols(pd) else {
                return Vec::new();
            };
            let places = symbols.places(failed.ip);
            let words = HashMap::new();
            self.stacks.insert(pd.to_owned(), Stack { failed, words });
            return without_panic(places);
        }
        let Some((words, last)) = parse_words(text) else {
            return Vec::new();
        };
        let Some(stack) = self.stacks.get_mut(pd) else {
            return Vec::new();
        };
        let room = WORDS.saturating_sub(stack.words.len());
        let sp = stack.failed.sp;
        stack.words.extend(
            words
                .take(room)
                .map(|word| (sp.wrapping_add(word.offset), word.value)),
        );
        if !last {
            return Vec::new();
        }
        let (stack, symbols) = match self.stacks.remove(pd) {
            Some(stack) => (stack, self.symbols(pd)),
            None => return Vec::new(),
        };
        let Some(symbols) = symbols else {
            return Vec::new();
        };
        let callers = symbols.callers(stack.failed, &|address| stack.words.get(&address).copied());
        let places = callers
            .iter()
            .flat_map(|address| symbols.places(address.saturating_sub(1)));
        without_panic(places.collect())
    }

    /// Returns the symbols of a domain's program. Reads them at the first use.
    fn symbols(&mut self, pd: &str) -> Option<&Symbols> {
        let path = self.programs.get(pd)?;
        self.symbols
            .entry(path.clone())
            .or_insert_with(|| Symbols::load(path).ok())
            .as_ref()
    }
}

/// Removes the functions of a panic from the beginning of the list.
fn without_panic(mut places: Vec<Place>) -> Vec<Place> {
    let is_panic = |place: &Place| PANIC.iter().any(|name| place.function.starts_with(name));
    let count = places.iter().take_while(|place| is_panic(place)).count();
    places.drain(..count);
    places
}
