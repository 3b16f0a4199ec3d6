//! `branectl capture` with the real system: files against the frames on the wire, ends, slow readers, expressions, and the console.

use anyhow::{Context, Result, ensure};
use brane_abi::operator::Request;
use image_tests::capture::Capture;
use image_tests::guest::Guest;
use image_tests::lifecycle::{Operator, Running, badly, program, served, vnic};
use image_tests::ping::Train;
use image_tests::{ANSWER, BRANES, PATIENCE, SILENCE, probe, until};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::blocks::interface_statistics::InterfaceStatisticsOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "default";
const RED: IpAddr = IpAddr::V4(BRANES[1].v4);
const BLUE: IpAddr = IpAddr::V4(BRANES[2].v4);

/// A running `branectl capture`, which writes to a file.
struct Capturing {
    process: Running,
    file: PathBuf,
}

/// Starts a capture and waits until it sees an interface.
fn capture(guest: &Guest, file: &Path, words: &[&str]) -> Result<Capturing> {
    let mut command = program("branectl", guest)?;
    command.arg("capture").args(words).arg("-w").arg(file);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let capturing = Capturing {
        process: Running(child),
        file: file.to_owned(),
    };
    // A file without an interface has the section's header only.
    let begun = || {
        Ok(fs::metadata(file)
            .is_ok_and(|data| data.len() > 150)
            .then_some(()))
    };
    until(begun, || {
        format!("no interface in {}\n{}", file.display(), guest.log())
    })?;
    Ok(capturing)
}

impl Capturing {
    fn signal(&self, name: &str) -> Result<()> {
        let id = self.process.0.id().to_string();
        ensure!(
            Command::new("kill").args([name, &id]).status()?.success(),
            "kill {name} {id}"
        );
        Ok(())
    }

    /// Waits until the process ends by itself. Returns its standard error and its frames.
    fn ended(mut self) -> Result<(String, Contents)> {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.0.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < end, "the capture does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        let stderr = self.process.0.stderr.take().context("no standard error")?;
        { stderr }.read_to_string(&mut said)?;
        ensure!(status.success(), "{status}: {said}");
        Ok((said, contents(&self.file)?))
    }

    /// Ends the capture as Ctrl-C does.
    fn stop(self) -> Result<(String, Contents)> {
        self.signal("-INT")?;
        self.ended()
    }
}

/// A frame of a file.
#[derive(Clone, Debug)]
struct Frame {
    interface: String,
    sent: bool,
    length: usize,
    lost: u64,
    bytes: Vec<u8>,
}

/// What a file has.
struct Contents {
    frames: Vec<Frame>,
    /// Dropped frames of each interface, from its statistics.
    dropped: Vec<u64>,
}

fn contents(file: &Path) -> Result<Contents> {
    let mut reader = PcapNgReader::new(File::open(file)?)?;
    let mut names = Vec::new();
    let mut out = Contents {
        frames: Vec::new(),
        dropped: Vec::new(),
    };
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) => {
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                names.push(name.context("an interface without a name")?);
            }
            Block::EnhancedPacket(packet) => {
                let mut frame = Frame {
                    interface: names
                        .get(packet.interface_id as usize)
                        .context("no such interface")?
                        .clone(),
                    sent: false,
                    length: packet.original_len as usize,
                    lost: 0,
                    bytes: packet.data.to_vec(),
                };
                for option in &packet.options {
                    match option {
                        EnhancedPacketOption::Flags(flags) => frame.sent = flags & 3 == 2,
                        EnhancedPacketOption::DropCount(count) => frame.lost = *count,
                        _ => {}
                    }
                }
                out.frames.push(frame);
            }
            Block::InterfaceStatistics(statistics) => {
                out.dropped
                    .extend(statistics.options.iter().filter_map(|option| match option {
                        InterfaceStatisticsOption::IsbIfDrop(count) => Some(*count),
                        _ => None,
                    }));
            }
            _ => {}
        }
    }
    ensure!(
        out.dropped.len() == names.len(),
        "statistics of {} interfaces of {names:?}",
        out.dropped.len()
    );
    Ok(out)
}

/// Returns a frame of IPv4 from or to `ip` without its transport checksum, which the device completes. `None` for other frames.
fn comparable(frame: &[u8], ip: IpAddr) -> Option<Vec<u8>> {
    let IpAddr::V4(ip) = ip else { return None };
    let header = frame.get(14..34)?;
    let ends = [&header[12..16], &header[16..20]];
    if frame[12..14] != [8, 0] || !ends.contains(&&ip.octets()[..]) {
        return None;
    }
    // The device adds padding behind a short packet.
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let mut out = frame.get(..14 + total).unwrap_or(frame).to_vec();
    let at = 14
        + usize::from(header[0] & 15) * 4
        + match header[9] {
            6 => 16,
            17 => 6,
            _ => return Some(out),
        };
    out.get_mut(at..at + 2)?.fill(0);
    Some(out)
}

