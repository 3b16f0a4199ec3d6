//! The other side of requests: the running system, over its control line. Its answers are not trusted.

use crate::remote::{Error, Follower, Line};
use brane_abi::capture::Capture;
use brane_abi::operator::{Answer, Refusal, Request};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit of an answer. Longer than any request takes that has no deadline of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reason why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The manager has refused the request.
    Refused(Refusal),
    /// The line has failed.
    Line(String),
}

/// A system that answers requests.
pub trait Operator {
    /// Sends a request and waits for the answer.
    fn call(&mut self, request: &Request) -> Result<Answer, Failure>;
}

/// The running system behind a Unix socket. Connects at the first request.
pub struct System {
    path: PathBuf,
    line: Option<Line>,
}

impl System {
    /// Creates a system behind this socket.
    pub fn new(path: &Path) -> System {
        System {
            path: path.into(),
            line: None,
        }
    }

    /// Returns the line. Connects if there is none yet.
    fn line(&mut self) -> Result<&mut Line, Error> {
        Ok(match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::unix(&self.path)?),
        })
    }

    /// Begins a capture and passes its fragments to the follower until its end. Returns the answer.
    pub fn capture(&mut self, capture: &Capture, follower: &mut dyn Follower) -> Result<Answer, Failure> {
        self.line()
            .and_then(|line| line.capture(capture, follower))
            .map_err(failed)
    }
}

fn failed(e: Error) -> Failure {
    match e {
        Error::Refused(refusal) => Failure::Refused(refusal),
        Error::Open { path, cause } => Failure::Line(not_there(&path, &cause.to_string())),
        other => Failure::Line(other.to_string()),
    }
}

/// Returns the time limit for the answer.
fn patience(request: &Request) -> Duration {
    match request {
        Request::Shutdown { deadline_ms, .. } | Request::Delete { deadline_ms, .. } => {
            PATIENCE + Duration::from_millis((*deadline_ms).into())
        }
        _ => PATIENCE,
    }
}

/// Returns the message for a socket without a system. It names the control lines of other configurations that
/// run from this folder.
fn not_there(path: &Path, cause: &str) -> String {
    let mut fix = "start one with `cargo xtask run`, or name its control line with --socket PATH".to_string();
    if let (Some(name), Some(all)) = (path.file_name(), path.parent().and_then(Path::parent)) {
        let folders = std::fs::read_dir(all).into_iter().flatten().flatten();
        let others = folders
            .map(|f| f.path().join(name))
            .filter(|p| p != path && p.exists());
        let others: Vec<_> = others
            .take(3)
            .map(|p| format!("--socket {}", p.display()))
            .collect();
        if !others.is_empty() {
            fix = format!("there is {}", others.join(", or "));
        }
    }
    format!("no system answers at {}: {cause}: {fix}", path.display())
}

impl Operator for System {
    fn call(&mut self, request: &Request) -> Result<Answer, Failure> {
        let line = self.line().map_err(failed)?;
        loop {
            match line.call_within(request, patience(request)) {
                // No event within the time limit.
                Err(Error::NoAnswer(_)) if matches!(request, Request::Events { wait: true, .. }) => {}
                result => return result.map_err(failed),
            }
        }
    }
}
