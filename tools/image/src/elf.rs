//! Programs: static ELF files as pages and symbols. The files come from our own build or from a user's.
//! Whatever they contain, reading returns a program or an error that names the file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use initialiser_spec::{PAGE_SIZE, USER_TOP};
use object::elf::{ET_EXEC, FileHeader64, PF_W, PT_INTERP, PT_LOAD, PT_TLS};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, SymbolSection};

use crate::Error;

pub type PageBytes = [u8; PAGE_SIZE];

/// One page of a program.
#[derive(Clone)]
pub struct Page {
    /// Initial contents.
    pub bytes: Box<PageBytes>,
    pub writable: bool,
}

/// A loadable part of a program.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub start: u64,
    /// First address after the part, zeroed bytes included.
    pub end: u64,
    /// Offset of the first address in the file.
    pub offset: u64,
    /// Bytes from the file. The rest is zeroed.
    pub file_size: u64,
}

/// A program that is ready for layout.
pub struct Program {
    pub path: PathBuf,
    /// Address of the first instruction.
    pub entry: u64,
    /// Loadable parts, sorted by address.
    pub segments: Vec<Segment>,
    pub pages: BTreeMap<u64, Page>,
    symbols_path: PathBuf,
    symbols: HashMap<String, Vec<(u64, u64)>>,
}

pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|cause| Error::Read {
        path: path.into(),
        cause,
    })
}

/// Returns the symbols that a file defines: addresses and sizes by name.
pub fn symbols(path: &Path, bytes: &[u8]) -> Result<HashMap<String, Vec<(u64, u64)>>, Error> {
    let file = object::read::elf::ElfFile64::<Endianness>::parse(bytes).map_err(|cause| Error::Elf {
        path: path.into(),
        what: cause.to_string(),
    })?;
    let mut symbols: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.section() != SymbolSection::Undefined)
    {
        if let Ok(name) = symbol.name() {
            symbols
                .entry(name.to_owned())
                .or_default()
                .push((symbol.address(), symbol.size()));
        }
    }
    Ok(symbols)
}

impl Program {
    /// Reads a program. Takes its symbols from `symbols_path` if given, so that the program itself may be
    /// stripped.
    pub fn load(path: &Path, symbols_path: Option<&Path>) -> Result<Self, Error> {
        let bytes = read(path)?;
        let symbols_path = symbols_path.unwrap_or(path);
        let symbols = if symbols_path == path {
            symbols(path, &bytes)?
        } else {
            symbols(symbols_path, &read(symbols_path)?)?
        };
        Self::parse(path, &bytes, symbols_path, symbols)
    }

