//! The symbols of a program: the functions, files and lines of an address, and its callers.
//!
//! The program files come from our own build. The content of a stack comes from a failed domain and may be any
//! values. They end in some list of frames, at most `FRAMES` long.

use std::path::Path;
use std::sync::Arc;

use addr2line::Context;
use brane_abi::backtrace::Registers;
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, Dwarf, EhFrame, EndianArcSlice, LittleEndian, RegisterRule,
    SectionId, UnwindContext, UnwindSection, UnwindTableRow, X86_64,
};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::Error;
use crate::elf::read;

type Bytes = EndianArcSlice<LittleEndian>;

/// Maximum number of frames in a backtrace. Inlined functions are not counted.
const FRAMES: usize = 24;
/// Text for a function without a name.
const UNKNOWN: &str = "unknown function";

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The function's name as in the source.
    pub function: String,
    /// The file's name in the symbols.
    pub file: String,
    /// The line. 0 if it is unknown.
    pub line: u32,
}

/// The symbols of one program.
pub struct Symbols {
    context: Context<Bytes>,
    eh_frame: EhFrame<Bytes>,
    debug_frame: DebugFrame<Bytes>,
    bases: BaseAddresses,
    /// Start, end and name of each function, by address. Line tables alone have no paths in the names.
    functions: Vec<(u64, u64, String)>,
}

impl Symbols {
    /// Reads the symbols of an ELF file.
    pub fn load(path: &Path) -> Result<Symbols, Error> {
        let refuse = |what: &dyn std::fmt::Display| Error::Elf {
            path: path.into(),
            what: what.to_string(),
        };
        let bytes = read(path)?;
        let file = object::File::parse(&*bytes).map_err(|cause| refuse(&cause))?;
        let section = |name: &str| -> Result<Bytes, object::Error> {
            let data = match file.section_by_name(name) {
                Some(section) => section.data()?.into(),
                None => Arc::from([]),
            };
            Ok(EndianArcSlice::new(data, LittleEndian))
        };
        let dwarf = Dwarf::load(|id: SectionId| section(id.name())).map_err(|cause| refuse(&cause))?;
        let address = |name: &str| file.section_by_name(name).map_or(0, |section| section.address());
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() != 0)
            .filter_map(|symbol| {
                let name = addr2line::demangle_auto(symbol.name().ok()?.into(), None).into_owned();
                let start = symbol.address();
                Some((start, start.saturating_add(symbol.size()), name))
            })
            .collect();
        functions.sort();
        Ok(Symbols {
            functions,
            context: Context::from_dwarf(dwarf).map_err(|cause| refuse(&cause))?,
            eh_frame: EhFrame::from(section(".eh_frame").map_err(|cause| refuse(&cause))?),
            debug_frame: DebugFrame::from(section(".debug_frame").map_err(|cause| refuse(&cause))?),
            bases: BaseAddresses::default()
                .set_eh_frame(address(".eh_frame"))
                .set_text(address(".text")),
        })
    }

    /// Returns the places of an instruction: the innermost inlined function first, the function that contains the code last.
    pub fn places(&self, address: u64) -> Vec<Place> {
        let mut places = Vec::new();
        let mut frames = match self.context.find_frames(address).skip_all_loads() {
            Ok(frames) => frames,
            Err(_) => return places,
        };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame
                .function
                .and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let location = frame.location.as_ref();
            places.push(Place {
                function: function.unwrap_or_else(|| UNKNOWN.to_owned()),
                file: location.and_then(|place| place.file).unwrap_or("?").to_owned(),
                line: location.and_then(|place| place.line).unwrap_or(0),
            });
        }
        if let (Some(last), Some(function)) = (places.last_mut(), self.function(address)) {
            last.function = function.to_owned();
        }
        places
    }

    /// Returns the full path of the function that contains an address.
    fn function(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|(start, ..)| *start <= address);
        let (_, end, name) = self.functions.get(behind.checked_sub(1)?)?;
        (address < *end).then_some(name.as_str())
    }

    /// Returns the return addresses of a stack, the innermost first. `word` returns the word at an address of
    /// the stack, if it is known.
    pub fn callers(&self, failed: Registers, word: &dyn Fn(u64) -> Option<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        let mut registers = failed;
        // A return address is behind its call, which may be the last instruction of the function.
        let mut call = failed.ip;
        while found.len() < FRAMES
            && let Some(caller) = self.caller(call, registers, word)
            // Each frame must be above the one before. Otherwise the words do not belong to a stack.
            && caller.sp > registers.sp
        {
            found.push(caller.ip);
            registers = caller;
            call = caller.ip.saturating_sub(1);
        }
        found
    }

    /// Returns the registers in the caller of the function that contains `address`.
    fn caller(
        &self,
        address: u64,
        registers: Registers,
        word: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<Registers> {
        let caller = |row: &UnwindTableRow<usize>| {
            let value = |register| match register {
                X86_64::RSP => Some(registers.sp),
                X86_64::RBP => Some(registers.bp),
                _ => None,
            };
            let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else {
                return None;
            };
            let sp = value(*register)?.wrapping_add_signed(*offset);
            let RegisterRule::Offset(offset) = row.register(X86_64::RA)? else {
                return None;
            };
            let ip = word(sp.wrapping_add_signed(offset))?;
            let bp = match row.register(X86_64::RBP) {
                Some(RegisterRule::Offset(offset)) => word(sp.wrapping_add_signed(offset)).unwrap_or(0),
                _ => registers.bp,
            };
            Some(Registers { ip, sp, bp })
        };
        let mut context = UnwindContext::new();
        let row = self.eh_frame.unwind_info_for_address(
            &self.bases,
            &mut context,
            address,
            EhFrame::cie_from_offset,
        );
        if let Ok(row) = row {
            return caller(row);
        }
        let mut context = UnwindContext::new();
        let row = self.debug_frame.unwind_info_for_address(
            &self.bases,
            &mut context,
            address,
            DebugFrame::cie_from_offset,
        );
        caller(row.ok()?)
    }
}
