//! The console's session with one person: the typed line, the running command, and the entered brane.
//!
//! The person is not trusted. While a command runs, typed bytes are kept for later (at most [`TYPEAHEAD`]). Ctrl-C ends the
//! command instead, and any key ends `events` and `capture`. Output for the screen collects in the session, at most [`MAX_PENDING`] bytes.

use crate::editor::{Editor, Event};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use brane_abi::operator::{Answer, Names, Refusal, Request};
use operator_cli::command::Command;
use operator_cli::complete;
use operator_cli::error::Error;
use operator_cli::parse::{self, Context, Parsed};
use operator_cli::session::{Output, Session as CommandSession, Step};
use operator_cli::table::Program;
use operator_cli::table_layout::printable;

/// Text that is shown when a command can be typed.
pub const PROMPT: &str = "branes> ";

/// Most bytes that wait for the screen. Further bytes are dropped and counted.
pub const MAX_PENDING: usize = 0x2_0000;

/// Most typed bytes that are kept while a command runs.
pub const TYPEAHEAD: usize = 256;

const CANCEL: u8 = 0x03;

/// Event that the session waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Todo {
    /// The answer to this request, by [`Session::answer`].
    Send(Request),
    /// The end of this many milliseconds, by [`Session::passed`].
    Pause(u32),
}

/// Purpose of a request for names.
#[derive(Debug)]
enum Asked {
    Complete,
    Enter(String),
}

/// The console's session with one person.
pub struct Session {
    editor: Editor,
    context: Context,
    names: Names,
    command: Option<CommandSession>,
    asked: Option<Asked>,
    follows: bool,
    kept: VecDeque<u8>,
    screen: VecDeque<u8>,
    lost: u64,
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Creates a session that shows a greeting and the prompt.
    pub fn new() -> Session {
        let mut session = Session {
            editor: Editor::default(),
            context: Context::of(Program::Branectl),
            names: Names::default(),
            command: None,
            asked: None,
            follows: false,
            kept: VecDeque::new(),
            screen: VecDeque::new(),
            lost: 0,
        };
        session.show("Type `help` for the commands.\r\n");
        session.prompt();
        session
    }

    fn show(&mut self, text: &str) {
        let fits = text.len().min(MAX_PENDING - self.screen.len());
        self.screen.extend(&text.as_bytes()[..fits]);
        self.lost += (text.len() - fits) as u64;
    }

    /// Shows the lines of a text.
    fn show_lines(&mut self, text: &str) {
        for line in text.lines() {
            self.show(line);
            self.show("\r\n");
        }
    }

    fn prompt(&mut self) {
        let prompt = match &self.context.brane {
            Some(brane) => printable(&format!("{brane}# ")),
            None => PROMPT.into(),
        };
        self.show(&prompt);
    }

    /// Returns true if a command waits for an event.
    pub fn is_busy(&self) -> bool {
        self.command.is_some() || self.asked.is_some()
    }

    /// Handles a typed byte. A returned [`Todo`] replaces the earlier one. `None` changes nothing, unless [`Self::is_busy`] has
    /// become false: then the session waits for nothing any more.
    pub fn key(&mut self, byte: u8) -> Option<Todo> {
        if !self.is_busy() {
            return self.typed(byte);
        }
        // The line feed after the return that began the command is not a key of its own.
        let ends = byte == CANCEL || self.follows && byte != b'\n';
        if !ends {
            if self.kept.len() < TYPEAHEAD {
                self.kept.push_back(byte);
            }
            return None;
        }
        self.kept.clear();
        self.asked = None;
        let command = self.command.as_mut()?;
        let mut out = Output::default();
        let step = command.cancel(&mut out);
        if byte == CANCEL {
            self.show("^C\r\n");
        }
        self.follow(step, &out)
    }

    fn typed(&mut self, byte: u8) -> Option<Todo> {
        let mut out = String::new();
        let event = self.editor.key(byte, &mut out);
        self.show(&out);
        match event? {
            Event::Cancel => {
                self.prompt();
                None
            }
            Event::Complete => {
                self.asked = Some(Asked::Complete);
                Some(Todo::Send(Request::Names))
            }
            Event::Line(line) => self.line(&line),
        }
    }

