//! How many writers' text becomes one screen. Knows nothing of devices and rings: bytes are arguments.
//!
//! The writers are not trusted: what they send is text of no authority. Control characters of log lines are replaced, so
//! that a log cannot move the cursor or imitate another writer's line, and a line that is too long is cut.
#![no_std]

/// Longest log line in bytes; the rest of a longer one is printed as a line of its own.
pub const LINE: usize = 240;
/// Bytes that wait for the device at most.
pub const QUEUE: usize = 16 * 1024;

/// Bytes on their way to the device. What finds no room is dropped and counted.
pub struct Queue {
    bytes: [u8; QUEUE],
    head: usize,
    len: usize,
    /// Bytes that found no room.
    pub dropped: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            bytes: [0; QUEUE],
            head: 0,
            len: 0,
            dropped: 0,
        }
    }
}

impl Queue {
    /// Appends.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.len == QUEUE {
                self.dropped += 1;
                continue;
            }
            self.bytes[(self.head + self.len) % QUEUE] = *byte;
            self.len += 1;
        }
    }

    /// The next byte for the device.
    pub fn pop(&mut self) -> Option<u8> {
        (self.len != 0).then(|| {
            let byte = self.bytes[self.head];
            self.head = (self.head + 1) % QUEUE;
            self.len -= 1;
            byte
        })
    }

    /// Bytes that can be appended without loss.
    pub fn room(&self) -> usize {
        QUEUE - self.len
    }
}

/// One writer's line, as far as it has come.
#[derive(Clone, Copy)]
pub struct LineBuffer {
    bytes: [u8; LINE],
    len: usize,
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self {
            bytes: [0; LINE],
            len: 0,
        }
    }
}

impl LineBuffer {
    /// Takes text; each line that is complete (or full) goes to `out` behind the writer's name.
    pub fn feed(&mut self, name: &str, text: &[u8], mut out: impl FnMut(&[u8])) {
        for byte in text {
            match *byte {
                b'\n' => self.end(name, &mut out),
                byte => {
                    if self.len == LINE {
                        self.end(name, &mut out);
                    }
                    let visible = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                    self.bytes[self.len] = if visible { byte } else { b'?' };
                    self.len += 1;
                }
            }
        }
    }

    fn end(&mut self, name: &str, out: &mut impl FnMut(&[u8])) {
        for part in [b"[", name.as_bytes(), b"] ", &self.bytes[..self.len], b"\r\n"] {
            out(part);
        }
        self.len = 0;
    }
}