/// Returns the number of frames that tshark reads.
fn tshark(file: &Path) -> Result<usize> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(["-T", "fields", "-e", "frame.number"])
        .stdin(Stdio::null())
        .output()
        .context("starting tshark")?;
    ensure!(
        output.status.success(),
        "tshark: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout.iter().filter(|byte| **byte == b'\n').count())
}

/// Sends a datagram with this text to the echo service and waits for it.
fn echo(to: IpAddr, text: &[u8]) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((to, 7))?;
    socket.set_read_timeout(Some(SILENCE))?;
    let mut buffer = [0; 64];
    let arrives = || -> Result<Option<()>> {
        socket.send(text)?;
        Ok(socket
            .recv(&mut buffer)
            .is_ok_and(|len| buffer[..len] == *text)
            .then_some(()))
    };
    until(arrives, || format!("no echo from {to}"))
}

#[test]
fn a_file_has_the_frames_of_the_wire_and_those_of_no_other_brane() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let folder = tempfile::tempdir()?;
    let capturing = capture(
        &guest,
        &folder.path().join("red.pcapng"),
        &["red/net0", "ip host 10.0.2.16"],
    )?;
    let mut wire = ns.enter(Capture::start)?;
    ns.enter(|| -> Result<()> {
        for _ in 0..20 {
            probe::udp_echo(SocketAddr::new(RED, 7))?;
            probe::udp_echo(SocketAddr::new(BLUE, 7))?;
        }
        probe::tcp_echo(SocketAddr::new(RED, 7), 50_000)?;
        let train = Train::start(RED, Duration::from_millis(20))?;
        train.stop_unharmed("red")
    })?;
    std::thread::sleep(ANSWER);
    let (said, found) = capturing.stop()?;
    ensure!(
        said.contains("red/net0: ") && said.contains(" 0 dropped\n"),
        "{said}"
    );
    // The brane sees frames of the wire, in the order of each direction.
    let red: [u8; 6] = [2, 0x77, 0, 0, 0, 1];
    let mut on_wire = [Vec::new(), Vec::new()];
    while let Some(captured) = wire.receive(Instant::now() + SILENCE)? {
        if let Some(frame) = comparable(&captured.frame, RED) {
            on_wire[usize::from(frame[6..12] == red)].push(frame);
        }
    }
    let mut in_file = [Vec::new(), Vec::new()];
    for frame in &found.frames {
        ensure!(
            frame.interface == "red/net0" && frame.length == frame.bytes.len(),
            "{frame:?}"
        );
        let bytes = comparable(&frame.bytes, RED).with_context(|| format!("not of red: {frame:?}"))?;
        in_file[usize::from(frame.sent)].push(bytes);
    }
    for (file, wire) in in_file.iter().zip(&on_wire) {
        ensure!(
            file.len() == wire.len(),
            "{} frames in the file, {} on the wire",
            file.len(),
            wire.len()
        );
        let differs = file.iter().zip(wire).position(|(a, b)| a != b);
        ensure!(differs.is_none(), "frame {differs:?} differs");
    }
    ensure!(in_file[0].len() > 150, "only {} frames", in_file[0].len());
    let count = tshark(&folder.path().join("red.pcapng"))?;
    ensure!(
        count == found.frames.len(),
        "tshark reads {count} of {} frames",
        found.frames.len()
    );
    guest.untroubled()
}

#[test]
fn an_interface_that_moves_takes_no_capture_along() -> Result<()> {
    let (ns, mut guest) = served(CONFIG)?;
    let mut operator = Operator::new(&guest)?;
    operator.device(vnic("wan0"))?;
    operator.assign("wan0", "red", &["10.0.2.40/24"])?;
    drop(operator);
    let moved: IpAddr = [10, 0, 2, 40].into();
    let folder = tempfile::tempdir()?;
    ns.enter(|| echo(moved, b"reachable"))?;
    let capturing = capture(&guest, &folder.path().join("red.pcapng"), &["red"])?;
    ns.enter(|| echo(moved, b"before the move"))?;
    // The capture has the control line.
    guest.command("assign wan0 blue")?;
    ns.enter(|| echo(moved, b"behind the move"))?;
    ns.enter(|| echo(RED, b"still of red"))?;
    let (said, found) = capturing.stop()?;
    ensure!(
        said.contains("the interface has left the brane; capture ended\n"),
        "{said}"
    );
    let has = |text: &[u8]| {
        found
            .frames
            .iter()
            .any(|frame| frame.bytes.windows(text.len()).any(|part| part == text))
    };
    ensure!(
        has(b"before the move") && has(b"still of red"),
        "frames of red are missing"
    );
    ensure!(!has(b"behind the move"), "a frame of the next owner was captured");

    // The capture of the interface alone ends with it.
    let capturing = capture(&guest, &folder.path().join("device.pcapng"), &["wan0"])?;
    ns.enter(|| echo(moved, b"of blue"))?;
    guest.command("assign wan0 red")?;
    let (said, found) = capturing.ended()?;
    ensure!(
        said.contains("blue/") && said.contains("has left the brane"),
        "{said}"
    );
    ensure!(
        found
            .frames
            .iter()
            .all(|frame| frame.interface.starts_with("blue/"))
    );
    guest.untroubled()
}