    fn line(&mut self, line: &str) -> Option<Todo> {
        match parse::line(line, &self.context) {
            Ok(None) => self.prompt(),
            Ok(Some(Parsed {
                command: Command::Exit,
                ..
            })) => {
                self.context = Context::of(Program::Branectl);
                self.prompt();
            }
            Ok(Some(Parsed {
                command: Command::Enter(brane),
                ..
            })) => {
                self.asked = Some(Asked::Enter(brane));
                return Some(Todo::Send(Request::Names));
            }
            Ok(Some(parsed)) => {
                self.follows = matches!(parsed.command, Command::Events { .. } | Command::Capture(_));
                self.command = Some(CommandSession::new(parsed));
                return self.step(None);
            }
            Err(e) => self.fail(&e),
        }
        None
    }

    fn fail(&mut self, e: &Error) {
        self.show_lines(&printable(&format!("{e}\n")));
        self.prompt();
    }

    /// Handles the answer to the last request.
    pub fn answer(&mut self, answer: Result<Answer, Refusal>) -> Option<Todo> {
        match self.asked.take() {
            Some(why) => {
                self.named(&why, answer);
                self.replay()
            }
            None => self.step(Some(answer)),
        }
    }

    /// Continues when the requested time has passed.
    pub fn passed(&mut self) -> Option<Todo> {
        self.step(None)
    }

    fn step(&mut self, answer: Option<Result<Answer, Refusal>>) -> Option<Todo> {
        let command = self.command.as_mut()?;
        let mut out = Output::default();
        let step = command.step(answer, &mut out);
        self.follow(step, &out)
    }

    /// Shows the output of a step. Returns what the step waits for.
    fn follow(&mut self, step: Step, out: &Output) -> Option<Todo> {
        self.show_lines(&out.text);
        self.show_lines(&out.error);
        match step {
            Step::Send(request) => Some(Todo::Send(request)),
            Step::Pause(ms) => Some(Todo::Pause(ms)),
            Step::Done(_) => {
                self.command = None;
                self.prompt();
                self.replay()
            }
        }
    }

    /// Handles the bytes that were typed meanwhile, up to the next command that has to wait.
    fn replay(&mut self) -> Option<Todo> {
        while !self.is_busy() {
            let byte = self.kept.pop_front()?;
            if let Some(todo) = self.typed(byte) {
                return Some(todo);
            }
        }
        None
    }

    /// Continues with the existing names, or with the old ones if the request was refused.
    fn named(&mut self, why: &Asked, answer: Result<Answer, Refusal>) {
        if let Ok(Answer::Names(names)) = answer {
            self.names = names;
        }
        match why {
            Asked::Complete => self.complete(),
            Asked::Enter(brane) if self.names.branes.contains(brane) => {
                self.context = Context {
                    program: Program::InBrane,
                    brane: Some(brane.clone()),
                };
                self.prompt();
            }
            Asked::Enter(brane) => {
                let branes = self.names.branes.iter().map(String::as_str).collect();
                let error = Refusal::NoSuchBrane(brane.clone(), branes).into();
                self.fail(&error);
            }
        }
    }

    fn complete(&mut self) {
        let (line, cursor) = self.editor.line();
        let completion = complete::line(&line[..cursor], &self.context, &self.names);
        let begun = cursor - completion.start;
        let mut rest = String::from(completion.shared().get(begun..).unwrap_or(""));
        if completion.candidates.len() == 1 {
            rest.push(' ');
        }
        let mut out = String::new();
        if completion.candidates.is_empty() {
            out.push('\x07');
        } else if rest.is_empty() {
            self.show("\r\n");
            self.show_lines(&printable(&format!("{}\n", completion.candidates.join("  "))));
            self.prompt();
            self.editor.redraw(&mut out);
        } else {
            self.editor.insert(&rest, &mut out);
        }
        self.show(&out);
    }

    /// Passes bytes for the screen to `sink`, which returns how many it took. Ends when it takes none or none are left.
    pub fn flush(&mut self, mut sink: impl FnMut(&[u8]) -> usize) {
        loop {
            let (first, _) = self.screen.as_slices();
            let taken = match first {
                [] => 0,
                first => sink(first).min(first.len()),
            };
            if taken == 0 {
                return;
            }
            self.screen.drain(..taken);
        }
    }

    /// Returns the number of bytes that were dropped because too many waited for the screen.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests;
