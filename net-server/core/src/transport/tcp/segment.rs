//! Fields of a TCP header that the stack decides by before smoltcp sees the segment.
//!
//! Segments come from any host. [`Segment::read`] checks lengths and checksum; nothing else of a segment is trusted. Nothing here
//! panics, whatever the bytes.

use crate::headers::wire::TCP_HEADER;
use crate::headers::{Packet, Reason};
use smoltcp::wire::IpAddress;

/// Largest shift count of a window scale option (RFC 7323, 2.3).
const LARGEST_SCALE: u8 = 14;

/// A whole TCP segment in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub src: IpAddress,
    /// Receiver.
    pub dst: IpAddress,
    /// Sender's port.
    pub src_port: u16,
    /// Receiver's port.
    pub dst_port: u16,
    /// First byte of the TCP header, from the frame's start.
    pub header: usize,
    /// First byte of the payload, from the frame's start.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
    /// The flags.
    pub flags: u8,
}

impl Segment {
    /// Reads the segment in a packet. Checks its lengths, and its checksum if that is needed.
    pub fn read(packet: &Packet<'_>) -> Result<Segment, Reason> {
        let header = packet.bytes().first_chunk::<TCP_HEADER>();
        let header = header.ok_or(Reason::Truncated)?;
        let len = usize::from(header[12] >> 4) * 4;
        if len < TCP_HEADER || len > packet.len {
            return Err(Reason::Length);
        }
        if !packet.intact && !packet.has_checksum(packet.len) {
            return Err(Reason::Checksum);
        }
        Ok(Segment {
            src: packet.src,
            dst: packet.dst,
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            header: packet.payload,
            payload: packet.payload + len,
            len: packet.len - len,
            flags: header[13],
        })
    }
}

/// Sequence and acknowledgement numbers of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number of the first byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgement number; means nothing without the flag ACK.
    pub ack: u32,
}

impl Numbers {
    /// Reads them from the frame that `segment` was found in.
    pub fn of(frame: &[u8], segment: &Segment) -> Numbers {
        let word = |at: usize| {
            let bytes = frame
                .get(segment.header + at..)
                .and_then(|rest| rest.first_chunk());
            u32::from_be_bytes(bytes.copied().unwrap_or_default())
        };
        Numbers {
            seq: word(4),
            ack: word(8),
        }
    }
}

/// Returns true if sequence number `a` is at `b` or behind it (RFC 9293, 3.4).
pub fn at_or_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// Options of a SYN that the brane heeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Largest segment that the peer takes, in bytes (RFC 9293, 3.7.1).
    pub mss: u16,
    /// The peer's window scale (RFC 7323, 2.2). `None` if the peer scales no windows.
    pub scale: Option<u8>,
    /// The peer takes selective acknowledgements (RFC 2018, 2).
    pub sack: bool,
}

/// What holds without the option (RFC 9293, 3.7.1).
const DEFAULT_MSS: u16 = 536;

impl Default for Options {
    fn default() -> Options {
        Options {
            mss: DEFAULT_MSS,
            scale: None,
            sack: false,
        }
    }
}

impl Options {
    /// Reads the options of a SYN. A list that is cut or malformed counts up to the defect, as smoltcp has it.
    pub fn of(frame: &[u8], segment: &Segment) -> Options {
        let mut options = Options::default();
        let mut list = frame
            .get(segment.header + TCP_HEADER..segment.payload)
            .unwrap_or_default();
        while let [kind, rest @ ..] = list {
            match kind {
                0 => break,
                1 => list = rest,
                _ => {
                    let len = rest.first().map_or(0, |len| usize::from(*len));
                    let Some(option) = list.get(..len).filter(|_| len >= 2) else {
                        break;
                    };
                    match option {
                        [2, 4, high, low] => match u16::from_be_bytes([*high, *low]) {
                            0 => {}
                            mss => options.mss = mss,
                        },
                        [3, 3, scale] => options.scale = Some((*scale).min(LARGEST_SCALE)),
                        [4, 2] => options.sack = true,
                        _ => {}
                    }
                    list = &list[len..];
                }
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smoltcp::wire::{TcpPacket, TcpRepr};
    use std::vec::Vec;

    fn segment(len: usize) -> Segment {
        let address: IpAddress = "10.0.2.2".parse().unwrap();
        Segment {
            src: address,
            dst: address,
            src_port: 1,
            dst_port: 2,
            header: 0,
            payload: len,
            len: 0,
            flags: 2,
        }
    }

    proptest! {
        /// As smoltcp reads them: the socket that comes of the SYN must see no other options than the SYN-ACK has answered.
        #[test]
        fn options_read_as_smoltcp_reads_them(
            mut header in prop::array::uniform20(any::<u8>()), words in prop::collection::vec(any::<u32>(), 0..10),
            sane in prop::collection::vec(prop_oneof![
                Just(vec![1]), Just(vec![4, 2]), any::<u8>().prop_map(|s| vec![3, 3, s]),
                any::<[u8; 2]>().prop_map(|[a, b]| vec![2, 4, a, b]), Just(vec![0]), any::<[u8; 8]>().prop_map(|v| [vec![8, 10], v.to_vec()].concat()),
            ], 0..5), chaos in any::<bool>(),
        ) {
            let mut options: Vec<u8> = if chaos {
                words.iter().flat_map(|w| w.to_be_bytes()).collect()
            } else {
                sane.concat()
            };
            options.resize(options.len().next_multiple_of(4), 0);
            options.truncate(40);
            header[2..4].copy_from_slice(&[0, 7]);
            header[..2].copy_from_slice(&[0, 7]);
            header[12] = (((20 + options.len()) / 4) << 4) as u8;
            header[13] = 2;
            let bytes = [&header[..], &options].concat();
            let mut caps = smoltcp::phy::ChecksumCapabilities::default();
            caps.tcp = smoltcp::phy::Checksum::None;
            let ours = Options::of(&bytes, &segment(bytes.len()));
            let packet = TcpPacket::new_checked(&bytes[..]).unwrap();
            let address: IpAddress = "10.0.2.2".parse().unwrap();
            if let Ok(repr) = TcpRepr::parse(&packet, &address, &address, &caps) {
                prop_assert_eq!(ours.mss, repr.max_seg_size.filter(|mss| *mss != 0).unwrap_or(536));
                prop_assert_eq!(ours.scale, repr.window_scale);
                prop_assert_eq!(ours.sack, repr.sack_permitted);
                prop_assert_eq!(Numbers::of(&bytes, &segment(bytes.len())).seq as i32, repr.seq_number.0);
            }
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..70), header in 0usize..80, payload in 0usize..80) {
            let segment = Segment { header, payload, ..segment(0) };
            Options::of(&bytes, &segment);
            Numbers::of(&bytes, &segment);
        }
    }

    #[test]
    fn sequence_numbers_compare_around_zero() {
        assert!(at_or_after(5, 5) && at_or_after(6, 5) && !at_or_after(4, 5));
        assert!(at_or_after(3, u32::MAX - 3) && !at_or_after(u32::MAX - 3, 3));
    }
}
