//! The description under construction, and its encoding. The root task reads it at boot through
//! `initialiser-spec`.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use initialiser_spec::*;

/// The tables of a description under construction.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The fixed part. [`Tables::to_bytes`] fills in magic, version and counts.
    pub header: Header,
    pub pds: Vec<Pd>,
    pub regions: Vec<Region>,
    pub mappings: Vec<Mapping>,
    pub caps: Vec<Cap>,
    pub irqs: Vec<Irq>,
    /// Objects to create.
    pub batches: Vec<Batch>,
    strings: Vec<u8>,
}

impl Tables {
    /// Adds a text to the string table.
    pub fn text(&mut self, text: &str) -> Run {
        let run = Run::new(self.strings.len(), text.len());
        self.strings.extend_from_slice(text.as_bytes());
        run
    }

    /// Encodes the description in the form that [`Spec::parse`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header.magic = Header::MAGIC;
        header.version = U32::new(Header::VERSION);
        header.counts = [
            self.pds.len(),
            self.regions.len(),
            self.mappings.len(),
            self.caps.len(),
            self.irqs.len(),
            self.batches.len(),
            self.strings.len(),
        ]
        .map(|count| U32::new(count as u32));
        let mut bytes = header.as_bytes().to_vec();
        for table in [
            self.pds.as_bytes(),
            self.regions.as_bytes(),
            self.mappings.as_bytes(),
            self.caps.as_bytes(),
            self.irqs.as_bytes(),
            self.batches.as_bytes(),
            &self.strings,
        ] {
            bytes.extend_from_slice(table);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::little_endian::U64;

    /// Number of content pages and slots that the tables below may refer to.
    const PAGES: usize = 16;
    const SLOTS: u32 = 32;

    prop_compose! {
        fn region()(
            source in 0..3u8,
            fill in 0..3u8,
            large in any::<bool>(),
            pages in 1..8u32,
            first in 0..8u32,
            content_len in 0..0x1000u32,
        ) -> Region {
            let is_image = source == Source::Image as u8;
            Region {
                name: Run::new(0, 4),
                source,
                page_bits: if large && !is_image { LARGE_PAGE_BITS } else { SMALL_PAGE_BITS },
                fill: if is_image { Fill::None as u8 } else { fill },
                reserved: 0,
                pages: U32::new(pages),
                first: U32::new(first),
                paddr: U64::new(0x4000_0000),
                content: U32::new(0),
                content_len: U32::new(content_len),
            }
        }
    }

    prop_compose! {
        fn cap()(slot in 0..512u32, kind in 0..6u8, rights in 0..8u8, target in 0..2u32, data in any::<u64>()) -> Cap {
            let (slot, target, data) = (U32::new(slot), U32::new(target), U64::new(data));
            Cap { slot, kind, rights, reserved: [0; 2], target, data }
        }
    }

    prop_compose! {
        fn mapping(regions: Vec<Region>)(
            which in any::<prop::sample::Index>(),
            place in 0..1000u64,
            write in any::<bool>(),
        ) -> Mapping {
            let region = which.index(regions.len());
            Mapping {
                vaddr: U64::new(place << LARGE_PAGE_BITS),
                region: U32::new(region as u32),
                pages: Run { first: U32::new(0), count: regions[region].pages },
                rights: if write { READ | WRITE } else { READ },
                cached: 1,
                copy: 0,
                reserved: 0,
            }
        }
    }

    /// Generates valid tables with two protection domains.
    fn tables() -> impl Strategy<Value = Tables> {
        use proptest::collection::vec;
        let regions = vec(region(), 1..6);
        let lists = regions.prop_flat_map(|regions| (vec(mapping(regions.clone()), 0..8), Just(regions)));
        (lists, vec(cap(), 0..8)).prop_map(|((mappings, mut regions), caps)| {
            let ipc_region = U32::new(regions.len() as u32);
            regions.push(Region {
                source: Source::Fresh as u8,
                page_bits: SMALL_PAGE_BITS,
                fill: Fill::None as u8,
                pages: U32::new(1),
                ..regions[0]
            });
            let slot = U32::new(1);
            let pd = Pd {
                name: Run::new(0, 4),
                priority: 1,
                reserved: [0; 3],
                entry: U64::new(0x20_0000),
                stack_top: U64::new(0x1000),
                ipc_buffer: U64::new(0x2000),
                ipc_region,
                mappings: Run::new(0, mappings.len()),
                caps: Run::new(0, caps.len()),
                tcb: slot,
                pml4: slot,
                cnode: slot,
                cnode_root: U32::new(NONE),
                notification: slot,
                endpoint: slot,
            };
            let mut tables = Tables {
                pds: vec![pd; 2],
                regions,
                mappings,
                caps,
                ..Tables::default()
            };
            tables.text("name");
            tables.header.slots = U32::new(SLOTS);
            tables
        })
    }

    proptest! {
        #[test]
        fn sound_tables_come_back(tables in tables()) {
            let bytes = tables.to_bytes();
            let spec = Spec::parse(&bytes, PAGES).unwrap();
            prop_assert_eq!(spec.pds, &tables.pds[..]);
            prop_assert_eq!(spec.regions, &tables.regions[..]);
            prop_assert_eq!(spec.mappings, &tables.mappings[..]);
            prop_assert_eq!(spec.caps, &tables.caps[..]);
            prop_assert_eq!(spec.text(spec.regions[0].name), "name");
        }

        #[test]
        fn one_reference_out_of_range_is_refused(tables in tables(), kind in 0..6u8) {
            let mut tables = tables;
            match kind {
                0 => tables.pds[1].mappings = Run::new(1, tables.mappings.len()),
                1 => tables.pds[1].tcb = U32::new(SLOTS),
                2 => tables.pds[1].ipc_region = U32::new(tables.regions.len() as u32),
                3 => tables.regions[0].first = U32::new(SLOTS),
                4 => tables.regions[0].name = Run::new(2, 3),
                _ => tables.pds[1].caps = Run::new(tables.caps.len(), 1),
            }
            prop_assert!(Spec::parse(&tables.to_bytes(), PAGES).is_err());
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            tables in tables(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = tables.to_bytes();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = Spec::parse(&bytes[..cut.index(bytes.len() + 1)], PAGES);
            let _ = Spec::parse(&bytes, PAGES);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut tables = Tables::default();
        tables.header.slots = U32::new(1);
        let good = tables.to_bytes();
        assert!(Spec::parse(&good, 0).is_ok());
        assert_eq!(Spec::parse(&[], 0).unwrap_err(), ParseError::Truncated);
        let mut other = good.clone();
        other[0] ^= 1;
        assert_eq!(Spec::parse(&other, 0).unwrap_err(), ParseError::Magic);
        let mut other = good.clone();
        other[8] = 200;
        assert_eq!(Spec::parse(&other, 0).unwrap_err(), ParseError::Version(200));
        tables.header.slots = U32::new(0);
        assert_eq!(
            Spec::parse(&tables.to_bytes(), 0).unwrap_err(),
            ParseError::Entry("header", 0)
        );
    }
}
