//! Captures: copies of the frames that pass the link level of branes' interfaces, for an operator.
//!
//! An operator requests a capture from the manager ([`crate::operator::Request::Capture`]). The manager checks the right, and tells
//! each brane concerned ([`crate::control::command::CAPTURE`]). The brane copies matching frames to the reader that the request
//! names:
//!
//! - [`Reader::Line`]: into the region `capture-N`, between brane-N (side A) and the domain remote (side B). Remote passes the
//!   records on to the operator's machine. The brane never waits: a record without room is dropped and counted.
//! - [`Reader::Query`]: into a short list in the brane, which [`crate::query::Query::Captured`] reads. The console uses it.
//!
//! The right to capture an interface is bound to the pair of interface and generation of its vif. When the interface leaves the brane, or the
//! brane is deleted, the capture of this interface ends, and a record says so. The next owner has other memory and no capture.
//!
//! The brane and remote are not trusted by the manager. Remote does not trust the brane's records: the brane can harm only what its own
//! captures show. The program on the operator's machine trusts no record.

use crate::filter::Instruction;
use crate::operator::MAX_NAME;
use alloc::string::String;
use alloc::vec::Vec;
use minicbor::{Decode, Encode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Instructions of a capture's program, at most.
pub const MAX_PROGRAM: usize = 512;
/// Instructions in one [`Stage`], at most.
pub const MAX_STAGED: usize = 32;
/// Captures in the whole system, at most.
pub const MAX_CAPTURES: usize = 4;
/// Captures that one brane takes part in, at most.
pub const BRANE_CAPTURES: usize = 2;
/// Longest CBOR text of a [`CaptureConfig`] in bytes. It limits the programs: an instruction has 5 to 13 bytes.
pub const MAX_CONFIG: usize = 2560;
/// Doorbell bit of the ring of records, towards remote.
pub const RECORD_BIT: u64 = 1;
/// Longest CBOR text of an [`Interface`] in bytes.
pub const MAX_INTERFACE: usize = 256;
/// Longest part of a frame that a capture for [`Reader::Line`] takes, in bytes: a frame that the device cuts into segments.
pub const MAX_SNAPLEN: u32 = 65_535;
/// Longest part of a frame that a capture for [`Reader::Query`] takes, in bytes.
pub const QUERY_SNAPLEN: u32 = 128;
/// Frames in one answer to [`crate::query::Query::Captured`], at most.
pub const QUERY_FRAMES: usize = 16;

/// What a capture shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Target {
    /// All interfaces of all branes, also of those that are created later.
    #[n(0)]
    All,
    /// All interfaces of the brane of this name, `lo0` included.
    #[n(1)]
    Brane(#[n(0)] String),
    /// The interface of this name in the brane of this name.
    #[n(2)]
    Interface(#[n(0)] String, #[n(1)] String),
    /// The interface that has the device of this name at present.
    #[n(3)]
    Device(#[n(0)] String),
}

/// Who reads a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Reader {
    /// The operator's machine, by the region `capture-N` and the remote line.
    #[n(0)]
    Line,
    /// The operator, by queries.
    #[n(1)]
    Query,
}

/// Link type of an interface: the program that sees its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Link {
    /// Frames begin with an Ethernet header (LINKTYPE_ETHERNET, 1).
    #[n(0)]
    Ethernet,
    /// Frames begin with the IP header (LINKTYPE_RAW, 101): `lo0`.
    #[n(1)]
    Raw,
}

/// A part of the programs of an operator's next capture, because a request cannot hold a whole program.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stage {
    /// Forgets the instructions that this operator has collected before, for both link types.
    #[n(0)]
    pub first: bool,
    /// The link type whose program gets the instructions.
    #[n(1)]
    pub link: Link,
    /// The instructions, up to [`MAX_STAGED`].
    #[n(2)]
    pub program: Vec<Instruction>,
}

/// A capture, as an operator requests it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Capture {
    /// Chosen by the operator at random. It marks the records of this capture.
    #[n(0)]
    pub tag: u32,
    /// What it shows.
    #[n(1)]
    pub target: Target,
    /// Who reads it.
    #[n(2)]
    pub reader: Reader,
    /// Bytes of each frame that are kept; [`MAX_SNAPLEN`] or [`QUERY_SNAPLEN`] at most.
    #[n(3)]
    pub snaplen: u32,
    /// Uses the programs that the operator has staged. A frame matches if the program of its link type returns another number than 0.
    /// Without a program all frames match.
    #[n(4)]
    pub staged: bool,
}

/// A capture, as the manager tells a brane.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct CaptureConfig {
    /// See [`Capture::tag`].
    #[n(0)]
    pub tag: u32,
    /// The name of the interface; `None` for all interfaces of the brane, also those that it gets later.
    #[n(1)]
    pub interface: Option<String>,
    /// See [`Capture::reader`].
    #[n(2)]
    pub reader: Reader,
    /// See [`Capture::snaplen`].
    #[n(3)]
    pub snaplen: u32,
    /// Program for frames with an Ethernet header. Empty: all match.
    #[n(4)]
    #[cbor(default)]
    pub ethernet: Vec<Instruction>,
    /// Program for packets of `lo0`. Empty: all match.
    #[n(5)]
    #[cbor(default)]
    pub raw: Vec<Instruction>,
}

