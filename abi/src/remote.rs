//! Frames between the remote line's domain (the guest) and a program on the operator's machine (the host), on the control line: a
//! virtio-console device, or the second serial line.
//!
//! A frame has a kind (1 byte), a number (4 bytes, little-endian) and a body (up to [`MAX_BODY`]). The CRC-32 (IEEE 802.3) of all
//! these follows (4 bytes, little-endian). COBS (Cheshire and Baker, 1999) encodes the frame, and a zero byte ends it. A zero
//! byte before a frame ends any noise. A garbled frame is dropped and counted: the guest then sends [`Kind::Garbled`], and the
//! host repeats its requests.
//!
//! The host begins with [`Kind::Hello`]: version, and a random number for its session. Each request has a number that is used
//! once in a session. The guest does not execute a repeated request: it sends [`Kind::Pending`] or the first answer again, while
//! it still knows the number ([`KNOWN`]). So the host may repeat a request as often as it likes. A session ends if the machine
//! restarts or another program sends hello. After that the host cannot know whether a request was executed.
//!
//! Neither side trusts the line: lengths are checked, and all stored data is bounded.

use alloc::vec::Vec;

/// Version of these frames. Other versions are refused.
pub const VERSION: u16 = 2;
/// Longest body of a frame in bytes. It bounds the memory of a decoder. Longer bodies would save little: a frame has 16 bytes
/// besides its body and COBS's one byte in 254.
pub const MAX_BODY: usize = 8192;
/// Bytes of a chunk of an answer.
pub const CHUNK: usize = MAX_BODY - ANSWER_HEADER;
/// Bytes before a chunk in a frame of kind [`Kind::Answer`].
pub const ANSWER_HEADER: usize = 9;
/// Numbers of past requests that the guest knows.
pub const KNOWN: usize = 64;
/// Longest frame in bytes, before it is encoded.
const MAX_FRAME: usize = HEADER + MAX_BODY + CRC;
const HEADER: usize = 5;
const CRC: usize = 4;
/// Longest frame on the line, with its zero byte: COBS adds one byte for each started block of 254.
pub const MAX_ENCODED: usize = MAX_FRAME + MAX_FRAME.div_ceil(254) + 1;

/// Kind of a frame. The host sends `Hello`, `Request` and `Cancel`; the guest sends the others, and `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`]; the number is 0. The guest answers with its own version and the present session, 0 for none. It accepts
    /// requests only in a session of its own version. It answers a request without a session with this frame too.
    Hello = 1,
    /// CBOR of a [`crate::operator::Request`].
    Request = 2,
    /// The host drops the request's answer; no body. The request may be executed nevertheless.
    Cancel = 3,
    /// [`Chunk`]: a part of the answer. The parts are sent in order.
    Answer = 4,
    /// The guest has received the request and not answered it yet; no body.
    Pending = 5,
    /// The guest has refused the request, because [`crate::operator::JOBS`] others are under way; no body. Repeat it later.
    Busy = 6,
    /// A frame was dropped; the number counts the dropped frames so far. Repeat all requests without an answer.
    Garbled = 7,
    /// The guest: a fragment of a record of a capture ([`crate::capture::line`]); the number is the capture's tag. It is not repeated.
    Captured = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [Hello, Request, Cancel, Answer, Pending, Busy, Garbled, Captured];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Status of an answer: CBOR of an [`crate::operator::Answer`].
pub const STATUS_OK: u8 = 0;
/// Status of an answer: CBOR of an [`crate::operator::Refusal`].
pub const STATUS_ERROR: u8 = 1;
/// Status of an answer: the request was answered before, and the answer is not kept any longer. No bytes.
pub const STATUS_GONE: u8 = 2;

/// Body of [`Kind::Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// See [`VERSION`].
    pub version: u16,
    /// Number of the session; never 0 if the host sends it.
    pub session: u64,
}

impl Hello {
    /// Encodes the body.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..].copy_from_slice(&self.session.to_le_bytes());
        bytes
    }

    /// Decodes a body. Ignores bytes that later versions append. Returns `None` if the body is too short.
    pub fn from_bytes(body: &[u8]) -> Option<Hello> {
        let (version, rest) = body.split_first_chunk()?;
        let session = rest.first_chunk()?;
        Some(Hello {
            version: u16::from_le_bytes(*version),
            session: u64::from_le_bytes(*session),
        })
    }
}

