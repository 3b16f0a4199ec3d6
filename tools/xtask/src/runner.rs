//! Runs a test runner, shows its output at once, and keeps its closing lines for the end.
//!
//! On the other side: cargo's runner, nextest or libFuzzer, all trusted.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write, stderr};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};

/// End of a runner's output.
pub struct Closing {
    /// Name of the tests that ran.
    pub about: String,
    /// The runner's own lines.
    pub lines: Vec<String>,
    /// True if the runner succeeded.
    pub passed: bool,
}

/// Returns true if a line is one of a runner's closing lines: libtest's, nextest's and libFuzzer's.
fn is_closing(line: &str) -> bool {
    line.starts_with("test result: ")
        || line.contains("Summary [")
        || line.starts_with("Done ") && line.contains(" runs in ")
}

/// Returns true if a line names a failed test or a reason: nextest's list, the result of `main`, a panic. A
/// runner shows the output of failed tests only.
fn is_failure(line: &str) -> bool {
    let listed = |what: &str| line.starts_with(what) && line.contains('[');
    ["FAIL ", "TIMEOUT ", "SIG"].into_iter().any(listed)
        || line.starts_with("Error: ")
        || line.contains("panicked at ")
}

/// Runs `command`. Its output goes to our standard error, line by line.
pub fn run(about: &str, command: &mut Command) -> Result<Closing> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    let lines = Mutex::new(Vec::new());
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as _),
        child.stderr.take().map(|s| Box::new(s) as _),
    ];
    thread::scope(|scope| {
        for stream in streams.into_iter().flatten() {
            let lines = &lines;
            scope.spawn(move || follow(stream, lines));
        }
    });
    let status = child.wait().context("waiting for the test runner")?;
    let lines = lines.into_inner().unwrap_or_default();
    Ok(Closing {
        about: about.to_owned(),
        lines,
        passed: status.success(),
    })
}

fn follow(stream: Box<dyn Read + Send>, closing: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut told = Vec::new();
    // The message of a panic is on the line behind its place.
    let mut after_panic = false;
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // The tests continue even if standard error is closed.
        let _ = stderr().lock().write_all(&line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        // A runner names a failed test when it ends, and again in the list at the end.
        let failure = (is_failure(text) || after_panic) && !told.iter().any(|t| t == text);
        if (is_closing(text) || failure)
            && let Ok(mut closing) = closing.lock()
        {
            closing.push(text.to_owned());
            told.push(text.to_owned());
        }
        after_panic = text.contains("panicked at ");
        line.clear();
    }
}

/// Returns cargo's option `--color`. Cargo writes to our pipes, but its output ends on the terminal.
pub fn color() -> &'static str {
    if stderr().is_terminal() {
        "--color=always"
    } else {
        "--color=never"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_named_once_with_their_reasons() {
        let script = "echo 'thread x panicked at a.rs:1:2:'; echo 'left is not right'; echo more; \
                      echo '   FAIL [ 1.0s] (2/2) a b'; echo 'Error: no answer'; echo ' Summary [ 1s] 2 tests run'; \
                      echo '   FAIL [ 1.0s] (2/2) a b'; exit 1";
        let closing = run("x", Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(
            closing.lines,
            [
                "thread x panicked at a.rs:1:2:",
                "left is not right",
                "FAIL [ 1.0s] (2/2) a b",
                "Error: no answer",
                "Summary [ 1s] 2 tests run",
            ]
        );
    }

    #[test]
    fn closing_lines_are_kept_and_failures_seen() {
        let script = "echo noise; echo 'test result: ok. 3 passed' ; echo '     Summary [   0.1s] 2 tests run' >&2; exit 3";
        let closing = run("x", Command::new("sh").args(["-c", script])).unwrap();
        assert!(!closing.passed);
        let mut lines = closing.lines;
        lines.sort();
        assert_eq!(
            lines,
            ["Summary [   0.1s] 2 tests run", "test result: ok. 3 passed"]
        );
    }
}
