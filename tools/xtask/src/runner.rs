//! Runs a test runner, shows what it says as it says it, and keeps its closing lines for the end.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write, stderr};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};

/// What a runner said at its end.
pub struct Closing {
    /// Which tests they were.
    pub about: String,
    /// Its own lines.
    pub lines: Vec<String>,
    /// Whether it succeeded.
    pub passed: bool,
}

/// Whether a line is one of a runner's closing lines: libtest's, nextest's and libFuzzer's.
fn is_closing(line: &str) -> bool {
    line.starts_with("test result: ")
        || line.contains("Summary [")
        || line.starts_with("Done ") && line.contains(" runs in ")
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
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // Nobody to show it to is no reason to stop the tests.
        let _ = stderr().lock().write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if is_closing(text.trim())
            && let Ok(mut closing) = closing.lock()
        {
            closing.push(text.trim().to_owned());
        }
        line.clear();
    }
}

/// `--color` for cargo: our streams are pipes for it, but end on the terminal.
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
