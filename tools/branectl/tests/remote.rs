//! The operator's end against the guest's own session code, over a socket that loses, garbles and delays bytes.
//! Only the manager is simulated.

use brane_abi::operator::{Answer, Done, Event, Names, Refusal, Request};
use brane_abi::remote::{Kind, STATUS_ERROR, STATUS_OK, encode};
use branes_branectl::remote::{Error, Line, Patience};
use remote_core::{Manager, Reply, Session};
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A manager that counts its requests. An event happens at every third poll.
#[derive(Default)]
struct Played {
    done: Arc<Mutex<Vec<String>>>,
    looks: u64,
}

fn ok(answer: &Answer) -> Reply {
    Reply::Done(STATUS_OK, minicbor::to_vec(answer).unwrap())
}

impl Manager for Played {
    fn call(&mut self, request: &[u8]) -> Reply {
        match minicbor::decode::<Request>(request).unwrap() {
            Request::Start(name) if name == "nobody" => {
                let refusal = Refusal::NoSuchBrane(name, Default::default());
                Reply::Done(STATUS_ERROR, minicbor::to_vec(refusal).unwrap())
            }
            Request::Start(name) => {
                self.done.lock().unwrap().push(name.clone());
                ok(&Answer::Done(Done::Started(name)))
            }
            Request::Names => ok(&Answer::Names(Names {
                branes: (0..4000).map(|n| format!("brane-{n}")).collect(),
                ..Names::default()
            })),
            Request::Events { after: from, .. } => Reply::Later(from),
            Request::Shutdown { .. } => Reply::Later(u64::MAX),
            other => panic!("not asked for in these tests: {other:?}"),
        }
    }

    fn cancel(&mut self, _: u64) {}

    fn poll(&mut self, job: u64) -> Reply {
        self.looks += 1;
        if job == u64::MAX || !self.looks.is_multiple_of(3) {
            return Reply::Later(job);
        }
        let event = Event {
            number: job + 1,
            what: "started".into(),
            ..Event::default()
        };
        ok(&Answer::Events(vec![event]))
    }
}

/// Runs a guest on a thread of its own. It ends when the host closes the connection.
fn guest(
    mut socket: UnixStream,
    done: Arc<Mutex<Vec<String>>>,
    spoil: impl Fn(usize) -> bool + Send + 'static,
) -> JoinHandle<u32> {
    std::thread::spawn(move || {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut session = Session::new();
        let mut manager = Played { done, looks: 0 };
        let mut count = 0;
        loop {
            let mut buffer = [0; 300];
            match socket.read(&mut buffer) {
                Ok(0) => return session.garbled(),
                Ok(len) => session.receive(&buffer[..len], &mut manager),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return session.garbled(),
            }
            session.poll(&mut manager);
            let mut out = Vec::new();
            session.flush(|bytes| {
                out.extend_from_slice(bytes);
                bytes.len()
            });
            for byte in &mut out {
                count += 1;
                if spoil(count) {
                    *byte ^= 0x55;
                }
            }
            if socket.write_all(&out).is_err() {
                return session.garbled();
            }
        }
    })
}

/// A line that also corrupts bytes that the host writes.
struct Spoilt {
    socket: UnixStream,
    written: usize,
    every: usize,
}

