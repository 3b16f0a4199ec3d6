//! Captures over the control line, frame by frame: what an operator sees of a brane, and what ends it.

use anyhow::{Context, Result, bail, ensure};
use brane_abi::capture::line::{Fragment, Header, TIME};
use brane_abi::capture::{Capture, End as Ended, FrameHeader, Gone, Interface, Link, Reader, Target, record};
use brane_abi::operator::{Answer, Request};
use brane_abi::remote::{Chunk, Kind, STATUS_OK, encode};
use image_tests::guest::Guest;
use image_tests::lifecycle::{Operator, served};
use image_tests::line::End;
use image_tests::netns::NetNs;
use image_tests::{ANSWER, BRANES, PATIENCE, SILENCE, until_well};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

const CONFIG: &str = "default";
const RED: IpAddr = IpAddr::V4(BRANES[1].v4);
const BLUE: IpAddr = IpAddr::V4(BRANES[2].v4);
const TAG: u32 = 0x5eed;

/// A frame of the guest.
type Frame = (Kind, u32, Vec<u8>);

/// What comes on the line, in order.
#[derive(Debug, PartialEq)]
enum Item {
    /// A record of the capture.
    Record(Header, Vec<u8>),
    /// The answer to a request.
    Answer(u32, Box<Answer>),
}

struct Line {
    end: End,
    sequence: u32,
    record: Vec<u8>,
}

impl Line {
    fn open(guest: &Guest) -> Result<Line> {
        Ok(Line {
            end: End::open(guest)?,
            sequence: 0,
            record: Vec::new(),
        })
    }

    fn request(&mut self, number: u32, request: &Request) -> Result<()> {
        let body = minicbor::to_vec(request)?;
        Ok(self.end.stream.write_all(&encode(Kind::Request, number, &body))?)
    }

    fn capture(&mut self, number: u32, target: Target) -> Result<Vec<Interface>> {
        (self.sequence, self.record) = (0, Vec::new());
        let capture = Capture {
            tag: TAG,
            target,
            reader: Reader::Line,
            snaplen: 65_535,
            staged: false,
        };
        self.request(number, &Request::Capture(capture))?;
        // The capture is in force when it has announced the interface of the network.
        let first = self.until(announces)?;
        let is_time = |item: &Item| matches!(item, Item::Record(header, _) if header.kind == TIME);
        ensure!(is_time(&first[0]), "the time comes first: {first:?}");
        interfaces(&first)
    }

    fn frames(&mut self) -> Result<Vec<Frame>> {
        let mut buffer = [0; 4096];
        let count = match self.end.stream.read(&mut buffer) {
            Ok(0) => bail!("QEMU has hung up"),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(e) => return Err(e).context("reading"),
        };
        let (mut rest, mut frames) = (&buffer[..count], Vec::new());
        while !rest.is_empty() {
            let taken = self
                .end
                .decoder
                .feed(rest, |f| frames.push((f.kind, f.number, f.body.to_vec())));
            rest = &rest[taken..];
        }
        Ok(frames)
    }

    fn item(&mut self, (kind, number, body): Frame) -> Result<Option<Item>> {
        if kind == Kind::Answer {
            let chunk = Chunk::from_bytes(&body).context("a chunk")?;
            ensure!(chunk.status == STATUS_OK, "request {number} is refused");
            let answer = minicbor::decode(chunk.bytes)?;
            return Ok(Some(Item::Answer(number, Box::new(answer))));
        }
        if kind != Kind::Captured {
            return Ok(None);
        }
        ensure!(number == TAG, "a capture {number}");
        let (fragment, rest) = Fragment::read_from_prefix(&body).map_err(|_| anyhow::anyhow!("short"))?;
        let sequence = u32::from_le_bytes(fragment.sequence);
        ensure!(
            sequence == self.sequence,
            "fragment {sequence} for {}",
            self.sequence
        );
        self.sequence += 1;
        self.record.extend_from_slice(rest);
        if fragment.last == 0 {
            return Ok(None);
        }
        let record = std::mem::take(&mut self.record);
        let (header, rest) = Header::read_from_prefix(&record).map_err(|_| anyhow::anyhow!("short"))?;
        Ok(Some(Item::Record(header, rest.to_vec())))
    }

    /// Returns all items that come within a time.
    fn during(&mut self, time: Duration) -> Result<Vec<Item>> {
        let (end, mut items) = (Instant::now() + time, Vec::new());
        while Instant::now() < end {
            for frame in self.frames()? {
                items.extend(self.item(frame)?);
            }
        }
        Ok(items)
    }

    /// Returns all items up to the wanted one.
    fn until(&mut self, wanted: impl Fn(&Item) -> bool) -> Result<Vec<Item>> {
        let (end, mut items) = (Instant::now() + PATIENCE, Vec::new());
        while !items.iter().any(&wanted) {
            ensure!(Instant::now() < end, "it does not come behind {items:?}");
            for frame in self.frames()? {
                items.extend(self.item(frame)?);
            }
        }
        Ok(items)
    }
}

/// Sends a datagram to the echo service of a brane, and receives the answer.
fn echo(ns: &NetNs, to: IpAddr, text: &str) -> Result<()> {
    ns.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send_to(text.as_bytes(), (to, 7))?;
        let mut buffer = [0; 100];
        let count = socket.recv(&mut buffer)?;
        ensure!(&buffer[..count] == text.as_bytes(), "another datagram");
        Ok(())
    })
}

