//! `branectl capture` as a process, over a Unix socket. The system is simulated: it makes the frames of the control line as the domain
//! `remote` does, and keeps the requests. The expression is compiled by the real libpcap.

use brane_abi::capture::line::{Fragment, Header};
use brane_abi::capture::{Capture, End, FrameHeader, Gone, Interface, Link, MAX_STAGED, Target, record};
use brane_abi::filter::Instruction;
use brane_abi::operator::{Answer, Done, Names, Refusal, Request};
use brane_abi::remote::{Chunk, Decoder, Hello, Kind, STATUS_ERROR, STATUS_OK, encode};
use pcap_file::pcapng::{Block, PcapNgReader};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zerocopy::IntoBytes;

/// Events of the simulated system.
#[derive(Clone)]
struct Script {
    /// Frames that it sends at once, then one each 20 ms if `endless`.
    frames: u32,
    endless: bool,
    /// Ends the capture after the frames, for this reason.
    end: Option<End>,
    /// Loses every fragment with this remainder modulo 7.
    loses: Option<u32>,
    /// Refuses the capture.
    refuses: bool,
}

const PLAIN: Script = Script {
    frames: 3,
    endless: false,
    end: None,
    loses: None,
    refuses: false,
};

struct Guest {
    socket: UnixStream,
    script: Script,
    told: Arc<Mutex<Vec<Request>>>,
    /// The tag and the number of the request of the running capture.
    running: Option<(u32, u32)>,
    sequence: u32,
    sent: u64,
}

impl Guest {
    fn send(&mut self, kind: Kind, number: u32, body: &[u8]) {
        // A process that has ended reads nothing.
        let _ = self.socket.write_all(&encode(kind, number, body));
    }

    fn answer(&mut self, number: u32, status: u8, bytes: &[u8]) {
        let chunk = Chunk {
            status,
            total: bytes.len() as u32,
            offset: 0,
            bytes,
        };
        self.send(Kind::Answer, number, &chunk.to_bytes());
    }

    fn ok(&mut self, number: u32, answer: &Answer) {
        self.answer(number, STATUS_OK, &minicbor::to_vec(answer).unwrap());
    }

    fn record(&mut self, kind: u32, payload: &[u8]) {
        let Some((tag, _)) = self.running else { return };
        let header = Header {
            kind: kind as u8,
            instance: 1,
            interface: 2,
            sent: 1,
        };
        let record = [header.as_bytes(), payload].concat();
        let mut parts = record.chunks(50).peekable();
        while let Some(part) = parts.next() {
            let fragment = Fragment {
                sequence: self.sequence.to_le_bytes(),
                last: parts.peek().is_none().into(),
            };
            let lost = self.script.loses == Some(self.sequence % 7);
            self.sequence += 1;
            if !lost || kind != record::FRAME {
                self.send(Kind::Captured, tag, &[fragment.as_bytes(), part].concat());
            }
        }
    }

    fn frame(&mut self) {
        let header = FrameHeader {
            time_ns: 1_000_000_000 + self.sent,
            dropped: 0,
            length: 200,
            reserved: 0,
        };
        let bytes = [self.sent as u8; 60];
        self.record(record::FRAME, &[header.as_bytes(), &bytes].concat());
        self.sent += 1;
    }

    /// Ends the capture: the answer first, then the last record, as on a busy line.
    fn end(&mut self, end: End) {
        let Some((_, number)) = self.running else { return };
        self.ok(number, &Answer::Captured(end));
        let gone = Gone {
            dropped: 4,
            matched: self.sent + 4,
            end: end.code(),
            reserved: 0,
        };
        self.record(record::GONE, gone.as_bytes());
        self.running = None;
    }

