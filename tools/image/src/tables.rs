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
