//! Small ELF programs, generated with the segments and symbols that a test needs.

#![allow(dead_code, reason = "each test file uses its own part")]

use object::elf::*;
use object::endian::{LittleEndian as LE, U16, U32, U64};
use object::pod::bytes_of;

/// A program under construction.
#[derive(Clone, Default)]
pub struct Elf {
    pub entry: u64,
    pub segments: Vec<Seg>,
    pub symbols: Vec<(String, u64, u64)>,
}

/// A loadable segment.
#[derive(Clone)]
pub struct Seg {
    pub vaddr: u64,
    pub data: Vec<u8>,
    pub size: u64,
    pub writable: bool,
}

impl Elf {
    /// Returns a program like the PD runtime's: code, patched words, pristine copy, data and zeroed data.
    pub fn pd() -> Self {
        let mut elf = Elf {
            entry: 0x20_0000,
            ..Elf::default()
        };
        elf.segment(0x20_0000, vec![0xf4; 0x1800], 0x1800, false);
        elf.segment(0x20_2000, vec![0; 0x100], 0x100, false);
        elf.segment(0x20_3000, vec![0; 0x40], 0x40, false);
        elf.segment(0x20_4000, (0..0x40).map(|i| i as u8 + 1).collect(), 0x2800, true);
        for (name, offset, size) in [
            ("microkit_name", 0, 64),
            ("microkit_passive", 0x40, 1),
            ("microkit_irqs", 0x48, 8),
            ("microkit_notifications", 0x50, 8),
            ("microkit_pps", 0x58, 8),
            ("microkit_ioports", 0x60, 8),
            ("variable", 0x68, 8),
        ] {
            elf.symbol(name, 0x20_2000 + offset, size);
        }
        elf.symbol("__pristine_start", 0x20_3000, 0);
        elf.symbol("__pristine_end", 0x20_3040, 0);
        elf.symbol("__data_start", 0x20_4000, 0);
        elf.symbol("__data_end", 0x20_4040, 0);
        elf
    }

    /// Returns a root task: code and the words that the builder fills in.
    pub fn root_task() -> Self {
        let mut elf = Elf {
            entry: 0x40_0000,
            ..Elf::default()
        };
        elf.segment(0x40_0000, vec![0xf4; 0x100], 0x3000, true);
        elf.symbol("initialiser_payload", 0x40_0080, 40);
        elf
    }

    pub fn segment(&mut self, vaddr: u64, data: Vec<u8>, size: u64, writable: bool) {
        self.segments.push(Seg {
            vaddr,
            data,
            size,
            writable,
        });
    }

    pub fn symbol(&mut self, name: &str, address: u64, size: u64) {
        self.symbols.push((name.into(), address, size));
    }

    pub fn without(mut self, symbol: &str) -> Self {
        self.symbols.retain(|(name, ..)| name != symbol);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let head = std::mem::size_of::<FileHeader64<LE>>();
        let ph_size = std::mem::size_of::<ProgramHeader64<LE>>();
        let mut body = vec![0; (head + ph_size * self.segments.len()).next_multiple_of(4096)];
        let mut program_headers = Vec::new();
        for seg in &self.segments {
            program_headers.push(ProgramHeader64::<LE> {
                p_type: U32::new(LE, PT_LOAD),
                p_flags: U32::new(LE, if seg.writable { PF_R | PF_W } else { PF_R | PF_X }),
                p_offset: U64::new(LE, body.len() as u64),
                p_vaddr: U64::new(LE, seg.vaddr),
                p_paddr: U64::new(LE, seg.vaddr),
                p_filesz: U64::new(LE, seg.data.len() as u64),
                p_memsz: U64::new(LE, seg.size),
                p_align: U64::new(LE, 4096),
            });
            body.extend_from_slice(&seg.data);
            body.resize(body.len().next_multiple_of(4096), 0);
        }
        let mut strings = vec![0u8];
        let zero = Sym64::<LE>::default();
        let mut table = bytes_of(&zero).to_vec();
        for (name, address, size) in &self.symbols {
            table.extend_from_slice(bytes_of(&Sym64::<LE> {
                st_name: U32::new(LE, strings.len() as u32),
                st_info: SymbolInfo::new(STB_GLOBAL, STT_OBJECT),
                st_other: SymbolOther(0),
                st_shndx: U16::new(LE, SHN_ABS),
                st_value: U64::new(LE, *address),
                st_size: U64::new(LE, *size),
            }));
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let table_at = body.len();
        body.extend_from_slice(&table);
        let strings_at = body.len();
        body.extend_from_slice(&strings);
        let sections_at = body.len();
        let section = |kind, offset: usize, size: usize, link, entry| SectionHeader64::<LE> {
            sh_name: U32::new(LE, 0),
            sh_type: U32::new(LE, kind),
            sh_flags: U64::new(LE, SectionFlags(0)),
            sh_addr: U64::new(LE, 0),
            sh_offset: U64::new(LE, offset as u64),
            sh_size: U64::new(LE, size as u64),
            sh_link: U32::new(LE, link),
            sh_info: U32::new(LE, 1),
            sh_addralign: U64::new(LE, 1),
            sh_entsize: U64::new(LE, entry),
        };
        for header in [
            section(SHT_NULL, 0, 0, 0, 0),
            section(
                SHT_SYMTAB,
                table_at,
                table.len(),
                2,
                std::mem::size_of::<Sym64<LE>>() as u64,
            ),
            section(SHT_STRTAB, strings_at, strings.len(), 0, 0),
        ] {
            body.extend_from_slice(bytes_of(&header));
        }
        let header = FileHeader64::<LE> {
            e_ident: Ident {
                magic: ELFMAG,
                class: ELFCLASS64,
                data: ELFDATA2LSB,
                version: EV_CURRENT,
                os_abi: ELFOSABI_NONE,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(LE, ET_EXEC),
            e_machine: U16::new(LE, EM_X86_64),
            e_version: U32::new(LE, 1),
            e_entry: U64::new(LE, self.entry),
            e_phoff: U64::new(LE, head as u64),
            e_shoff: U64::new(LE, sections_at as u64),
            e_flags: U32::new(LE, FileFlags(0)),
            e_ehsize: U16::new(LE, head as u16),
            e_phentsize: U16::new(LE, ph_size as u16),
            e_phnum: U16::new(LE, self.segments.len() as u16),
            e_shentsize: U16::new(LE, std::mem::size_of::<SectionHeader64<LE>>() as u16),
            e_shnum: U16::new(LE, 3),
            e_shstrndx: U16::new(LE, SymbolSection(2)),
        };
        body[..head].copy_from_slice(bytes_of(&header));
        for (i, header) in program_headers.iter().enumerate() {
            let at = head + i * ph_size;
            body[at..at + ph_size].copy_from_slice(bytes_of(header));
        }
        body
    }
}