    fn parse(
        path: &Path,
        bytes: &[u8],
        symbols_path: &Path,
        symbols: HashMap<String, Vec<(u64, u64)>>,
    ) -> Result<Self, Error> {
        let refuse = |what: String| Error::Elf {
            path: path.into(),
            what,
        };
        let header = FileHeader64::<Endianness>::parse(bytes).map_err(|cause| refuse(cause.to_string()))?;
        let endian = header.endian().map_err(|cause| refuse(cause.to_string()))?;
        if header.e_machine(endian) != object::elf::EM_X86_64 {
            return Err(refuse("not a program for x86_64".into()));
        }
        if header.e_type(endian) != ET_EXEC {
            return Err(refuse(
                "not a static program at a fixed address (link with -static -no-pie)".into(),
            ));
        }
        let headers = header
            .program_headers(endian, bytes)
            .map_err(|cause| refuse(cause.to_string()))?;
        let mut segments = Vec::new();
        let mut pages: BTreeMap<u64, Page> = BTreeMap::new();
        for segment in headers {
            match segment.p_type(endian) {
                PT_INTERP => return Err(refuse("wants a dynamic linker (link with -static)".into())),
                PT_TLS if segment.p_memsz(endian) > 0 => {
                    return Err(refuse("has thread-local data, which nobody sets up".into()));
                }
                PT_LOAD if segment.p_memsz(endian) > 0 => {}
                _ => continue,
            }
            let start = segment.p_vaddr(endian);
            let size = segment.p_memsz(endian);
            let end = start.checked_add(size).filter(|&end| end <= USER_TOP);
            let Some(end) = end else {
                return Err(refuse(format!(
                    "segment at {start:#x} of {size:#x} bytes is outside user addresses"
                )));
            };
            if size > 1 << 30 {
                return Err(refuse(format!(
                    "segment at {start:#x} has {size:#x} bytes: use a memory region"
                )));
            }
            let data = segment
                .data(endian, bytes)
                .map_err(|()| refuse(format!("segment at {start:#x} is cut short")))?;
            if data.len() as u64 > size {
                return Err(refuse(format!(
                    "segment at {start:#x} has more bytes in the file than in memory"
                )));
            }
            let writable = segment.p_flags(endian).0 & PF_W.0 != 0;
            let base = start & !(PAGE_SIZE as u64 - 1);
            for address in (base..end).step_by(PAGE_SIZE) {
                let page = Page {
                    bytes: Box::new([0; PAGE_SIZE]),
                    writable,
                };
                // Even parts with equal rights may not share a page, because Microkit's tool gives each
                // segment pages of its own.
                if pages.insert(address, page).is_some() {
                    return Err(refuse(format!(
                        "two segments share the page at {address:#x}: align segments to pages"
                    )));
                }
            }
            write_bytes(&mut pages, start, data);
            let file_size = data.len() as u64;
            segments.push(Segment {
                start,
                end,
                offset: segment.p_offset(endian),
                file_size,
            });
        }
        segments.sort_by_key(|segment| segment.start);
        let entry = header.e_entry(endian);
        if !segments
            .iter()
            .any(|segment| (segment.start..segment.end).contains(&entry))
        {
            return Err(refuse(format!("entry point {entry:#x} is in no segment")));
        }
        let symbols_path = symbols_path.to_owned();
        Ok(Program {
            path: path.into(),
            entry,
            segments,
            pages,
            symbols_path,
            symbols,
        })
    }

    /// Returns the address of a symbol if its size is one of `sizes` and it lies within one segment.
    pub fn symbol(&self, pd: &str, name: &str, sizes: &[u64]) -> Result<u64, Error> {
        let refuse = |what: String| Error::Symbol {
            pd: pd.into(),
            symbol: name.into(),
            path: self.symbols_path.clone(),
            what,
        };
        let found = self.symbols.get(name).map_or(&[][..], Vec::as_slice);
        let (address, size) = match found {
            [one] => *one,
            [] => {
                return Err(refuse(
                    "missing: link the program with the PD runtime, and do not strip it".into(),
                ));
            }
            _ => return Err(refuse(format!("defined {} times; once is right", found.len()))),
        };
        if !sizes.contains(&size) {
            let right = sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
            return Err(refuse(format!("has {size} bytes; {right} is right")));
        }
        let inside =
            |segment: &Segment| segment.start <= address && address.saturating_add(size) <= segment.end;
        if !self.segments.iter().any(inside) {
            return Err(refuse(format!(
                "at {address:#x}, which is not within one loadable segment"
            )));
        }
        Ok(address)
    }
}

/// Overwrites bytes of existing pages.
pub fn write_bytes(pages: &mut BTreeMap<u64, Page>, mut address: u64, mut data: &[u8]) {
    while !data.is_empty() {
        let offset = (address as usize) & (PAGE_SIZE - 1);
        let len = data.len().min(PAGE_SIZE - offset);
        if let Some(page) = pages.get_mut(&(address - offset as u64)) {
            page.bytes[offset..offset + len].copy_from_slice(&data[..len]);
        }
        data = &data[len..];
        address += len as u64;
    }
}
