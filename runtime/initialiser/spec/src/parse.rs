//! Parser of a description in place, with one check of everything. The root task uses it. The builder that
//! wrote the bytes is trusted, but they may be damaged.

use core::fmt;

use zerocopy::FromBytes;

use crate::records::*;
use crate::{CNODE_BITS, CNODE_ROOT_BITS, LARGE_PAGE_BITS, PAGE_SIZE, SMALL_PAGE_BITS, USER_TOP};

/// A checked description: every index and range in it is within its table.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// The fixed part.
    pub header: &'a Header,
    pub pds: &'a [Pd],
    pub regions: &'a [Region],
    /// Mappings. Each protection domain has a run of them.
    pub mappings: &'a [Mapping],
    /// Capabilities. Each protection domain has a run of them.
    pub caps: &'a [Cap],
    pub irqs: &'a [Irq],
    /// Objects to create.
    pub batches: &'a [Batch],
    strings: &'a [u8],
}

/// Reason why a description was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It does not begin with the magic bytes.
    Magic,
    /// It has another version, which is given.
    Version(u32),
    /// A table reaches beyond the end.
    Truncated,
    /// An entry of the named table, with its index, refers outside another table or has an invalid value.
    Entry(&'static str, usize),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Magic => f.write_str("the image carries no system description"),
            ParseError::Version(found) => {
                write!(
                    f,
                    "the system description has version {found}, expected {}",
                    Header::VERSION
                )
            }
            ParseError::Truncated => f.write_str("the system description is cut short"),
            ParseError::Entry(table, index) => {
                write!(f, "the system description's {table} {index} makes no sense")
            }
        }
    }
}

fn table<'a, T>(bytes: &mut &'a [u8], count: zerocopy::little_endian::U32) -> Result<&'a [T], ParseError>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable,
{
    let (table, rest) =
        <[T]>::ref_from_prefix_with_elems(bytes, count.get() as usize).map_err(|_| ParseError::Truncated)?;
    *bytes = rest;
    Ok(table)
}

fn within(run: Run, len: usize) -> bool {
    run.first.get() as u64 + run.count.get() as u64 <= len as u64
}