    fn request(&mut self, number: u32, body: &[u8]) {
        let request: Request = minicbor::decode(body).unwrap();
        self.told.lock().unwrap().push(request.clone());
        match &request {
            Request::Names => {
                let names = Names {
                    branes: vec!["red".into()],
                    devices: vec!["vnic1".into()],
                    ..Names::default()
                };
                self.ok(number, &Answer::Names(names));
            }
            Request::StageCapture(stage) => {
                let count = stage.program.len() as u32;
                self.ok(number, &Answer::Done(Done::Staged(count)));
            }
            Request::Capture(_) if self.running.is_some() => self.send(Kind::Pending, number, &[]),
            Request::Capture(_) if self.script.refuses => {
                let refusal = Refusal::NoSuchBrane("red".into(), Default::default());
                self.answer(number, STATUS_ERROR, &minicbor::to_vec(refusal).unwrap());
            }
            Request::Capture(capture) => {
                self.running = Some((capture.tag, number));
                self.send(Kind::Pending, number, &[]);
                self.record(0, &1_000_000_000u64.to_le_bytes());
                let interface = Interface {
                    brane: "red".into(),
                    brane_generation: 0,
                    name: "net0".into(),
                    device: "vnic1".into(),
                    generation: 4,
                    link: Link::Ethernet,
                };
                self.record(record::INTERFACE, &minicbor::to_vec(interface).unwrap());
                for _ in 0..self.script.frames {
                    self.frame();
                }
                if let Some(end) = self.script.end {
                    self.end(end);
                }
            }
            Request::StopCapture(_) => {
                self.ok(number, &Answer::Done(Done::Staged(0)));
                self.end(End::Stopped);
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(mut self) {
        let mut decoder = Decoder::new();
        self.socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        loop {
            let mut buffer = [0; 4096];
            let mut rest = match self.socket.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => &buffer[..len],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => &[][..],
                Err(_) => return,
            };
            while !rest.is_empty() {
                let mut received = None;
                let taken = decoder.feed(rest, |frame| {
                    received = Some((frame.kind, frame.number, frame.body.to_vec()));
                });
                rest = &rest[taken..];
                match received {
                    Some((Kind::Hello, _, body)) => {
                        let hello = Hello::from_bytes(&body).unwrap();
                        self.send(Kind::Hello, 0, &hello.to_bytes());
                    }
                    Some((Kind::Request, number, body)) => self.request(number, &body),
                    _ => {}
                }
            }
            if self.script.endless && self.running.is_some() {
                self.frame();
            }
        }
    }
}

/// Starts a system behind a socket in `folder`. Returns its record of requests.
fn system(folder: &Path, script: Script) -> Arc<Mutex<Vec<Request>>> {
    let listener = UnixListener::bind(folder.join("line.sock")).unwrap();
    let told: Arc<Mutex<Vec<Request>>> = Arc::default();
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            Guest {
                socket: socket.unwrap(),
                script: script.clone(),
                told: Arc::clone(&kept),
                running: None,
                sequence: 0,
                sent: 0,
            }
            .run();
        }
    });
    told
}

fn branectl(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_branectl"));
    command
        .current_dir(folder)
        .env("BRANES_CONTROL", folder.join("line.sock"))
        .arg("capture")
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    texts(branectl(folder, arguments).output().unwrap())
}

fn texts(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn blocks(bytes: &[u8]) -> Vec<Block<'static>> {
    let mut reader = PcapNgReader::new(bytes).unwrap();
    let mut out = Vec::new();
    while let Some(block) = reader.next_block() {
        out.push(block.unwrap().into_owned());
    }
    out
}

fn interrupt(child: &Child) {
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

#[test]
fn a_capture_goes_to_a_file_and_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script {
        end: Some(End::Moved),
        ..PLAIN
    };
    let told = system(folder.path(), script);
    let (status, out, err) = run(
        folder.path(),
        &["red", "-w", "x.pcapng", "-s", "60", "udp port 53"],
    );
    assert_eq!((status, out.as_str()), (Some(0), ""), "{err}");
    assert!(
        err.contains("red/net0: the interface has left the brane; capture ended\n")
            && err.contains("red/net0: 3 frames captured, 4 dropped\n"),
        "{err}"
    );
    let all = blocks(&std::fs::read(folder.path().join("x.pcapng")).unwrap());
    let packets = all
        .iter()
        .filter(|block| matches!(block, Block::EnhancedPacket(p) if p.original_len == 200));
    assert_eq!(packets.count(), 3);
    assert!(matches!(all.last(), Some(Block::InterfaceStatistics(_))));
    // The program of libpcap was staged for both link types.
    let told = told.lock().unwrap();
    let mut programs: [Vec<Instruction>; 2] = Default::default();
    let mut captured = None;
    for request in told.iter() {
        match request {
            Request::StageCapture(stage) => {
                assert!(stage.program.len() <= MAX_STAGED);
                programs[usize::from(stage.link == Link::Raw)].extend(&stage.program);
            }
            Request::Capture(capture) => captured = Some(capture.clone()),
            _ => {}
        }
    }
    for program in programs {
        branes_bpf::Program::verify(&program).unwrap();
    }
    let Some(Capture {
        target,
        snaplen,
        staged,
        ..
    }) = captured
    else {
        panic!("{told:?}")
    };
    assert_eq!((target, snaplen, staged), (Target::Brane("red".into()), 60, true));
}

