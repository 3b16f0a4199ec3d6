//! What the remote line's domain and a program on the operator's machine say to each other over the second serial line.
//!
//! Frames: kind (1 byte), number (4, little-endian), body (up to [`MAX_BODY`]), CRC-32 (IEEE 802.3) of all that (4, little-endian),
//! encoded by COBS (Cheshire and Baker, 1999), a zero byte behind it. A zero byte before a frame ends what noise there was.
//! A garbled frame is dropped and counted: the guest then sends [`Kind::Garbled`], and the host asks again.
//!
//! The host begins with [`Kind::Hello`]: version, and a number for its session, which it draws at random. Each request has
//! a number that is not used twice in a session. A request that comes a second time is not done a second time: the guest says
//! [`Kind::Pending`] or sends the same answer again, as long as it knows the number ([`KNOWN`]). So the host repeats a request
//! for as long as it likes; after the end of a session (the machine was started anew, another program said hello) it
//! cannot know whether a request was done.
//!
//! Nobody trusts the line: lengths are checked, and what is kept is bounded.

use alloc::vec::Vec;

/// Version of all this. Others are refused.
pub const VERSION: u16 = 1;
/// Longest body of a frame in bytes.
pub const MAX_BODY: usize = 1024;
/// Bytes of a chunk of an answer.
pub const CHUNK: usize = MAX_BODY - ANSWER_HEADER;
/// Bytes before a chunk in a frame of kind [`Kind::Answer`].
pub const ANSWER_HEADER: usize = 9;
/// Numbers of past requests that the guest knows.
pub const KNOWN: usize = 64;
/// Longest frame as it is before it is encoded.
const MAX_FRAME: usize = HEADER + MAX_BODY + CRC;
const HEADER: usize = 5;
const CRC: usize = 4;
/// Longest frame on the line, with its zero byte: COBS adds one byte for each 254 begun.
pub const MAX_ENCODED: usize = MAX_FRAME + MAX_FRAME.div_ceil(254) + 1;

/// What a frame is. Host to guest: `Hello`, `Request`, `Cancel`; guest to host: the others, and `Hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`]; the number is 0. The guest answers with its own version and the session that is in force, 0 for none: it
    /// takes requests only in a session of its own version. To a request without a session it says the same.
    Hello = 1,
    /// CBOR of a [`crate::operator::Request`].
    Request = 2,
    /// The host wants no answer any more; no body. What was asked for may happen all the same.
    Cancel = 3,
    /// [`Chunk`]: a part of the answer. They come in order.
    Answer = 4,
    /// The request has come and is not answered yet; no body.
    Pending = 5,
    /// The request has come and is not taken, because [`crate::operator::JOBS`] others wait; no body. Ask again later.
    Busy = 6,
    /// A frame was dropped; the number is how many were so far. Repeat requests that nothing was heard of.
    Garbled = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Kind> {
        use Kind::*;
        let all = [Hello, Request, Cancel, Answer, Pending, Busy, Garbled];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Status of an answer: CBOR of an [`crate::operator::Answer`].
pub const STATUS_OK: u8 = 0;
/// Status of an answer: CBOR of an [`crate::operator::Refusal`].
pub const STATUS_ERROR: u8 = 1;
/// Status of an answer: the request was answered before, and the answer is not kept any more. No bytes.
pub const STATUS_GONE: u8 = 2;

/// Body of [`Kind::Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// See [`VERSION`].
    pub version: u16,
    /// The session; never 0 from the host.
    pub session: u64,
}

impl Hello {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&self.version.to_le_bytes());
        bytes[2..].copy_from_slice(&self.session.to_le_bytes());
        bytes
    }

    /// Out of a body. What later versions append is not looked at.
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
    /// Where these are in it.
    pub offset: u32,
    /// The bytes, at most [`CHUNK`].
    pub bytes: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// As bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(ANSWER_HEADER + self.bytes.len());
        body.push(self.status);
        body.extend_from_slice(&self.total.to_le_bytes());
        body.extend_from_slice(&self.offset.to_le_bytes());
        body.extend_from_slice(self.bytes);
        body
    }

    /// Out of a body; `None` unless the bytes lie within the answer.
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

/// A frame as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// The request's number, or what the kind says.
    pub number: u32,
    /// The body.
    pub body: &'a [u8],
}

/// A frame for the line, zero byte and all. Of a body longer than [`MAX_BODY`] only so much goes into it.
pub fn encode(kind: Kind, number: u32, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(MAX_BODY)];
    let mut frame = Vec::with_capacity(HEADER + body.len() + CRC);
    frame.push(kind as u8);
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(body);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_le_bytes());
    let mut line = alloc::vec![0; cobs::max_encoding_length(frame.len()) + 1];
    let len = cobs::encode(&frame, &mut line);
    line.truncate(len);
    line.push(0);
    line
}

/// What is received, as far as it has come.
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
    /// Nothing has come yet.
    pub fn new() -> Decoder {
        Decoder {
            bytes: Vec::new(),
            too_long: false,
            garbled: 0,
        }
    }

    /// Takes bytes from the line up to the end of a frame, and says how many that was. If a whole frame has come, `each` gets
    /// it; one that is garbled is counted instead.
    pub fn feed(&mut self, line: &[u8], each: impl FnOnce(Frame<'_>)) -> usize {
        let end = line.iter().position(|byte| *byte == 0);
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

    /// All frames in a text, fed in pieces.
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
