//! Who answers requests: the running system, over its control line.

use brane_abi::operator::{Answer, Refusal, Request};
use branes_remote::{Error, Line};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than any request takes that names no deadline of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The manager has refused the request.
    Refused(Refusal),
    /// The line does not carry it.
    Line(String),
}

/// Who answers requests.
pub trait Operator {
    /// Asks and waits for the answer.
    fn call(&mut self, request: &Request) -> Result<Answer, Failure>;
}

/// The running system behind a Unix socket, connected to at the first request.
pub struct System {
    path: PathBuf,
    line: Option<Line>,
}

impl System {
    /// Behind this socket.
    pub fn new(path: &Path) -> System {
        System {
            path: path.into(),
            line: None,
        }
    }
}

/// How long to wait for the answer.
fn patience(request: &Request) -> Duration {
    match request {
        Request::Shutdown { deadline_ms, .. } | Request::Delete { deadline_ms, .. } => {
            PATIENCE + Duration::from_millis((*deadline_ms).into())
        }
        _ => PATIENCE,
    }
}

impl Operator for System {
    fn call(&mut self, request: &Request) -> Result<Answer, Failure> {
        let failed = |e: Error| match e {
            Error::Refused(refusal) => Failure::Refused(refusal),
            other => Failure::Line(other.to_string()),
        };
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::unix(&self.path).map_err(failed)?),
        };
        loop {
            match line.call_within(request, patience(request)) {
                // Nothing has happened for so long.
                Err(Error::NoAnswer(_)) if matches!(request, Request::Events(_)) => {}
                result => return result.map_err(failed),
            }
        }
    }
}
