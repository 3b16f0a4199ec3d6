//! Who answers requests: the running system, over its control line.

use crate::remote::{Error, Line};
use brane_abi::operator::{Answer, Refusal, Request};
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

/// No system is behind this socket: what to do, naming those of other configurations that run from the same folder.
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
        let failed = |e: Error| match e {
            Error::Refused(refusal) => Failure::Refused(refusal),
            Error::Open { path, cause } => Failure::Line(not_there(&path, &cause.to_string())),
            other => Failure::Line(other.to_string()),
        };
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::unix(&self.path).map_err(failed)?),
        };
        loop {
            match line.call_within(request, patience(request)) {
                // Nothing has happened for so long.
                Err(Error::NoAnswer(_)) if matches!(request, Request::Events { wait: true, .. }) => {}
                result => return result.map_err(failed),
            }
        }
    }
}
