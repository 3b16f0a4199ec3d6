//! The profile of a request: the instructions and kernel entries that each protection domain spends on it.
//!
//! Owns: the kernel's addresses that the plugin needs, and the way from a page-table root to the name of a
//! domain. On the other side: the kernel's and the programs' ELF files, which are this project's own, and the
//! guest's RAM, which the guest writes. If a page table leads nowhere, or a name belongs to no domain, then a
//! domain has no name.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::protocol::{EntryPoint, Line};
use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

use crate::counters::Spent;
use crate::guest::Guest;
use crate::load::quantile;
use crate::quick::Quick;

/// Variable in which seL4 keeps the value of CR3.
const ROOT: &str = "x64KSCurrentCR3";
/// Symbols at which system calls enter seL4.
const CALLS: [&str; 2] = ["handle_fastsyscall", "handle_syscall"];
/// Symbol at which the idle thread waits.
const IDLE: &str = "idle_thread";
/// Beginning of the names of the interrupt vectors' entries. The number follows in two hexadecimal digits.
const VECTOR: &str = "int_";
/// Vectors below this number are exceptions of the processor.
const EXCEPTIONS: u64 = 0x20;
/// Variable of a program that has the domain's name. The image builder fills it in.
const NAME: &str = "microkit_name";
/// Size of a domain's name in bytes.
const NAME_LEN: usize = 64;
/// Upper half of the kernel's addresses. A 32-bit ELF file has only the lower halves.
const HIGH_HALF: u64 = 0xffff_ffff_0000_0000;

/// Addresses of a kernel for the plugin.
pub struct Kernel {
    /// Physical address of the variable with the value of CR3.
    pub root: u64,
    /// List of addresses as text.
    pub places: String,
}

impl Kernel {
    /// Reads the addresses from the kernel's ELF file.
    pub fn read(path: &Path) -> Result<Kernel> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
        let symbols: BTreeMap<&str, u64> = file
            .symbols()
            .filter_map(|symbol| Some((symbol.name().ok()?, symbol.address())))
            .collect();
        let find = |name: &str| {
            let found = symbols.get(name).copied();
            found.with_context(|| format!("the kernel {} has no symbol {name}", path.display()))
        };
        let root = find(ROOT)?;
        // Physical and virtual addresses of the kernel differ by a constant within each segment.
        let root = physical(&file, root).with_context(|| format!("{ROOT} lies in no segment"))?;
        let full = |address: u64| match file.is_64() {
            true => address,
            false => address | HIGH_HALF,
        };
        let mut places = Line(EntryPoint::Idle, full(find(IDLE)?)).to_string();
        for name in CALLS {
            places += &Line(EntryPoint::Call, full(find(name)?)).to_string();
        }
        for (name, address) in &symbols {
            if let Some(vector) = vector(name) {
                let place = if vector < EXCEPTIONS {
                    EntryPoint::Fault
                } else {
                    EntryPoint::Interrupt
                };
                places += &Line(place, full(*address)).to_string();
            }
        }
        Ok(Kernel { root, places })
    }
}

