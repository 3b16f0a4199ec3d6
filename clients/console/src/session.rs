//! The console's conversation with one person: the line that is typed, the command that runs, the brane that was entered.
//!
//! While a command runs, what is typed is kept for later (bounded by [`TYPEAHEAD`]), but for Ctrl-C, which ends it; `events` is
//! ended by any key. What is to be shown collects in the session and is bounded by [`MAX_PENDING`].

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

/// What is shown when a command can be typed.
pub const PROMPT: &str = "branes> ";

/// Most bytes that wait for the screen; what comes beyond is lost and counted.
pub const MAX_PENDING: usize = 0x2_0000;

/// Most typed bytes that are kept while a command runs.
pub const TYPEAHEAD: usize = 256;

const CANCEL: u8 = 0x03;

/// What the session waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Todo {
    /// The answer to this request, by [`Session::answer`].
    Send(Request),
    /// So many milliseconds to pass, by [`Session::passed`].
    Pause(u32),
}

/// Why names are asked for.
#[derive(Debug)]
enum Asked {
    Complete,
    Enter(String),
}

/// The console's conversation with one person.
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
    /// Greets and shows the prompt.
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

    /// Shows text in lines.
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

    /// Whether a command waits for something.
    pub fn is_busy(&self) -> bool {
        self.command.is_some() || self.asked.is_some()
    }

    /// Takes a typed byte. What it returns takes the place of what was waited for before; `None` changes nothing, unless
    /// [`Self::is_busy`] has become false: then nothing is waited for any more.
    pub fn key(&mut self, byte: u8) -> Option<Todo> {
        if !self.is_busy() {
            return self.typed(byte);
        }
        // The line feed of the return that began it is no key of its own.
        let ends = byte == CANCEL || self.follows && byte != b'\n';
        if !ends {
            if self.kept.len() < TYPEAHEAD {
                self.kept.push_back(byte);
            }
            return None;
        }
        self.kept.clear();
        self.asked = None;
        if let Some(mut command) = self.command.take() {
            if byte == CANCEL {
                self.show("^C\r\n");
            }
            let mut out = Output::default();
            command.cancel(&mut out);
            self.show_lines(&out.text);
            self.prompt();
        }
        None
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
                self.follows = matches!(parsed.command, Command::Events { .. });
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

    /// The answer to the request that was asked for last.
    pub fn answer(&mut self, answer: Result<Answer, Refusal>) -> Option<Todo> {
        match self.asked.take() {
            Some(why) => {
                self.named(&why, answer);
                self.replay()
            }
            None => self.step(Some(answer)),
        }
    }

    /// The time that was asked for has passed.
    pub fn passed(&mut self) -> Option<Todo> {
        self.step(None)
    }

    fn step(&mut self, answer: Option<Result<Answer, Refusal>>) -> Option<Todo> {
        let command = self.command.as_mut()?;
        let mut out = Output::default();
        let step = command.step(answer, &mut out);
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

    /// Takes what was typed meanwhile, up to the next command that has to wait.
    fn replay(&mut self) -> Option<Todo> {
        while !self.is_busy() {
            let byte = self.kept.pop_front()?;
            if let Some(todo) = self.typed(byte) {
                return Some(todo);
            }
        }
        None
    }

    /// The names that exist are known, or cannot be had.
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

    /// Hands bytes for the screen to `sink`, which says how many it took, until it takes none or there are none.
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

    /// Bytes lost because nobody took them.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests;