impl<'a> Spec<'a> {
    /// Parses a description that may use content pages 0 to `pages - 1`.
    pub fn parse(mut bytes: &'a [u8], pages: usize) -> Result<Self, ParseError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        if header.magic != Header::MAGIC {
            return Err(ParseError::Magic);
        }
        if header.version.get() != Header::VERSION {
            return Err(ParseError::Version(header.version.get()));
        }
        bytes = rest;
        let spec = Spec {
            header,
            pds: table(&mut bytes, header.counts[0])?,
            regions: table(&mut bytes, header.counts[1])?,
            mappings: table(&mut bytes, header.counts[2])?,
            caps: table(&mut bytes, header.counts[3])?,
            irqs: table(&mut bytes, header.counts[4])?,
            batches: table(&mut bytes, header.counts[5])?,
            strings: table(&mut bytes, header.counts[6])?,
        };
        spec.check(pages)?;
        Ok(spec)
    }

    /// Returns the length of the description at the start of `bytes`, according to its tables.
    pub fn length(bytes: &[u8]) -> Result<usize, ParseError> {
        let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated)?;
        let sizes = [
            size_of::<Pd>(),
            size_of::<Region>(),
            size_of::<Mapping>(),
            size_of::<Cap>(),
            size_of::<Irq>(),
            size_of::<Batch>(),
            1,
        ];
        let mut length = size_of::<Header>();
        for (count, size) in header.counts.iter().zip(sizes) {
            length = (count.get() as usize)
                .checked_mul(size)
                .and_then(|table| length.checked_add(table))
                .ok_or(ParseError::Truncated)?;
        }
        match length <= bytes.len() {
            true => Ok(length),
            false => Err(ParseError::Truncated),
        }
    }

    /// Returns the text at `run` in the string table.
    pub fn text(&self, run: Run) -> &'a str {
        core::str::from_utf8(&self.strings[run.range()]).unwrap_or("?")
    }

    fn check(&self, pages: usize) -> Result<(), ParseError> {
        let slots = self.header.slots.get() as usize;
        let slot = |s: u32| (s as usize) < slots;
        let slot_or_none = |s: u32| s == NONE || slot(s);
        let h = self.header;
        if ![h.pdpts, h.page_directories, h.page_tables]
            .iter()
            .all(|run| within(*run, slots))
            || !slot(h.monitor_endpoint.get())
        {
            return Err(ParseError::Entry("header", 0));
        }
        for (i, batch) in self.batches.iter().enumerate() {
            let known = Object::from_u8(batch.object).is_some_and(|o| o.size_bits() == batch.size_bits);
            if !known || !within(batch.slots, slots) {
                return Err(ParseError::Entry("batch", i));
            }
        }
        for (i, region) in self.regions.iter().enumerate() {
            if !self.region_is_sound(region, slots, pages) {
                return Err(ParseError::Entry("region", i));
            }
        }
        for (i, mapping) in self.mappings.iter().enumerate() {
            if !self.mapping_is_sound(mapping) {
                return Err(ParseError::Entry("mapping", i));
            }
        }
        for (i, cap) in self.caps.iter().enumerate() {
            let target = cap.target.get() as usize;
            let sound = match CapKind::from_u8(cap.kind) {
                Some(CapKind::Endpoint) => self.pds.get(target).is_some_and(|pd| pd.endpoint.get() != NONE),
                Some(CapKind::Notification | CapKind::VSpace | CapKind::Tcb) => target < self.pds.len(),
                Some(CapKind::Monitor | CapKind::IoPorts) => true,
                None => false,
            };
            let upper = cap.slot.get().wrapping_sub(Cap::ROOT_SLOT);
            if !sound || (cap.slot.get() >= 1 << CNODE_BITS && upper >= 1 << CNODE_ROOT_BITS) {
                return Err(ParseError::Entry("capability", i));
            }
        }
        for (i, irq) in self.irqs.iter().enumerate() {
            if irq.pd.get() as usize >= self.pds.len() || irq.slot.get() >= 1 << CNODE_BITS {
                return Err(ParseError::Entry("interrupt", i));
            }
        }
        for (i, pd) in self.pds.iter().enumerate() {
            let sound = within(pd.name, self.strings.len())
                && core::str::from_utf8(&self.strings[pd.name.range()]).is_ok()
                && within(pd.mappings, self.mappings.len())
                && within(pd.caps, self.caps.len())
                && self.regions.get(pd.ipc_region.get() as usize).is_some_and(|r| {
                    r.source == Source::Fresh as u8 && r.page_bits == SMALL_PAGE_BITS && r.pages.get() == 1
                })
                && [pd.tcb, pd.pml4, pd.cnode, pd.notification]
                    .iter()
                    .all(|s| slot(s.get()))
                && [pd.cnode_root, pd.endpoint].iter().all(|s| slot_or_none(s.get()));
            if !sound {
                return Err(ParseError::Entry("protection domain", i));
            }
        }
        Ok(())
    }

    fn region_is_sound(&self, region: &Region, slots: usize, pages: usize) -> bool {
        let own = Run {
            first: region.first,
            count: region.pages,
        };
        let (Some(source), Some(fill)) = (Source::from_u8(region.source), Fill::from_u8(region.fill)) else {
            return false;
        };
        let small = region.page_bits == SMALL_PAGE_BITS;
        let bytes = (region.pages.get() as u64) << region.page_bits.min(LARGE_PAGE_BITS);
        let place = match source {
            Source::Fresh => within(own, slots),
            Source::Fixed => {
                within(own, slots)
                    && region
                        .paddr
                        .get()
                        .checked_add(bytes)
                        .is_some_and(|end| end <= 1 << 47)
                    && region.paddr.get() & ((1u64 << region.page_bits.min(LARGE_PAGE_BITS)) - 1) == 0
            }
            Source::Image => small && within(own, pages),
        };
        let content = match fill {
            Fill::None => true,
            Fill::TscFrequency => region.pages.get() > 0 && source != Source::Image,
            Fill::Copy => {
                source != Source::Image
                    && u64::from(region.content_len.get()) <= bytes
                    && (region.content.get() as usize)
                        .checked_add((region.content_len.get() as usize).div_ceil(PAGE_SIZE))
                        .is_some_and(|end| end <= pages)
            }
        };
        within(region.name, self.strings.len())
            && core::str::from_utf8(&self.strings[region.name.range()]).is_ok()
            && (small || region.page_bits == LARGE_PAGE_BITS)
            && place
            && content
    }

    fn mapping_is_sound(&self, mapping: &Mapping) -> bool {
        let Some(region) = self.regions.get(mapping.region.get() as usize) else {
            return false;
        };
        let bytes = u64::from(mapping.pages.count.get()) << region.page_bits;
        within(mapping.pages, region.pages.get() as usize)
            && mapping.vaddr.get() & ((1u64 << region.page_bits) - 1) == 0
            && mapping
                .vaddr
                .get()
                .checked_add(bytes)
                .is_some_and(|end| end <= USER_TOP)
            && mapping.rights & !(READ | WRITE) == 0
            && mapping.rights & READ != 0
    }
}