#[test]
fn lines_and_json_are_shown_until_the_count() {
    let folder = tempfile::tempdir().unwrap();
    let told = system(
        folder.path(),
        Script {
            endless: true,
            ..PLAIN
        },
    );
    let (status, out, err) = run(folder.path(), &["vnic1", "-c", "5"]);
    assert_eq!(status, Some(0), "{err}");
    assert_eq!(out.lines().count(), 5, "{out}");
    assert!(out.lines().all(|line| line.contains(" red/net0 Out ")), "{out}");
    assert_eq!(err, "red/net0: 5 frames captured, 4 dropped\n");
    let (_, out, _) = run(folder.path(), &["all", "-c", "2", "-j"]);
    for line in out.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&value["brane"], &value["captured"]), (&"red".into(), &60.into()));
    }
    let told = told.lock().unwrap();
    let targets: Vec<&Target> = told
        .iter()
        .filter_map(|request| match request {
            Request::Capture(capture) => Some(&capture.target),
            _ => None,
        })
        .collect();
    assert_eq!(targets, [&Target::Device("vnic1".into()), &Target::All]);
    assert!(matches!(told.last(), Some(Request::StopCapture(_))));
}

#[test]
fn ctrl_c_ends_a_capture_properly() {
    let folder = tempfile::tempdir().unwrap();
    let told = system(
        folder.path(),
        Script {
            endless: true,
            ..PLAIN
        },
    );
    let mut child = branectl(folder.path(), &["red/net0", "-w", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The file grows while the capture goes on.
    let mut start = vec![0; 500];
    child.stdout.as_mut().unwrap().read_exact(&mut start).unwrap();
    interrupt(&child);
    let (status, rest, err) = {
        let output = child.wait_with_output().unwrap();
        (
            output.status.code(),
            output.stdout,
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(status, Some(0), "{err}");
    let all = blocks(&[start, rest].concat());
    let packets = all
        .iter()
        .filter(|block| matches!(block, Block::EnhancedPacket(_)))
        .count();
    assert!(matches!(all.last(), Some(Block::InterfaceStatistics(_))));
    assert_eq!(err, format!("red/net0: {packets} frames captured, 4 dropped\n"));
    assert!(matches!(
        told.lock().unwrap().last(),
        Some(Request::StopCapture(_))
    ));
}

#[test]
fn a_closed_pipe_ends_a_capture_quietly() {
    let folder = tempfile::tempdir().unwrap();
    system(
        folder.path(),
        Script {
            endless: true,
            ..PLAIN
        },
    );
    let mut child = branectl(folder.path(), &["red", "-w", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut [0; 100]).unwrap();
    drop(pipe);
    let (status, _, err) = texts(child.wait_with_output().unwrap());
    assert_eq!(status, Some(0), "{err}");
    assert!(!err.contains("pipe"), "{err}");
}

#[test]
fn a_lossy_line_costs_frames_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script {
        frames: 50,
        end: Some(End::Stopped),
        loses: Some(5),
        ..PLAIN
    };
    system(folder.path(), script);
    let (status, out, err) = run(folder.path(), &["red"]);
    assert_eq!(status, Some(0));
    let lines = out.lines().count();
    assert!((5..50).contains(&lines), "{out}");
    assert!(
        err.contains("parts of frames lost on the control line\n"),
        "{err}"
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let told = system(
        folder.path(),
        Script {
            refuses: true,
            ..PLAIN
        },
    );
    let (status, _, err) = run(folder.path(), &["red", "udp", "prt", "53"]);
    assert_eq!(status, Some(2));
    assert!(
        err.contains("\"udp prt 53\": can't parse filter expression: syntax error"),
        "{err}"
    );
    let (status, _, err) = run(folder.path(), &["rad"]);
    assert_eq!(
        (status, err.as_str()),
        (Some(1), "no brane or device named \"rad\": did you mean red?\n")
    );
    let (status, _, err) = run(folder.path(), &["red", "-w", "no/such/folder"]);
    assert_eq!(status, Some(1));
    assert!(err.starts_with("no/such/folder: "), "{err}");
    // Nothing was captured for that.
    assert!(
        !told
            .lock()
            .unwrap()
            .iter()
            .any(|request| matches!(request, Request::Capture(_)))
    );
    let (status, out, err) = run(folder.path(), &["red", "-j"]);
    assert_eq!(status, Some(1));
    assert!(err.starts_with("no brane named \"red\""), "{err}");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["error"]["code"], "no-such-brane");
    // Without the compiler.
    let output = branectl(folder.path(), &["red", "udp"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let installed = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(|f| Path::new(f).join("tcpdump").exists());
    if installed == [false; 3] {
        let (status, _, err) = texts(output);
        assert_eq!(status, Some(2));
        assert!(err.contains("apt-get install tcpdump"), "{err}");
    }
}

#[test]
fn a_full_disk_ends_a_capture_with_1() {
    let folder = tempfile::tempdir().unwrap();
    system(
        folder.path(),
        Script {
            endless: true,
            ..PLAIN
        },
    );
    let (status, _, err) = run(folder.path(), &["red", "-w", "/dev/full"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("/dev/full: No space left on device"), "{err}");
}
