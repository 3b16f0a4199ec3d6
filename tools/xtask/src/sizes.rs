//! The verb `sizes`: sizes of each program, the kernel and the image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSegment, SectionFlags, SegmentFlags, elf};

use crate::cli::BuildOptions;
use crate::image;
use crate::workspace::Workspace;

/// Bytes of an ELF file by their kind in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    code: u64,
    constants: u64,
    data: u64,
    zeroed: u64,
}

pub fn sizes(workspace: &Workspace, options: &BuildOptions) -> Result<()> {
    let target = options.target()?;
    let resolved = image::resolve(workspace, &options.config, target.iommu)?;
    target.check()?;
    let built = image::build(workspace, resolved, target)?;
    println!(
        "{:<20} {:>9} {:>9} {:>9} {:>9}   {:>9}",
        "bytes", "code", "constants", "data", "zeroed", "instances"
    );
    let programs = &built.programs;
    for (name, path) in &programs.domains {
        let domains = &built.resolved.system.protection_domains;
        let instances = domains.iter().filter(|pd| pd.program == *name).count();
        row(name, measure(path)?, &instances.to_string());
    }
    if let Some(root_task) = &programs.root_task {
        row("root task", measure(root_task)?, "1");
    }
    row("kernel", measure(&built.kernel)?, "1");
    let image = fs::metadata(&built.image).with_context(|| format!("reading {}", built.image.display()))?;
    println!("\nimage file {} bytes; {}", image.len(), built.report);
    Ok(())
}

fn row(name: &str, sizes: Sizes, instances: &str) {
    let Sizes {
        code,
        constants,
        data,
        zeroed,
    } = sizes;
    println!("{name:<20} {code:>9} {constants:>9} {data:>9} {zeroed:>9}   {instances:>9}");
}

fn measure(path: &Path) -> Result<Sizes> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
    // A section of constants may be marked as writable because of the sections that it was linked from. The
    // mapping of its segment decides.
    let read_only: Vec<_> = file
        .segments()
        .filter(|segment| match segment.flags() {
            SegmentFlags::Elf { p_flags, .. } => p_flags & elf::PF_W != elf::PF_W,
            _ => false,
        })
        .map(|segment| segment.address()..segment.address() + segment.size())
        .collect();
    let mut sizes = Sizes::default();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        let has = |flag: elf::SectionFlags| sh_flags & flag == flag;
        let place = match () {
            () if !has(elf::SHF_ALLOC) => continue,
            () if has(elf::SHF_EXECINSTR) => &mut sizes.code,
            () if !has(elf::SHF_WRITE) || read_only.iter().any(|r| r.contains(&section.address())) => {
                &mut sizes.constants
            }
            () if section.kind() == object::SectionKind::UninitializedData => &mut sizes.zeroed,
            () => &mut sizes.data,
        };
        *place += section.size();
    }
    Ok(sizes)
}
