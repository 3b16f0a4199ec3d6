//! Outputs of a capture: a pcapng file, lines, or JSON.
//!
//! Owns the writer. A name or frame in the output comes from a brane, which is not trusted: names are made printable.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use brane_abi::capture::{Interface, Link};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use operator_cli::capture::Frame as Shown;
use operator_cli::table_layout::printable;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use super::records::Frame;

/// Value of the option if_tsresol: units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;
/// Direction in the option epb_flags: received or sent.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// Counts of an interface at the end of its capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that were written.
    pub captured: u64,
    /// Frames that the brane dropped because the reader was slow.
    pub dropped: u64,
    /// Frames that the program selected, with the dropped ones.
    pub matched: u64,
}

/// A place for the frames of a capture. Interfaces have the numbers 0, 1, 2 and so on in their order.
pub trait Output {
    /// Adds an interface.
    fn interface(&mut self, interface: &Interface) -> io::Result<()>;
    /// Adds a frame. `time` is the time since 1970, and `lost` the frames that were lost before it.
    fn frame(&mut self, frame: &Frame, of: &Interface, time: Duration, lost: u64) -> io::Result<()>;
    /// Adds the counts of an interface at its end.
    fn statistics(&mut self, interface: usize, counts: Counts, time: Duration) -> io::Result<()>;
    /// Writes what was collected, so that the reader of the output sees it.
    fn flush(&mut self) -> io::Result<()>;
}

/// A pcapng section (draft-ietf-opsawg-pcapng).
pub struct Pcapng<W: Write> {
    writer: PcapNgWriter<W>,
    snaplen: u32,
}

fn failed(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(cause) => cause,
        other => io::Error::other(other),
    }
}

/// Orders the halves of a time in a block of statistics. The format puts the upper half first, whatever the order of the bytes in a half
/// is. The crate writes one number of 64 bits in little-endian order.
fn halves(time: Duration) -> u64 {
    nanoseconds(time).rotate_left(32)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<W: Write> Pcapng<W> {
    /// Begins the section. `snaplen` is the number of bytes of each frame that are kept.
    pub fn new(writer: W, snaplen: u32) -> io::Result<Pcapng<W>> {
        let program = format!("branectl {}", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(program.into())],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(writer, section).map_err(failed)?;
        writer.get_mut().flush()?;
        Ok(Pcapng { writer, snaplen })
    }

    fn block(&mut self, block: impl PcapNgBlock<'static>) -> io::Result<()> {
        self.writer.write_block(&block.into_block()).map_err(failed)?;
        Ok(())
    }
}

impl<W: Write> Output for Pcapng<W> {
    fn interface(&mut self, interface: &Interface) -> io::Result<()> {
        let description = format!(
            "brane {} (restart {}), device {} (generation {})",
            interface.brane, interface.brane_generation, interface.device, interface.generation
        );
        self.block(InterfaceDescriptionBlock {
            linktype: match interface.link {
                Link::Ethernet => DataLink::ETHERNET,
                Link::Raw => DataLink::RAW,
            },
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(printable(&name(interface)).into()),
                InterfaceDescriptionOption::IfDescription(printable(&description).into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })
    }

    fn frame(&mut self, frame: &Frame, _: &Interface, time: Duration, lost: u64) -> io::Result<()> {
        let direction = if frame.sent { OUTBOUND } else { INBOUND };
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        if lost > 0 {
            options.push(EnhancedPacketOption::DropCount(lost));
        }
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(frame.interface).map_err(io::Error::other)?,
            timestamp: time,
            original_len: frame.length,
            data: Cow::Borrowed(&frame.bytes),
            options,
        };
        self.writer.write_block(&block.into_block()).map_err(failed)?;
        Ok(())
    }

    fn statistics(&mut self, interface: usize, counts: Counts, time: Duration) -> io::Result<()> {
        self.block(InterfaceStatisticsBlock {
            interface_id: u32::try_from(interface).map_err(io::Error::other)?,
            timestamp: halves(time),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(counts.matched),
                InterfaceStatisticsOption::IsbIfDrop(counts.dropped),
                InterfaceStatisticsOption::IsbUsrDeliv(counts.captured),
            ],
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

/// A line for each frame.
pub struct Lines<W: Write> {
    writer: W,
    json: bool,
    zone: TimeZone,
}

impl<W: Write> Lines<W> {
    /// Creates the output. With `json`, each line is an object.
    pub fn new(writer: W, json: bool) -> Lines<W> {
        Lines {
            writer,
            json,
            zone: TimeZone::system(),
        }
    }
}

impl<W: Write> Output for Lines<W> {
    fn interface(&mut self, _: &Interface) -> io::Result<()> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, of: &Interface, time: Duration, _: u64) -> io::Result<()> {
        let at = i128::from(nanoseconds(time));
        let stamp = Timestamp::from_nanosecond(at).map_err(io::Error::other)?;
        let time = match self.json {
            true => stamp.to_string(),
            false => stamp
                .to_zoned(self.zone.clone())
                .strftime("%H:%M:%S%.6f")
                .to_string(),
        };
        let shown = Shown {
            at_ns: frame.time_ns,
            time: Some(&time),
            brane: &of.brane,
            interface: &of.name,
            link: of.link,
            sent: frame.sent,
            length: frame.length,
            bytes: &frame.bytes,
        };
        match self.json {
            true => writeln!(self.writer, "{}", shown.json()),
            false => self.writer.write_all(printable(&shown.text()).as_bytes()),
        }
    }

    fn statistics(&mut self, _: usize, _: Counts, _: Duration) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Returns the name of an interface for the user: `red/net0`.
pub fn name(interface: &Interface) -> String {
    format!("{}/{}", interface.brane, interface.name)
}

#[cfg(test)]
mod tests;
