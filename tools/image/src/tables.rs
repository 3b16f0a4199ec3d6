//! The description under construction, and its bytes. Read at boot by the root task, through `initialiser-spec`.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use initialiser_spec::*;

/// The tables of a description under construction.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The fixed part; magic, version and counts are filled in by [`Tables::to_bytes`].
    pub header: Header,
    /// Protection domains.
    pub pds: Vec<Pd>,
    /// Regions.
    pub regions: Vec<Region>,
    /// Mappings.
    pub mappings: Vec<Mapping>,
    /// Capabilities.
    pub caps: Vec<Cap>,
    /// Interrupts.
    pub irqs: Vec<Irq>,
    /// Objects to make.
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

    /// The description in the bytes that [`Spec::parse`] reads.
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

    fn region() -> impl Strategy<Value = Region> {
        (0..3u8, 0..3u8, any::<bool>(), 0..8u32, 0..8u32, 0..0x4000u32).prop_map(
            |(source, fill, large, pages, first, content_len)| Region {
                name: Run::new(0, 4),
                source,
                page_bits: if large { LARGE_PAGE_BITS } else { SMALL_PAGE_BITS },
                fill,
                reserved: 0,
                pages: U32::new(pages),
                first: U32::new(first),
                paddr: zerocopy::little_endian::U64::new(0x4000_0000),
                content: U32::new(0),
                content_len: U32::new(content_len),
            },
        )
    }

    fn cap() -> impl Strategy<Value = Cap> {
        (0..0x1_0080u32, 0..7u8, 0..8u8, 0..3u32, any::<u64>()).prop_map(
            |(slot, kind, rights, target, data)| Cap {
                slot: U32::new(slot),
                kind,
                rights,
                reserved: [0; 2],
                target: U32::new(target),
                data: data.into(),
            },
        )
    }

    fn mapping() -> impl Strategy<Value = Mapping> {
        (0..0x4_0000u64, 0..4u32, 0..4usize, 0..4usize, 0..5u8).prop_map(
            |(page, region, first, count, rights)| Mapping {
                vaddr: (page << 12).into(),
                region: U32::new(region),
                pages: Run::new(first, count),
                rights,
                cached: 1,
                copy: 0,
                reserved: 0,
            },
        )
    }

    fn tables() -> impl Strategy<Value = Tables> {
        use proptest::collection::vec;
        let lists = (vec(region(), 0..4), vec(mapping(), 0..6), vec(cap(), 0..6));
        (lists, 0..24u32).prop_map(|((regions, mappings, caps), slots)| {
            let mut tables = Tables {
                regions,
                mappings,
                caps,
                ..Tables::default()
            };
            tables.text("name");
            tables.header.slots = U32::new(slots);
            tables
        })
    }

    proptest! {
        #[test]
        fn what_is_accepted_comes_back_and_is_in_range(tables in tables(), pages in 0..8usize) {
            let bytes = tables.to_bytes();
            if let Ok(spec) = Spec::parse(&bytes, pages) {
                prop_assert_eq!(spec.regions, &tables.regions[..]);
                prop_assert_eq!(spec.mappings, &tables.mappings[..]);
                prop_assert_eq!(spec.caps, &tables.caps[..]);
                for mapping in spec.mappings {
                    let region = &spec.regions[mapping.region.get() as usize];
                    prop_assert!(mapping.pages.range().end <= region.pages.get() as usize);
                    let limit = if region.source == Source::Image as u8 { pages } else { tables.header.slots.get() as usize };
                    prop_assert!((region.first.get() + region.pages.get()) as usize <= limit);
                    prop_assert_eq!(spec.text(region.name), "name");
                }
            }
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
            let _ = Spec::parse(&bytes[..cut.index(bytes.len() + 1)], 4);
            let _ = Spec::parse(&bytes, 4);
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