/// Body of [`Kind::Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// `STATUS_*`.
    pub status: u8,
    /// Bytes of the whole answer.
    pub total: u32,
    /// Offset of these bytes in the answer.
    pub offset: u32,
    /// The bytes, at most [`CHUNK`].
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Encodes the body.
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.header(), self.bytes].concat()
    }

    /// Encodes the part of the body before the bytes, for [`encode_parts`].
    pub fn header(self) -> [u8; ANSWER_HEADER] {
        let mut header = [0; ANSWER_HEADER];
        header[0] = self.status;
        header[1..5].copy_from_slice(&self.total.to_le_bytes());
        header[5..].copy_from_slice(&self.offset.to_le_bytes());
        header
    }

    /// Decodes a body. Returns `None` unless the bytes lie within the answer.
    pub fn from_bytes(body: &'a [u8]) -> Option<Chunk<'a>> {
        let (&status, rest) = body.split_first()?;
        let (total, rest) = rest.split_first_chunk()?;
        let (offset, bytes) = rest.split_first_chunk()?;
        let (total, offset) = (u32::from_le_bytes(*total), u32::from_le_bytes(*offset));
        let end = usize::try_from(offset).ok()?.checked_add(bytes.len())?;
        (end <= usize::try_from(total).ok()?).then_some(Chunk {
            status,
            total,
            offset,
            bytes,
        })
    }
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Number of the request, or the number that the kind defines.
    pub number: u32,
    /// The body.
    pub body: &'a [u8],
}

/// Encodes a frame for the line, with its zero byte. Cuts the body off after [`MAX_BODY`] bytes.
pub fn encode(kind: Kind, number: u32, body: &[u8]) -> Vec<u8> {
    encode_parts(kind, number, &[body])
}

/// Encodes a frame whose body consists of these parts, in one pass and without a copy of the body. Cuts the body off after
/// [`MAX_BODY`] bytes.
pub fn encode_parts(kind: Kind, number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum::<usize>().min(MAX_BODY);
    let mut line = Stuffed::with_capacity(HEADER + len + CRC);
    let mut crc = crc32fast::Hasher::new();
    let mut header = [0; HEADER];
    header[0] = kind as u8;
    header[1..].copy_from_slice(&number.to_le_bytes());
    crc.update(&header);
    line.push(&header);
    let mut left = len;
    for part in parts {
        let part = &part[..part.len().min(left)];
        left -= part.len();
        crc.update(part);
        line.push(part);
    }
    line.push(&crc.finalize().to_le_bytes());
    line.end()
}

/// A frame that is being encoded by COBS. A block is a code byte and up to 254 other bytes. Code 255 stands for 254 bytes; a
/// smaller code `n` for `n - 1` bytes and a zero byte. The encoder copies runs, while `cobs::encode` goes byte by
/// byte, because the guest encodes all that it sends.
struct Stuffed {
    line: Vec<u8>,
    /// Place of the block's code byte.
    code: usize,
}

/// Longest run of bytes without a zero in one block.
const RUN: usize = 254;

impl Stuffed {
    fn with_capacity(len: usize) -> Stuffed {
        let mut line = Vec::with_capacity(len + len.div_ceil(RUN) + 2);
        line.push(0);
        Stuffed { line, code: 0 }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = RUN + 1 - (self.line.len() - self.code);
            let window = &bytes[..bytes.len().min(room)];
            let run = zero(window).unwrap_or(window.len());
            self.line.extend_from_slice(&window[..run]);
            let ends = run < window.len();
            if ends || run == room {
                self.next();
            }
            bytes = &bytes[run + usize::from(ends)..];
        }
    }

    /// Ends the block and begins the next one.
    fn next(&mut self) {
        // A block has 1 to 255 bytes, its code included.
        self.line[self.code] = (self.line.len() - self.code) as u8;
        self.code = self.line.len();
        self.line.push(0);
    }

    /// Ends the last block, and the frame by its zero byte.
    fn end(mut self) -> Vec<u8> {
        self.next();
        self.line
    }
}

/// Returns the place of the first zero byte. Examines eight bytes at a time.
fn zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A bit 7 is set for each zero byte. Those above the first zero byte may be wrong.
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(8 * n + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte == 0)?;
    Some(8 * words.len() + at)
}

/// Decoder of the line: it keeps the bytes of the incomplete frame.
pub struct Decoder {
    bytes: Vec<u8>,
    too_long: bool,
    /// Frames that were dropped.
    pub garbled: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// Creates a decoder without bytes.
    pub fn new() -> Decoder {
        Decoder {
            bytes: Vec::new(),
            too_long: false,
            garbled: 0,
        }
    }

