//! Address space of one protection domain: the program's pages with patched words, the stack, the IPC buffer,
//! and the check for overlaps. Addresses and symbols are those of Microkit 2.3.

use std::collections::HashMap;

use initialiser_spec::{PAGE_SIZE, READ, SMALL_PAGE_BITS, USER_TOP, WRITE};

use crate::Error;
use crate::elf::{PageBytes, Program, write_bytes};
use crate::plan::{MapAt, Plan, RegionId};

/// Address of the IPC buffer's page, the highest page.
pub const IPC_BUFFER: u64 = 0x7fff_ffff_e000;
/// Initial stack pointer. A page that is never mapped lies between the stack and the IPC buffer.
pub const STACK_TOP: u64 = 0x7fff_ffff_d000;

/// Bytes to write into a program before it runs.
#[derive(Clone, Debug)]
pub struct Patch {
    pub address: u64,
    pub bytes: Vec<u8>,
}

/// Regions of read-only pages that protection domains of one program share, by first content page and length.
#[derive(Default)]
pub struct Shared(HashMap<(u32, u32), RegionId>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Content page shared by all domains of the program.
    Shared(u32),
    /// Content page of this domain alone.
    Private(u32),
    /// A zeroed page.
    Fresh,
}

/// The address space of one protection domain under construction.
pub struct Layout {
    pd: String,
    used: Vec<(u64, u64, String)>,
    /// Mappings so far.
    pub maps: Vec<MapAt>,
}

impl Layout {
    /// Returns an empty address space.
    pub fn new(pd: &str) -> Self {
        Layout {
            pd: pd.into(),
            used: Vec::new(),
            maps: Vec::new(),
        }
    }

    /// Maps a memory region.
    pub fn map(&mut self, at: MapAt, size: u64, what: String) {
        self.used.push((at.vaddr, at.vaddr.saturating_add(size), what));
        self.maps.push(at);
    }

    /// Maps stack and IPC buffer between unmapped pages. Returns the IPC buffer's region.
    pub fn stack_and_ipc_buffer(&mut self, plan: &mut Plan, stack_size: u64) -> RegionId {
        let page = PAGE_SIZE as u64;
        let rights = READ | WRITE;
        let stack = plan.fresh_region(
            &format!("stack of {}", self.pd),
            SMALL_PAGE_BITS,
            (stack_size / page) as u32,
        );
        let bottom = STACK_TOP - stack_size;
        self.maps.push(MapAt {
            vaddr: bottom,
            region: stack,
            rights,
            cached: true,
        });
        // The page below the stack must stay unmapped to catch an overflow.
        self.used.push((
            bottom - page,
            USER_TOP,
            "the stack, its guard page and the IPC buffer".into(),
        ));
        let ipc = plan.fresh_region(&format!("IPC buffer of {}", self.pd), SMALL_PAGE_BITS, 1);
        self.maps.push(MapAt {
            vaddr: IPC_BUFFER,
            region: ipc,
            rights,
            cached: true,
        });
        ipc
    }

    /// Maps the program. Read-only pages without patches are shared with all domains, others are private.
    pub fn program(&mut self, plan: &mut Plan, shared: &mut Shared, program: &Program, patches: &[Patch]) {
        let page = PAGE_SIZE as u64;
        let mut pages = program.pages.clone();
        let mut patched = std::collections::BTreeSet::new();
        for patch in patches {
            let first = patch.address & !(page - 1);
            patched.extend((first..patch.address + patch.bytes.len() as u64).step_by(PAGE_SIZE));
            write_bytes(&mut pages, patch.address, &patch.bytes);
        }
        let name = program
            .path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        for segment in &program.segments {
            let end = segment.end.next_multiple_of(page);
            self.used
                .push((segment.start & !(page - 1), end, format!("a segment of {name}")));
        }
        let zero: &PageBytes = &[0; PAGE_SIZE];
        let mut runs: Vec<(u64, u32, Kind, u8)> = Vec::new();
        for (&address, content) in &pages {
            let kind = match (content.writable, *content.bytes == *zero) {
                (true, true) => Kind::Fresh,
                (true, false) => Kind::Private(plan.content.private(&content.bytes)),
                (false, _) if patched.contains(&address) => {
                    Kind::Private(plan.content.private(&content.bytes))
                }
                (false, _) => Kind::Shared(plan.content.shared(&content.bytes)),
            };
            let rights = if content.writable { READ | WRITE } else { READ };
            match runs.last_mut() {
                Some((start, count, run, run_rights))
                    if *start + u64::from(*count) * page == address
                        && *run_rights == rights
                        && follows(*run, *count, kind) =>
                {
                    *count += 1;
                }
                _ => runs.push((address, 1, kind, rights)),
            }
        }
        for (vaddr, count, kind, rights) in runs {
            let region = match kind {
                Kind::Fresh => {
                    plan.fresh_region(&format!("zeroed data of {}", self.pd), SMALL_PAGE_BITS, count)
                }
                Kind::Private(first) => plan.image_region(&format!("data of {}", self.pd), first, count),
                Kind::Shared(first) => *shared
                    .0
                    .entry((first, count))
                    .or_insert_with(|| plan.image_region(&name, first, count)),
            };
            self.maps.push(MapAt {
                vaddr,
                region,
                rights,
                cached: true,
            });
        }
    }

    /// Refuses overlaps, and mappings outside user addresses.
    pub fn check(&mut self) -> Result<(), Error> {
        self.used.sort_by_key(|used| used.0);
        for (start, end, what) in &self.used {
            if *end > USER_TOP || end <= start {
                let (pd, what) = (self.pd.clone(), what.clone());
                return Err(Error::Range {
                    pd,
                    what,
                    start: *start,
                    end: *end,
                    limit: USER_TOP,
                });
            }
        }
        for pair in self.used.windows(2) {
            let [
                (first_start, first_end, first),
                (second_start, second_end, second),
            ] = pair
            else {
                continue;
            };
            if first_end > second_start {
                return Err(Error::Overlap {
                    pd: self.pd.clone(),
                    first: first.clone(),
                    first_start: *first_start,
                    first_end: *first_end,
                    second: second.clone(),
                    second_start: *second_start,
                    second_end: *second_end,
                });
            }
        }
        Ok(())
    }
}

/// Returns true if a page of this kind continues a run of `count` pages that began with `run`.
fn follows(run: Kind, count: u32, kind: Kind) -> bool {
    match (run, kind) {
        (Kind::Fresh, Kind::Fresh) => true,
        (Kind::Shared(first), Kind::Shared(next)) | (Kind::Private(first), Kind::Private(next)) => {
            first + count == next
        }
        _ => false,
    }
}