/// Returns the directions of the frames that hold a text; true is sent by the brane.
fn directions(items: &[Item], text: &str) -> Vec<bool> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    let sent = items.iter().filter_map(|item| match item {
        Item::Record(header, bytes) if u32::from(header.kind) == record::FRAME && holds(bytes) => {
            Some(header.sent == 1)
        }
        _ => None,
    });
    sent.collect()
}

fn interfaces(items: &[Item]) -> Result<Vec<Interface>> {
    let texts = items.iter().filter_map(|item| match item {
        Item::Record(header, bytes) if u32::from(header.kind) == record::INTERFACE => Some(bytes),
        _ => None,
    });
    texts.map(|text| Ok(minicbor::decode(text)?)).collect()
}

/// Returns true if an item announces an interface with Ethernet frames.
fn announces(item: &Item) -> bool {
    let known = interfaces(std::slice::from_ref(item));
    known.is_ok_and(|all| all.iter().any(|interface| interface.link == Link::Ethernet))
}

fn has_ended(request: u32, end: Ended) -> impl Fn(&Item) -> bool {
    move |item| *item == Item::Answer(request, Box::new(Answer::Captured(end)))
}

#[test]
fn an_operator_sees_both_directions_of_one_brane_until_the_end_and_after_a_restart() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let mut line = Line::open(&guest)?;
    let mut known = line.capture(1, Target::Brane("red".into()))?;
    known.retain(|interface| interface.link == Link::Ethernet);
    for n in 0..3 {
        echo(&ns, RED, &format!("to red {n}"))?;
        echo(&ns, BLUE, &format!("to blue {n}"))?;
    }
    let seen = line.during(SILENCE)?;
    for n in 0..3 {
        ensure!(
            directions(&seen, &format!("to red {n}")) == [false, true],
            "{n}: {seen:?}"
        );
    }
    ensure!(directions(&seen, "to blue").is_empty(), "red sees frames of blue");
    let Some(Item::Record(header, bytes)) = seen
        .iter()
        .find(|i| !directions(std::slice::from_ref(i), "to red 0").is_empty())
    else {
        bail!("no frame");
    };
    let (frame, bytes) = FrameHeader::read_from_prefix(bytes).map_err(|_| anyhow::anyhow!("short"))?;
    ensure!(
        frame.length as usize == bytes.len() && frame.dropped == 0 && frame.time_ns > 0,
        "{frame:?}"
    );
    ensure!(header.instance == 1, "{header:?}");
    ensure!(known.len() == 1 && known[0].brane == "red", "{known:?}");

    // The capture goes on in the next incarnation, from its first frame.
    line.request(2, &Request::Crash("red".into()))?;
    let mut seen = line.until(announces)?;
    let again = interfaces(&seen)?;
    ensure!(
        again
            .iter()
            .all(|interface| interface.brane_generation == known[0].brane_generation + 1),
        "{again:?}"
    );
    // The echo service needs a moment to serve again.
    until_well(|| echo(&ns, RED, "again"))?;
    seen.extend(line.during(SILENCE)?);
    ensure!(directions(&seen, "again").ends_with(&[false, true]), "{seen:?}");

    line.request(3, &Request::StopCapture(TAG))?;
    let seen = line.until(has_ended(1, Ended::Stopped))?;
    let ends = seen.iter().filter_map(|item| match item {
        Item::Record(header, bytes) if u32::from(header.kind) == record::GONE => {
            Gone::read_from_bytes(bytes).ok()
        }
        _ => None,
    });
    let ends: Vec<Gone> = ends.collect();
    // `lo0` and the interface. Frames before the link with remote was up are counted.
    ensure!(
        ends.len() == 2 && ends.iter().all(|end| end.end == Ended::Stopped.code()),
        "{seen:?}"
    );
    ensure!(ends.iter().any(|end| end.matched >= end.dropped + 2), "{ends:?}");
    echo(&ns, RED, "unseen")?;
    ensure!(line.during(SILENCE)?.is_empty(), "frames behind the end");
    drop(line);
    Operator::new(&guest)?.clean()?;
    Ok(())
}

#[test]
fn a_capture_of_a_device_ends_when_the_device_moves_and_the_next_brane_is_not_shown() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let mut operator = Operator::new(&guest)?;
    let devices = operator.devices()?;
    let of_red = |d: &&brane_abi::operator::DevNet| d.ifnet.owner().is_some_and(|o| o.brane == "red");
    let named = devices.iter().filter(|d| !d.config.name.starts_with("lo"));
    let name = named
        .clone()
        .find(of_red)
        .context("red has a device")?
        .config
        .name
        .clone();
    drop(operator);
    let mut line = Line::open(&guest)?;
    line.capture(1, Target::Device(name.clone()))?;
    echo(&ns, RED, "in red")?;
    let mut seen = line.during(SILENCE)?;
    ensure!(directions(&seen, "in red") == [false, true], "{seen:?}");
    line.request(2, &image_tests::lifecycle::assign(&name, "blue", None))?;
    seen = line.until(has_ended(1, Ended::Moved))?;
    let gone =
        |item: &Item| matches!(item, Item::Record(header, _) if u32::from(header.kind) == record::GONE);
    ensure!(seen.iter().any(gone), "{seen:?}");
    // The address has moved with the device.
    echo(&ns, RED, "in blue")?;
    let after = line.during(SILENCE)?;
    ensure!(
        after.iter().all(|item| matches!(item, Item::Answer(2, _))),
        "{after:?}"
    );
    Ok(())
}
