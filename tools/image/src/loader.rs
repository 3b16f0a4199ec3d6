//! The image file: root task, description and content pages as one static ELF file with one loadable segment.
//! The kernel's boot code requires this form of a user image.

use std::io::Write;
use std::path::Path;

use initialiser_spec::{PAGE_SIZE, PAYLOAD_SYMBOL, Payload};
use object::elf::*;
use object::endian::{LittleEndian as LE, U16, U32, U64};

use crate::Error;
use crate::elf::Program;
use crate::plan::Finished;

/// The kernel maps the user image and two pages after it below this address.
const IMAGE_LIMIT: usize = 1 << 30;

/// Combines the root task and the finished plan.
pub fn link(root_task: &Program, plan: &Finished) -> Result<Vec<u8>, Error> {
    let refuse = |what: String| Error::Elf {
        path: root_task.path.clone(),
        what,
    };
    let size = std::mem::size_of::<Payload>() as u64;
    let payload_at = root_task.symbol("the root task", PAYLOAD_SYMBOL, &[size])?;
    let (Some(&first), Some(&last)) = (root_task.pages.keys().next(), root_task.pages.keys().next_back())
    else {
        return Err(refuse("has no loadable segment".into()));
    };
    let own = (last - first) as usize + PAGE_SIZE;
    let spec_pages = plan.spec.len().div_ceil(PAGE_SIZE);
    let total = own + (spec_pages + plan.content.pages().len()) * PAGE_SIZE;
    if total > IMAGE_LIMIT {
        return Err(refuse(format!("the image would have {} MiB", total >> 20)));
    }
    let mut memory = vec![0; total];
    for (address, page) in &root_task.pages {
        let at = (address - first) as usize;
        memory[at..at + PAGE_SIZE].copy_from_slice(&page.bytes[..]);
    }
    memory[own..own + plan.spec.len()].copy_from_slice(&plan.spec);
    let pages_at = own + spec_pages * PAGE_SIZE;
    for (page, place) in plan
        .content
        .pages()
        .iter()
        .zip(memory[pages_at..].chunks_mut(PAGE_SIZE))
    {
        place.copy_from_slice(&page[..]);
    }
    let payload = Payload {
        image_start: first,
        spec_start: first + own as u64,
        spec_len: plan.spec.len() as u64,
        pages_start: first + pages_at as u64,
        pages: plan.content.pages().len() as u64,
    };
    for (i, word) in payload.words().into_iter().enumerate() {
        let at = (payload_at - first) as usize + 8 * i;
        memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    Ok(elf_file(first, root_task.entry, &memory))
}

fn elf_file(start: u64, entry: u64, memory: &[u8]) -> Vec<u8> {
    let header_size = std::mem::size_of::<FileHeader64<LE>>();
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
        e_version: U32::new(LE, u32::from(EV_CURRENT.0)),
        e_entry: U64::new(LE, entry),
        e_phoff: U64::new(LE, header_size as u64),
        e_shoff: U64::new(LE, 0),
        e_flags: U32::new(LE, FileFlags(0)),
        e_ehsize: U16::new(LE, header_size as u16),
        e_phentsize: U16::new(LE, std::mem::size_of::<ProgramHeader64<LE>>() as u16),
        e_phnum: U16::new(LE, 1),
        e_shentsize: U16::new(LE, 0),
        e_shnum: U16::new(LE, 0),
        e_shstrndx: U16::new(LE, object::elf::SymbolSection(0)),
    };
    let segment = ProgramHeader64::<LE> {
        p_type: U32::new(LE, PT_LOAD),
        p_flags: U32::new(LE, PF_R | PF_W | PF_X),
        p_offset: U64::new(LE, PAGE_SIZE as u64),
        p_vaddr: U64::new(LE, start),
        p_paddr: U64::new(LE, start),
        p_filesz: U64::new(LE, memory.len() as u64),
        p_memsz: U64::new(LE, memory.len() as u64),
        p_align: U64::new(LE, PAGE_SIZE as u64),
    };
    let mut file = Vec::with_capacity(PAGE_SIZE + memory.len());
    file.extend_from_slice(object::pod::bytes_of(&header));
    file.extend_from_slice(object::pod::bytes_of(&segment));
    file.resize(PAGE_SIZE, 0);
    file.extend_from_slice(memory);
    file
}

/// Writes a file atomically: it is complete, or the old file remains.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let refuse = |cause| Error::Write {
        path: path.into(),
        cause,
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".image")
        .tempfile_in(folder)
        .map_err(refuse)?;
    file.write_all(bytes).map_err(refuse)?;
    // The mode of a new file, or that of the replaced file.
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).map_or(0o644, |old| old.permissions().mode());
    file.as_file()
        .set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(refuse)?;
    file.persist(path).map_err(|cause| refuse(cause.error))?;
    Ok(())
}
