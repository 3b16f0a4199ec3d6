//! Extracts the description from a finished image, for checks of what the root task will read.
//!
//! The file may contain anything. Files that are not our images are refused.

use std::path::Path;

use initialiser_spec::{Header, PAGE_SIZE, ParseError, Payload, Spec};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::Error;
use crate::elf::read;

/// The description in an image, as the root task finds it.
pub struct Description {
    /// Its bytes, for [`Spec::parse`].
    pub bytes: Vec<u8>,
    /// Number of content pages after it.
    pub pages: usize,
}

impl Description {
    /// Extracts the description from an image file.
    ///
    /// # Errors
    /// The file is not one of our images.
    pub fn of(image: &Path) -> Result<Description, Error> {
        let bytes = read(image)?;
        Description::find(&bytes).map_err(|what| Error::Elf {
            path: image.into(),
            what,
        })
    }

    /// Parses the description.
    ///
    /// # Errors
    /// The root task would refuse the description.
    pub fn spec(&self) -> Result<Spec<'_>, ParseError> {
        Spec::parse(&self.bytes, self.pages)
    }

    fn find(file: &[u8]) -> Result<Description, String> {
        let header = FileHeader64::<Endianness>::parse(file).map_err(|cause| cause.to_string())?;
        let endian = header.endian().map_err(|cause| cause.to_string())?;
        let segments = header
            .program_headers(endian, file)
            .map_err(|cause| cause.to_string())?;
        let [segment] = segments else {
            return Err("is no image of this builder: it has not one segment".into());
        };
        let start = segment.p_vaddr(endian);
        let memory = match segment.data(endian, file) {
            Ok(memory) if segment.p_type(endian) == PT_LOAD => memory,
            _ => return Err("is no image of this builder: its segment is cut short".into()),
        };
        // Both begin at a page boundary after the root task. The words by which the root task finds them are
        // part of it.
        let begins = |at: &usize| memory[*at..].starts_with(&Header::MAGIC);
        for at in (0..memory.len()).step_by(PAGE_SIZE).filter(begins) {
            let Ok(length) = Spec::length(&memory[at..]) else {
                continue;
            };
            let pages_at = at + length.next_multiple_of(PAGE_SIZE);
            let Some(content) = memory.len().checked_sub(pages_at) else {
                continue;
            };
            let payload = Payload {
                image_start: start,
                spec_start: start + at as u64,
                spec_len: length as u64,
                pages_start: start + pages_at as u64,
                pages: (content / PAGE_SIZE) as u64,
            };
            let words = payload.words().map(u64::to_le_bytes).concat();
            if (0..at)
                .step_by(8)
                .any(|place| memory[place..].starts_with(&words))
            {
                return Ok(Description {
                    bytes: memory[at..at + length].to_vec(),
                    pages: content / PAGE_SIZE,
                });
            }
        }
        Err("is no image of this builder: it has no description that its root task would find".into())
    }
}
