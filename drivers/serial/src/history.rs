//! Owns the last lines of each writer, so that an operator can read them later. Each writer has its own memory, so a writer that
//! logs much pushes out its own lines only. The text has passed [`crate::Screen`]'s rules: it is printable.

use brane_abi::log::{Level, LineHeader, MAX_TEXT};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of one writer's lines, headers included: about 25 lines of usual length.
pub const SIZE: usize = 2048;
const HEADER: usize = size_of::<LineHeader>();
const _: () = assert!(HEADER + MAX_TEXT <= SIZE);

/// The last lines of one writer: a ring of bytes, the oldest line at `start`.
pub struct History {
    bytes: [u8; SIZE],
    start: usize,
    len: usize,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// Creates an empty history.
    pub const fn new() -> Self {
        Self {
            bytes: [0; SIZE],
            start: 0,
            len: 0,
        }
    }

    /// Keeps a line. Removes the oldest lines if there is no room.
    pub fn push(&mut self, number: u64, at_ns: u64, level: Level, text: &str) {
        let text = &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)];
        let header = LineHeader {
            number,
            at_ns,
            level: level.to_byte().into(),
            len: text.len() as u32,
        };
        // Each turn removes a line, and an empty history has room for any line.
        while SIZE - self.len < HEADER + text.len() {
            let oldest = HEADER + self.header(0).len as usize;
            self.start = (self.start + oldest) % SIZE;
            self.len -= oldest;
        }
        self.append(header.as_bytes());
        self.append(text);
    }

    /// Copies the lines with numbers above `after` to the front of `out`, the oldest first. Copies as many whole lines
    /// as fit. Returns their length in bytes.
    pub fn read(&self, after: u64, out: &mut [u8]) -> usize {
        let (mut at, mut written) = (0, 0);
        while at < self.len {
            let header = self.header(at);
            let size = HEADER + header.len as usize;
            if header.number > after {
                let Some(place) = out.get_mut(written..written + size) else {
                    break;
                };
                self.copy(at, place);
                written += size;
            }
            at += size;
        }
        written
    }

    fn append(&mut self, bytes: &[u8]) {
        let at = (self.start + self.len) % SIZE;
        let first = bytes.len().min(SIZE - at);
        self.bytes[at..at + first].copy_from_slice(&bytes[..first]);
        self.bytes[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.len += bytes.len();
    }

    /// Copies the bytes that begin `at` bytes behind the oldest.
    fn copy(&self, at: usize, out: &mut [u8]) {
        let at = (self.start + at) % SIZE;
        let first = out.len().min(SIZE - at);
        let (head, tail) = out.split_at_mut(first);
        head.copy_from_slice(&self.bytes[at..at + first]);
        tail.copy_from_slice(&self.bytes[..tail.len()]);
    }

    fn header(&self, at: usize) -> LineHeader {
        let mut bytes = [0; HEADER];
        self.copy(at, &mut bytes);
        LineHeader::read_from_bytes(&bytes).unwrap_or(LineHeader {
            number: 0,
            at_ns: 0,
            level: 0,
            len: 0,
        })
    }
}