#[test]
fn a_slow_reader_loses_frames_of_its_capture_only() -> Result<()> {
    let (ns, guest) = served(CONFIG)?;
    let folder = tempfile::tempdir()?;
    let capturing = capture(&guest, &folder.path().join("red.pcapng"), &["red"])?;
    capturing.signal("-STOP")?;
    ns.enter(|| -> Result<()> {
        let train = Train::start(RED, Duration::from_millis(20))?;
        for _ in 0..4 {
            probe::tcp_echo(SocketAddr::new(RED, 7), 1_000_000)?;
        }
        train.stop_unharmed("red")
    })?;
    capturing.signal("-CONT")?;
    // A frame behind the gap shows how many were lost.
    std::thread::sleep(ANSWER);
    ns.enter(|| echo(RED, b"behind the gap"))?;
    std::thread::sleep(ANSWER);
    let (said, found) = capturing.stop()?;
    let dropped: u64 = found.dropped.iter().sum();
    ensure!(dropped > 0, "nothing was dropped: {said}");
    let lost: u64 = found.frames.iter().map(|frame| frame.lost).sum();
    ensure!(
        lost > 0 && lost <= dropped,
        "{lost} lost by the frames, {dropped} dropped in all"
    );
    guest.untroubled()
}

#[test]
fn frames_are_cut_and_counted_and_expressions_checked() -> Result<()> {
    let (ns, mut guest) = served(CONFIG)?;
    let folder = tempfile::tempdir()?;
    let train = ns.enter(|| Train::start(RED, Duration::from_millis(20)))?;
    let words = ["red/net0", "-s", "60", "-c", "5", "icmp[icmptype] == icmp-echo"];
    let (said, found) = capture(&guest, &folder.path().join("x.pcapng"), &words)?.ended()?;
    ensure!(said.contains("red/net0: 5 frames captured"), "{said}");
    ensure!(found.frames.len() == 5);
    for frame in &found.frames {
        ensure!(
            frame.bytes.len() == 60 && frame.length > 60 && !frame.sent,
            "{frame:?}"
        );
        ensure!(frame.bytes[34] == 8, "not an echo request: {frame:?}");
    }
    badly(
        &guest,
        &["branectl", "capture", "red", "udp prt 53"],
        2,
        "expression \"udp prt 53\": can't parse filter expression: syntax error: the manual page pcap-filter(7) explains \
         the language, as in udp port 53",
    )?;
    badly(
        &guest,
        &["branectl", "capture", "rde"],
        1,
        "no brane or device named \"rde\": `list` shows the branes, `nicctl list` the devices",
    )?;

    // Lines of the host, then of the console, which compiles the matches itself.
    let mut command = program("branectl", &guest)?;
    let output = command.args(["capture", "red", "-c", "2", "icmp"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text.lines().count() == 2
            && text.contains(" red/net0 In  IP 10.0.2.2 > 10.0.2.16: ICMP echo request"),
        "{text}"
    );
    let shown = guest.command("capture red -c 4 proto icmp")?;
    ensure!(
        shown.contains("ICMP echo request") && shown.contains("ICMP echo reply"),
        "{shown}"
    );
    ensure!(shown.contains("capture: 4 frames captured"), "{shown}");
    train.stop_unharmed("red")?;

    // A capture on the console ends with Ctrl-C, and the system has no capture left.
    guest.type_line("capture all proto tcp to port 9999")?;
    std::thread::sleep(SILENCE);
    guest.type_bytes(b"\x03")?;
    guest.wait_for("capture: 0 frames captured", PATIENCE)?;
    let mut operator = Operator::new(&guest)?;
    let refused = operator.refused(&Request::StopCapture(operator_cli::capture::CONSOLE_TAG));
    ensure!(refused.is_ok(), "a capture is left: {refused:?}");
    operator.clean()?;
    guest.untroubled()
}