/// Returns the number of the vector whose entry has this name.
fn vector(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(VECTOR)?;
    (digits.len() == 2).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Returns the physical address at which the boot loader places a virtual one.
fn physical(file: &object::File<'_>, address: u64) -> Option<u64> {
    use object::read::elf::ProgramHeader;
    let within = |start: u64, size: u64| address.checked_sub(start).filter(|offset| *offset < size);
    match file {
        object::File::Elf32(elf) => elf.elf_program_headers().iter().find_map(|header| {
            let endian = elf.endian();
            let offset = within(header.p_vaddr(endian).into(), header.p_memsz(endian).into())?;
            Some(u64::from(header.p_paddr(endian)) + offset)
        }),
        object::File::Elf64(elf) => elf.elf_program_headers().iter().find_map(|header| {
            let endian = elf.endian();
            let offset = within(header.p_vaddr(endian), header.p_memsz(endian))?;
            Some(header.p_paddr(endian) + offset)
        }),
        _ => None,
    }
}

/// Returns the address of the domain's name in a program.
pub fn name_address(program: &Path) -> Result<u64> {
    let bytes = std::fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", program.display()))?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(NAME));
    symbol
        .map(|symbol| symbol.address())
        .with_context(|| format!("{} has no symbol {NAME}", program.display()))
}

/// Names of domains, found in the guest's RAM.
pub struct Names {
    memory: File,
    /// Address of each domain's name in its address space.
    domains: BTreeMap<String, u64>,
}

impl Names {
    /// Opens the guest's RAM. `domains` has the name of each domain, and the address at which its program keeps
    /// the name.
    pub fn new(memory: &Path, domains: BTreeMap<String, u64>) -> Result<Names> {
        let memory = File::open(memory).with_context(|| format!("opening {}", memory.display()))?;
        Ok(Names { memory, domains })
    }

    /// Returns the name of the domain with this page-table root.
    pub fn of(&self, root: u64) -> Option<&str> {
        let named = |(name, address): (&String, &u64)| {
            let mut bytes = [0; NAME_LEN];
            self.read(self.translate(root, *address)?, &mut bytes)?;
            let text = bytes.split(|byte| *byte == 0).next()?;
            text.eq(name.as_bytes()).then_some(())
        };
        self.domains
            .iter()
            .find(|domain| named(*domain).is_some())
            .map(|(name, _)| name.as_str())
    }

    /// Walks the page tables as the processor does. Returns the physical address.
    fn translate(&self, root: u64, address: u64) -> Option<u64> {
        const PRESENT: u64 = 1;
        const LARGE: u64 = 1 << 7;
        const FRAME: u64 = 0x000f_ffff_ffff_f000;
        let mut table = root & FRAME;
        for shift in [39, 30, 21, 12] {
            let mut entry = [0; 8];
            self.read(table + (address >> shift & 0x1ff) * 8, &mut entry)?;
            let entry = u64::from_le_bytes(entry);
            if entry & PRESENT == 0 {
                return None;
            }
            if shift == 12 || shift <= 30 && entry & LARGE != 0 {
                let offset = (1 << shift) - 1;
                return Some(entry & FRAME & !offset | address & offset);
            }
            table = entry & FRAME;
        }
        None
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Option<()> {
        self.memory.read_exact_at(bytes, at).ok()
    }
}

impl Spent {
    fn between(before: &Spent, after: &Spent) -> Spent {
        Spent {
            user: after.user - before.user,
            kernel: after.kernel - before.kernel,
            calls: after.calls - before.calls,
            interrupts: after.interrupts - before.interrupts,
            faults: after.faults - before.faults,
            switches: after.switches - before.switches,
        }
    }

    /// Returns the median of each part.
    fn median(of: &[Spent]) -> Spent {
        let part = |part: fn(&Spent) -> u64| {
            quantile(&of.iter().map(part).collect::<Vec<_>>(), 0.5).unwrap_or_default()
        };
        Spent {
            user: part(|spent| spent.user),
            kernel: part(|spent| spent.kernel),
            calls: part(|spent| spent.calls),
            interrupts: part(|spent| spent.interrupts),
            faults: part(|spent| spent.faults),
            switches: part(|spent| spent.switches),
        }
    }

    pub fn sum<'a>(of: impl IntoIterator<Item = &'a Spent>) -> Spent {
        of.into_iter().fold(Spent::default(), |sum, one| Spent {
            user: sum.user + one.user,
            kernel: sum.kernel + one.kernel,
            calls: sum.calls + one.calls,
            interrupts: sum.interrupts + one.interrupts,
            faults: sum.faults + one.faults,
            switches: sum.switches + one.switches,
        })
    }
}

/// Cost of a request in each domain, by its name. The kernel's idle thread is called `idle`.
pub type Profile = BTreeMap<String, Spent>;

/// Makes the profile of a request of the quick count: the median of each part over many requests, each sent to
/// an idle guest.
pub fn take(guest: &Guest, names: &Names, request: &Quick) -> Result<Profile> {
    let mut snapshots = vec![guest.counters().domains()?];
    request.each(guest, |_| {
        snapshots.push(guest.counters().domains()?);
        Ok(())
    })?;
    let domains = snapshots.last().context("there are no samples")?;
    let mut profile = Profile::new();
    for (index, domain) in domains.iter().enumerate() {
        let samples: Vec<Spent> = snapshots
            .windows(2)
            .filter_map(|pair| match pair {
                [before, after] => Some(Spent::between(
                    &before.get(index)?.spent,
                    &after.get(index)?.spent,
                )),
                _ => None,
            })
            .collect();
        let spent = Spent::median(&samples);
        if spent != Spent::default() {
            let name = match index {
                0 => "idle".to_owned(),
                _ => names
                    .of(domain.root)
                    .map_or_else(|| format!("{:#x}", domain.root), str::to_owned),
            };
            profile.insert(name, spent);
        }
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_told_by_their_names() {
        assert_eq!((vector("int_0e"), vector("int_ff")), (Some(14), Some(255)));
        for other in ["int_", "int_100", "int_xy", "print_10", "int_1"] {
            assert_eq!(vector(other), None, "{other}");
        }
    }

    /// Returns RAM with two address spaces. At 0x400000 one has a small page with the name `a`, the other a
    /// large page with `b`.
    fn names() -> Names {
        let file = tempfile::tempfile().unwrap();
        let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
        let entry = |table: u64, index: u64, value: u64| put(table + index * 8, &value.to_le_bytes());
        file.set_len(0x80_0000).unwrap();
        for (root, last) in [(0x1000, 0x5001), (0x11000, 0x60_0081)] {
            entry(root, 0, (root + 0x1000) | 1);
            entry(root + 0x1000, 0, (root + 0x2000) | 1);
            let directory = root + 0x2000;
            match last & 0x80 {
                0 => {
                    entry(directory, 2, (root + 0x3000) | 1);
                    entry(root + 0x3000, 0, last);
                }
                _ => entry(directory, 2, last),
            }
        }
        put(0x5000, b"a\0");
        put(0x60_0000, b"b\0");
        let domains = ["a", "b", "c"].map(|name| (name.to_owned(), 0x40_0000));
        Names {
            memory: file,
            domains: domains.into(),
        }
    }

    #[test]
    fn a_domain_is_named_by_its_page_tables() {
        let names = names();
        assert_eq!(names.of(0x1000), Some("a"));
        // The low bits of CR3 are no part of the address.
        assert_eq!(names.of(0x11000 | 7), Some("b"));
        for wrong in [0x3000, 0x20_0000, u64::MAX] {
            assert_eq!(names.of(wrong), None, "{wrong:#x}");
        }
    }

    #[test]
    fn the_median_of_a_part_is_its_own() {
        let spent = |user, calls| Spent {
            user,
            calls,
            ..Spent::default()
        };
        let median = Spent::median(&[spent(1, 30), spent(2, 10), spent(90, 20)]);
        assert_eq!(median, spent(2, 20));
        assert_eq!(Spent::sum(&[spent(1, 2), spent(3, 4)]), spent(4, 6));
    }
}