/// Kinds of records in the region `capture-N`, from the brane. Meta word 0 is the kind, word 1 the capture's tag, word 2 the number of
/// the interface in the brane. For [`record::FRAME`], bit 31 of word 2 is set if the brane sent the frame.
pub mod record {
    /// CBOR [`super::Interface`]: the capture sees this interface from now on. It comes at once, and before the first frame.
    pub const INTERFACE: u32 = 1;
    /// [`super::FrameHeader`], then the bytes of the frame.
    pub const FRAME: u32 = 2;
    /// [`super::Gone`]: the capture does not see the interface any more.
    pub const GONE: u32 = 3;
    /// Bit of word 2: the brane sent the frame.
    pub const SENT: u32 = 1 << 31;
}

/// Payload of [`record::INTERFACE`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Interface {
    /// Name of the brane.
    #[n(0)]
    pub brane: String,
    /// Count of the brane's restarts.
    #[n(1)]
    pub brane_generation: u32,
    /// Name of the interface in the brane.
    #[n(2)]
    pub name: String,
    /// Name of its device.
    #[n(3)]
    pub device: String,
    /// Generation of its vif; 0 for `lo0`.
    #[n(4)]
    pub generation: u32,
    /// Its link type.
    #[n(5)]
    pub link: Link,
}

impl Interface {
    /// Returns true if its names are not longer than [`MAX_NAME`].
    pub fn is_plausible(&self) -> bool {
        [&self.brane, &self.name, &self.device]
            .iter()
            .all(|name| name.len() <= MAX_NAME)
    }
}

/// Start of the payload of [`record::FRAME`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameHeader {
    /// Nanoseconds since the boot.
    pub time_ns: u64,
    /// Frames of this interface that this capture has lost so far, because the reader was slow.
    pub dropped: u64,
    /// Length of the whole frame in bytes.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
}

/// Payload of [`record::GONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Gone {
    /// See [`FrameHeader::dropped`].
    pub dropped: u64,
    /// Frames that the program selected, with the lost ones.
    pub matched: u64,
    /// One of [`End::code`].
    pub end: u32,
    /// Zero.
    pub reserved: u32,
}

/// Why a capture has ended, for an interface or as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum End {
    /// The operator has stopped it.
    #[n(0)]
    Stopped,
    /// The interface has left the brane.
    #[n(1)]
    Moved,
    /// The brane was shut down or deleted.
    #[n(2)]
    BraneGone,
    /// The brane failed. The capture goes on when it has restarted, unless it was of a single interface.
    #[n(3)]
    BraneFailed,
}

impl End {
    /// All reasons, by their codes.
    pub const ALL: [End; 4] = [End::Stopped, End::Moved, End::BraneGone, End::BraneFailed];

    /// Returns its code in [`Gone::end`].
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// Returns the reason of a code.
    pub fn from_code(code: u32) -> Option<End> {
        End::ALL.into_iter().find(|end| end.code() == code)
    }
}

/// A frame in the answer to [`crate::query::Query::Captured`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Captured {
    /// Nanoseconds since the boot.
    #[n(0)]
    pub time_ns: u64,
    /// Name of the interface.
    #[n(1)]
    pub interface: String,
    /// Its link type.
    #[n(2)]
    pub link: Link,
    /// The brane sent it.
    #[n(3)]
    pub sent: bool,
    /// Length of the whole frame in bytes.
    #[n(4)]
    pub length: u32,
    /// Its first bytes, up to [`QUERY_SNAPLEN`].
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Records on the line to the operator's machine: bodies of [`crate::remote::Kind::Captured`], whose number is the capture's tag.
///
/// A record is a [`line::Header`] and the payload of a record of [`record`], or of [`line::TIME`]. It is sent in one or more
/// fragments, in order: [`line::Fragment`] and bytes. A gap in the sequence means that frames of the line were lost; the reader drops
/// the incomplete record, and goes on behind the next fragment that is the last one of its record.
pub mod line {
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    /// Kind of a record of remote itself: eight bytes, the present time in nanoseconds since the boot. It comes first.
    pub const TIME: u8 = 0;

    /// Start of a fragment.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    pub struct Fragment {
        /// Counts the fragments of the capture from 0 on, wrapping. Little-endian.
        pub sequence: [u8; 4],
        /// 1 for the last fragment of a record, else 0.
        pub last: u8,
    }

    /// Start of a record.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    pub struct Header {
        /// Kind: that of [`super::record`], or [`TIME`].
        pub kind: u8,
        /// Number of the brane's instance: interfaces of different branes can have one number.
        pub instance: u8,
        /// Number of the interface in the brane.
        pub interface: u8,
        /// 1 if the brane sent the frame, else 0.
        pub sent: u8,
    }
}