    /// Consumes bytes from the line up to the end of a frame. Returns how many bytes it consumed. If a whole frame is there,
    /// passes it to `each`, or counts it if it is garbled.
    pub fn feed(&mut self, line: &[u8], each: impl FnOnce(Frame<'_>)) -> usize {
        let end = zero(line);
        let part = &line[..end.unwrap_or(line.len())];
        if self.bytes.len() + part.len() < MAX_ENCODED {
            self.bytes.extend_from_slice(part);
        } else {
            self.too_long = true;
        }
        let Some(end) = end else { return line.len() };
        if !self.bytes.is_empty() || self.too_long {
            match read(&mut self.bytes).filter(|_| !self.too_long) {
                Some(frame) => each(frame),
                None => self.garbled = self.garbled.wrapping_add(1),
            }
        }
        self.bytes.clear();
        self.too_long = false;
        end + 1
    }
}

fn read(encoded: &mut [u8]) -> Option<Frame<'_>> {
    let len = cobs::decode_in_place(encoded).ok()?;
    let (content, crc) = encoded.get(..len)?.split_last_chunk()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (&kind, rest) = content.split_first()?;
    let (number, body) = rest.split_first_chunk()?;
    (body.len() <= MAX_BODY).then_some(Frame {
        kind: Kind::of(kind)?,
        number: u32::from_le_bytes(*number),
        body,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds a text in pieces. Returns all frames in it.
    fn frames(decoder: &mut Decoder, line: &[u8], piece: usize) -> Vec<(Kind, u32, Vec<u8>)> {
        let mut found = Vec::new();
        for mut part in line.chunks(piece) {
            while !part.is_empty() {
                let taken = decoder.feed(part, |f| found.push((f.kind, f.number, f.body.to_vec())));
                assert!(taken > 0);
                part = &part[taken..];
            }
        }
        found
    }

    #[test]
    fn noise_costs_no_more_than_the_frame_that_it_hits() {
        let mut decoder = Decoder::new();
        let mut line = b"\x01boot noise\xff\0".to_vec();
        line.extend(encode(Kind::Request, 7, b"one"));
        let hit = line.len() + 3;
        line.extend(encode(Kind::Request, 8, b"two"));
        line.extend(encode(Kind::Request, 9, &[0; MAX_BODY]));
        line[hit] ^= 0x40;
        let expected = [
            (Kind::Request, 7, b"one".to_vec()),
            (Kind::Request, 9, vec![0; MAX_BODY]),
        ];
        for piece in [1, 5, 4096] {
            decoder.garbled = 0;
            assert_eq!(frames(&mut decoder, &line, piece), expected);
            assert_eq!(decoder.garbled, 2);
        }
    }

    #[test]
    fn an_endless_frame_is_one_dropped_frame() {
        let mut decoder = Decoder::new();
        let mut line = vec![7; 10 * MAX_ENCODED];
        line.push(0);
        line.extend(encode(Kind::Cancel, 1, b""));
        assert_eq!(frames(&mut decoder, &line, 100), [(Kind::Cancel, 1, vec![])]);
        assert_eq!(decoder.garbled, 1);
    }

    #[test]
    fn a_chunk_outside_of_its_answer_is_none() {
        let chunk = Chunk {
            status: 0,
            total: 5,
            offset: 3,
            bytes: b"xy",
        };
        assert_eq!(Chunk::from_bytes(&chunk.to_bytes()), Some(chunk));
        assert_eq!(Chunk::from_bytes(&Chunk { offset: 4, ..chunk }.to_bytes()), None);
        assert_eq!(
            Chunk::from_bytes(
                &Chunk {
                    offset: u32::MAX,
                    ..chunk
                }
                .to_bytes()
            ),
            None
        );
        assert_eq!(
            Hello::from_bytes(
                &Hello {
                    version: 1,
                    session: 9
                }
                .to_bytes()
            )
            .unwrap()
            .session,
            9
        );
        assert_eq!(Hello::from_bytes(&[0; 9]), None);
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(number: u32, body in proptest::collection::vec(any::<u8>(), 0..=MAX_BODY), piece in 1..300_usize) {
            let line = encode(Kind::Answer, number, &body);
            prop_assert!(line.len() <= MAX_ENCODED && line.iter().filter(|b| **b == 0).count() == 1);
            prop_assert_eq!(frames(&mut Decoder::new(), &line, piece), [(Kind::Answer, number, body)]);
        }

        /// Runs of all lengths around the length of a block, split at any place: the lines are those of the crate `cobs`.
        #[test]
        fn frames_are_encoded_as_by_cobs(
            runs in proptest::collection::vec((0..600_usize, any::<u8>()), 0..12), number: u32, split in 0..9000_usize,
        ) {
            let mut body: Vec<u8> = Vec::new();
            for (len, byte) in runs {
                body.extend(core::iter::repeat_n(byte, len));
                body.push(0);
            }
            body.truncate(MAX_BODY);
            let mut frame = vec![Kind::Answer as u8];
            frame.extend(number.to_le_bytes());
            frame.extend(&body);
            frame.extend(crc32fast::hash(&frame).to_le_bytes());
            let mut expected = vec![0; cobs::max_encoding_length(frame.len()) + 1];
            let len = cobs::encode(&frame, &mut expected);
            expected.truncate(len);
            expected.push(0);
            let (a, b) = body.split_at(split.min(body.len()));
            let line = encode_parts(Kind::Answer, number, &[a, b]);
            prop_assert!(line.len() <= MAX_ENCODED);
            prop_assert_eq!(line, expected);
        }

        #[test]
        fn the_first_zero_byte_is_found(bytes in proptest::collection::vec(0..3_u8, 0..40)) {
            prop_assert_eq!(zero(&bytes), bytes.iter().position(|byte| *byte == 0));
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1..300_usize) {
            let mut decoder = Decoder::new();
            frames(&mut decoder, &bytes, piece);
            let mut end = vec![0];
            end.extend(encode(Kind::Pending, 3, b""));
            prop_assert_eq!(frames(&mut decoder, &end, piece), [(Kind::Pending, 3, vec![])]);
        }
    }
}
