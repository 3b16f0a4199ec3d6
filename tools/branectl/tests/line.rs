//! `branectl` as a process, over a Unix socket, with the guest's own end of the control line. Only the manager
//! is simulated.

use brane_abi::operator::{Answer, Done, Event, Names, Refusal, Request};
use brane_abi::remote::{STATUS_ERROR, STATUS_OK};
use brane_manager_core::boot::BootConfig;
use remote_core::{Manager, Reply, Session};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A manager that answers from a boot configuration, and records the requested changes.
struct Played {
    config: BootConfig,
    told: Arc<Mutex<Vec<Request>>>,
}

fn ok(answer: &Answer) -> Reply {
    Reply::Done(STATUS_OK, minicbor::to_vec(answer).unwrap())
}

impl Manager for Played {
    fn call(&mut self, request: &[u8]) -> Reply {
        match minicbor::decode::<Request>(request).unwrap() {
            Request::Names => ok(&Answer::Names(Names {
                branes: self.config.branes.iter().map(|b| b.name.clone()).collect(),
                ..Names::default()
            })),
            Request::Save => ok(&Answer::Saved(self.config.to_bytes())),
            Request::Show(name) => {
                let known = self.config.branes.iter().map(|b| b.name.as_str()).collect();
                let refusal = Refusal::NoSuchBrane(name, known);
                Reply::Done(STATUS_ERROR, minicbor::to_vec(refusal).unwrap())
            }
            // Two events are stored. The third happens later.
            Request::Events { after: 0, .. } => ok(&Answer::Events(vec![event(1), event(2)])),
            Request::Events { wait: false, .. } => ok(&Answer::Events(Vec::new())),
            Request::Events { after: 2, .. } => Reply::Later(3),
            Request::Events { .. } => Reply::Later(u64::MAX),
            other => {
                self.told.lock().unwrap().push(other);
                ok(&Answer::Done(Done::Started("red".into())))
            }
        }
    }

    fn cancel(&mut self, _: u64) {}

    fn poll(&mut self, job: u64) -> Reply {
        match job {
            u64::MAX => Reply::Later(job),
            number => ok(&Answer::Events(vec![event(number)])),
        }
    }
}

fn event(number: u64) -> Event {
    Event {
        number,
        what: "started".into(),
        brane: Some("red".into()),
        ..Event::default()
    }
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../brane-manager/branes.toml")
}

/// Starts a system behind a socket in `folder`. Returns its record of requested changes.
fn system(folder: &Path) -> Arc<Mutex<Vec<Request>>> {
    let listener = UnixListener::bind(folder.join("line.sock")).unwrap();
    let told = Arc::default();
    let mut manager = Played {
        config: branes_bootconfig::load(
            &shipped(),
            branes_bootconfig::Size {
                instances: 17,
                nics: 1,
                ports_per_nic: Some(2),
            },
        )
        .unwrap(),
        told: Arc::clone(&told),
    };
    std::thread::spawn(move || {
        let mut session = Session::new();
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            loop {
                let mut buffer = [0; 300];
                match socket.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(len) => session.receive(&buffer[..len], &mut manager),
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => break,
                }
                session.poll(&mut manager);
                let mut out = Vec::new();
                session.flush(|bytes| {
                    out.extend_from_slice(bytes);
                    bytes.len()
                });
                if socket.write_all(&out).is_err() {
                    break;
                }
            }
        }
    });
    told
}

fn branectl(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_branectl"));
    command
        .current_dir(folder)
        .env("BRANES_CONTROL", folder.join("line.sock"))
        .stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = branectl(folder).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_refusal_is_told_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    system(folder.path());
    let (status, out, err) = run(folder.path(), &["show", "rde"]);
    let said = "no brane named \"rde\": the branes are main, red, blue\n";
    assert_eq!((status, out.as_str(), err.as_str()), (Some(1), "", said));
    let (status, out, _) = run(folder.path(), &["show", "rde", "-j"]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (status, &answer["error"]["what"], &answer["error"]["code"]),
        (Some(1), &"no brane named \"rde\"".into(), &"no-such-brane".into())
    );
    assert_eq!(
        run(folder.path(), &["start", "red"]),
        (Some(0), "red is started\n".into(), String::new())
    );
}

#[test]
fn names_that_exist_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    system(folder.path());
    assert_eq!(run(folder.path(), &["names", "show", "b"]).1, "blue\n");
    assert_eq!(run(folder.path(), &["names", "in", ""]).1, "blue\nmain\nred\n");
}

#[test]
fn events_come_one_by_one_as_they_happen() {
    let folder = tempfile::tempdir().unwrap();
    system(folder.path());
    let mut child = branectl(folder.path())
        .args(["events", "-j"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    let numbers: Vec<u64> = lines
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(&l.unwrap()).unwrap()["number"]
                .as_u64()
                .unwrap()
        })
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn events_once_end_with_the_last_that_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    system(folder.path());
    let (status, out, err) = run(folder.path(), &["events", "--once", "-j"]);
    assert_eq!((status, out.lines().count()), (Some(0), 2), "{out}{err}");
}

#[test]
fn what_is_saved_can_be_applied_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let told = system(folder.path());
    assert_eq!(
        run(folder.path(), &["save", "now.toml"]),
        (Some(0), String::new(), String::new())
    );
    let written = std::fs::read_to_string(folder.path().join("now.toml")).unwrap();
    assert_eq!(run(folder.path(), &["save"]).1, written);
    let nothing = (Some(0), "nothing to change\n".into(), String::new());
    assert_eq!(run(folder.path(), &["apply", "now.toml", "--yes"]), nothing);
    // The file that the system was booted from has the same content.
    assert_eq!(
        run(folder.path(), &["apply", shipped().to_str().unwrap(), "--yes"]),
        nothing
    );

    let changed = written.replace("name = \"blue\"", "name = \"green\"");
    std::fs::write(folder.path().join("new.toml"), changed).unwrap();
    let (status, dry, _) = run(folder.path(), &["apply", "new.toml", "--dry-run"]);
    assert_eq!((status, dry.lines().count()), (Some(0), 4), "{dry}");
    assert!(
        dry.starts_with("branectl delete blue ") && dry.ends_with("branectl start green\n"),
        "{dry}"
    );
    assert_eq!(*told.lock().unwrap(), [], "a dry run changes nothing");
    let (status, out, _) = run(folder.path(), &["apply", "new.toml", "--yes", "-j"]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, answer["applied"].as_u64()), (Some(0), Some(4)), "{out}");
    let told = told.lock().unwrap();
    assert!(
        matches!(&told[0], Request::Delete { name, .. } if name == "blue"),
        "{told:?}"
    );
    assert_eq!(told[3], Request::Start("green".into()));
}