impl Read for Spoilt {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Spoilt {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut bytes = bytes.to_vec();
        for byte in &mut bytes {
            self.written += 1;
            if self.written.is_multiple_of(self.every) {
                *byte = byte.wrapping_add(1);
            }
        }
        self.socket.write_all(&bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl branes_branectl::remote::Stream for Spoilt {
    fn set_patience(&mut self, limit: Duration) -> std::io::Result<()> {
        self.socket.set_read_timeout(Some(limit))
    }
}

fn quick() -> Patience {
    Patience {
        hello: Duration::from_secs(5),
        answer: Duration::from_secs(20),
        repeat: Duration::from_millis(30),
    }
}

#[test]
fn requests_are_answered_and_refused() {
    let (host, socket) = UnixStream::pair().unwrap();
    let done = Arc::default();
    let guest = guest(socket, Arc::clone(&done), |_| false);
    let mut line = Line::over_with(host, quick()).unwrap();
    assert_eq!(
        line.call(&Request::Start("red".into())).unwrap(),
        Answer::Done(Done::Started("red".into()))
    );
    let refused = line.call(&Request::Start("nobody".into())).unwrap_err();
    assert!(
        matches!(&refused, Error::Refused(Refusal::NoSuchBrane(name, _)) if name == "nobody"),
        "{refused}"
    );
    assert_eq!(
        refused.to_string(),
        "no brane named \"nobody\": there are no branes"
    );
    let Answer::Names(names) = line.call(&Request::Names).unwrap() else {
        panic!("no names")
    };
    assert_eq!(names.branes.len(), 4000, "an answer of many chunks");
    let limit = Duration::from_millis(200);
    let request = Request::Shutdown {
        name: "red".into(),
        deadline_ms: 0,
    };
    assert!(matches!(
        line.call_within(&request, limit),
        Err(Error::NoAnswer(_))
    ));
    drop(line);
    assert_eq!(guest.join().unwrap(), 0);
    assert_eq!(*done.lock().unwrap(), ["red"]);
}

#[test]
fn events_are_followed() {
    let (host, socket) = UnixStream::pair().unwrap();
    let _guest = guest(socket, Arc::default(), |_| false);
    let mut line = Line::over_with(host, quick()).unwrap();
    let mut numbers = Vec::new();
    let last = line.follow_events(7, |event| {
        numbers.push(event.number);
        if numbers.len() == 4 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((last.unwrap(), numbers), (11, vec![8, 9, 10, 11]));
}

#[test]
fn on_a_bad_line_everything_is_done_once_all_the_same() {
    let (host, socket) = UnixStream::pair().unwrap();
    let done = Arc::default();
    let spoilt = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&spoilt);
    let guest = guest(socket, Arc::clone(&done), move |at| {
        let spoil = at.is_multiple_of(97);
        counter.fetch_add(usize::from(spoil), Ordering::Relaxed);
        spoil
    });
    let host = Spoilt {
        socket: host,
        written: 0,
        every: 41,
    };
    let mut line = Line::over_with(host, quick()).unwrap();
    let names: Vec<String> = (0..60).map(|n| format!("brane-{n}")).collect();
    for name in &names {
        assert_eq!(
            line.call(&Request::Start(name.clone())).unwrap(),
            Answer::Done(Done::Started(name.clone()))
        );
    }
    let (garbled, repeats) = line.troubles();
    assert!(garbled > 0 && repeats > 0 && spoilt.load(Ordering::Relaxed) > 10);
    drop(line);
    assert!(guest.join().unwrap() > 0);
    assert_eq!(*done.lock().unwrap(), names);
}

#[test]
fn who_speaks_another_version_is_told_so() {
    let (host, mut socket) = UnixStream::pair().unwrap();
    let other = brane_abi::remote::Hello {
        version: 9,
        session: 0,
    };
    socket
        .write_all(&encode(Kind::Hello, 0, &other.to_bytes()))
        .unwrap();
    let error = Line::over_with(host, quick()).err().unwrap();
    assert!(matches!(error, Error::Version { theirs: 9, .. }), "{error}");
}

#[test]
fn a_silent_system_and_a_broken_line_are_told_apart() {
    let (host, socket) = UnixStream::pair().unwrap();
    let patience = Patience {
        hello: Duration::from_millis(100),
        ..quick()
    };
    assert!(matches!(Line::over_with(host, patience), Err(Error::Silent(_))));
    drop(socket);
    let missing = Line::unix("/nowhere/branectl.sock".as_ref()).err().unwrap();
    assert!(
        missing.to_string().contains("/nowhere/branectl.sock"),
        "{missing}"
    );
}

#[test]
fn a_system_that_was_started_anew_does_not_know_the_session() {
    let (host, mut socket) = UnixStream::pair().unwrap();
    // The guest before the restart, then the guest after it, which has received no Hello.
    let guest = std::thread::spawn(move || {
        let mut manager = Played::default();
        for frames in [1, 1] {
            let mut session = Session::new();
            let mut heard = 0;
            while heard < frames {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                session.receive(&byte, &mut manager);
                session.flush(|bytes| {
                    heard += 1;
                    socket.write_all(bytes).unwrap();
                    bytes.len()
                });
            }
        }
        manager.done.lock().unwrap().len()
    });
    let mut line = Line::over_with(host, quick()).unwrap();
    let error = line.call(&Request::Start("red".into())).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(guest.join().unwrap(), 0);
}
