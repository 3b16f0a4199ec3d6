//! One line being typed, by the crate `embedded-cli`: editing, history, completion, prompt.
//!
//! A command that the manager answers keeps the prompt back until [`Session::finish`]; keys typed meanwhile are to be
//! left where they are. What is to be shown collects in the session and is bounded by [`MAX_PENDING`].

use crate::command::{COMMANDS, Command};
use crate::text;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::convert::Infallible;
use embedded_cli::arguments::Arg;
use embedded_cli::autocomplete::{Autocompletion, Request};
use embedded_cli::cli::{Cli, CliBuilder, CliHandle};
use embedded_cli::command::RawCommand;
use embedded_cli::service::{Autocomplete, CommandProcessor, Help, ProcessError};
use embedded_io::{ErrorType, Write};

/// What is shown when a command can be typed.
pub const PROMPT: &str = "branes> ";

/// Most bytes that wait for the screen; what comes beyond is lost and counted.
pub const MAX_PENDING: usize = 0x2_0000;

const LINE: usize = 128;
const HISTORY: usize = 512;
const DELETE: u8 = 0x7f;
const BACKSPACE: u8 = 0x08;

#[derive(Default)]
struct Output {
    bytes: VecDeque<u8>,
    lost: u64,
}

#[derive(Clone, Default)]
struct Screen(Rc<RefCell<Output>>);

impl ErrorType for Screen {
    type Error = Infallible;
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let mut output = self.0.borrow_mut();
        let fits = bytes.len().min(MAX_PENDING - output.bytes.len());
        output.bytes.extend(&bytes[..fits]);
        output.lost += (bytes.len() - fits) as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Completion of command names; `embedded-cli` asks the type, not a value.
struct Names;

impl Autocomplete for Names {
    fn autocomplete(request: Request<'_>, completion: &mut Autocompletion<'_>) {
        let Request::CommandName(start) = request else {
            return;
        };
        for (name, ..) in COMMANDS {
            if let Some(rest) = name.strip_prefix(start) {
                completion.merge_autocompletion(rest);
            }
        }
    }
}

impl Help for Names {}

/// Takes what was typed; prints answers that need nobody else.
struct Line {
    command: Option<Command>,
}

impl CommandProcessor<Screen, Infallible> for Line {
    fn process<'a>(
        &mut self,
        cli: &mut CliHandle<'_, Screen, Infallible>,
        raw: RawCommand<'a>,
    ) -> Result<(), ProcessError<'a, Infallible>> {
        let words = raw.args();
        let mut letters = [0; 4];
        let mut arguments = alloc::vec::Vec::new();
        for word in words.args() {
            arguments.push(match word {
                Ok(Arg::Value(text)) => String::from(text),
                Ok(Arg::LongOption(text)) => alloc::format!("--{text}"),
                Ok(Arg::ShortOption(c)) => alloc::format!("-{}", c.encode_utf8(&mut letters)),
                Ok(Arg::DoubleDash) => "--".into(),
                Err(_) => "-?".into(),
            });
        }
        match Command::parse(raw.name(), arguments.iter().map(String::as_str)) {
            Ok(Command::Help) => cli.writer().write_str(&text::help())?,
            Ok(command) => {
                self.command = Some(command);
                cli.set_prompt("");
            }
            Err(why) => cli.writer().writeln_str(&why)?,
        }
        Ok(())
    }
}

/// The console's conversation with one person.
pub struct Session {
    cli: Cli<Screen, Infallible, [u8; LINE], [u8; HISTORY]>,
    screen: Screen,
    busy: bool,
}

/// What cannot fail.
fn sure<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl Default for Session {
    fn default() -> Self {
        Session::new()
    }
}

impl Session {
    /// Greets and shows the prompt.
    pub fn new() -> Session {
        let mut screen = Screen::default();
        sure(screen.write_all(b"Type `help` for the commands.\r\n"));
        let cli = CliBuilder::default()
            .writer(screen.clone())
            .command_buffer([0; LINE])
            .history_buffer([0; HISTORY])
            .prompt(PROMPT)
            .build();
        Session {
            cli: sure(cli),
            screen,
            busy: false,
        }
    }

    /// Takes a typed byte. Returns a command for the manager when one is complete; then no byte is to be given until
    /// [`Self::finish`].
    pub fn key(&mut self, byte: u8) -> Option<Command> {
        if self.busy {
            return None;
        }
        let byte = if byte == DELETE { BACKSPACE } else { byte };
        let mut line = Line { command: None };
        sure(self.cli.process_byte::<Names, _>(byte, &mut line));
        self.busy = line.command.is_some();
        line.command
    }

    /// Whether a command waits for its answer.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Shows the answer and then the prompt.
    pub fn finish(&mut self, answer: &str) {
        for line in answer.lines() {
            sure(self.screen.write_all(line.as_bytes()));
            sure(self.screen.write_all(b"\r\n"));
        }
        self.busy = false;
        sure(self.cli.set_prompt(PROMPT));
    }

    /// Hands bytes for the screen to `sink`, which says how many it took, until it takes none or there are none.
    pub fn flush(&mut self, mut sink: impl FnMut(&[u8]) -> usize) {
        let mut output = self.screen.0.borrow_mut();
        loop {
            let (first, _) = output.bytes.as_slices();
            let taken = match first {
                [] => 0,
                first => sink(first).min(first.len()),
            };
            if taken == 0 {
                return;
            }
            output.bytes.drain(..taken);
        }
    }

    /// Bytes lost because nobody took them.
    pub fn lost(&self) -> u64 {
        self.screen.0.borrow().lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(session: &mut Session) -> String {
        let mut out = Vec::new();
        session.flush(|bytes| {
            let n = bytes.len().min(7);
            out.extend_from_slice(&bytes[..n]);
            n
        });
        String::from_utf8(out).unwrap()
    }

    fn typed(session: &mut Session, text: &str) -> Vec<Command> {
        text.bytes().filter_map(|b| session.key(b)).collect()
    }

    #[test]
    fn a_command_is_echoed_and_the_prompt_waits_for_its_answer() {
        let mut s = Session::new();
        assert_eq!(shown(&mut s), "Type `help` for the commands.\r\nbranes> ");
        assert_eq!(typed(&mut s, "show red\r"), [Command::Show("red".into())]);
        assert_eq!(shown(&mut s), "show red\r\n");
        assert!(s.is_busy());
        assert_eq!(typed(&mut s, "list\r"), [], "not before the answer");
        s.finish("brane red\n  state  started\n");
        assert_eq!(
            shown(&mut s),
            "brane red\r\n  state  started\r\n\r\x1b[2Kbranes> "
        );
        assert_eq!(typed(&mut s, "\nlist\r\n"), [Command::List]);
    }

    #[test]
    fn help_and_errors_need_nobody() {
        let mut s = Session::new();
        shown(&mut s);
        assert_eq!(typed(&mut s, "help\r"), []);
        let text = shown(&mut s);
        for (name, ..) in COMMANDS {
            assert!(text.contains(&format!("\r\n{name} ")), "{text}");
        }
        assert!(text.ends_with("\r\nbranes> "), "{text:?}");
        assert_eq!(typed(&mut s, "lst\r"), []);
        assert_eq!(
            shown(&mut s),
            "lst\r\nunknown command \"lst\": type `help` for the list\r\nbranes> "
        );
        assert_eq!(
            typed(&mut s, "crash -f\rcrash\r  \r"),
            [Command::Crash("-f".into())]
        );
    }

    #[test]
    fn lines_are_edited_completed_and_recalled() {
        let mut s = Session::new();
        assert_eq!(typed(&mut s, "lisx\x7ft\r"), [Command::List]);
        s.finish("");
        assert_eq!(typed(&mut s, "cr\tred\r"), [Command::Crash("red".into())]);
        s.finish("");
        assert_eq!(typed(&mut s, "\x1b[A\x1b[A\r"), [Command::List]);
    }

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let mut s = Session::new();
        s.finish(&"x".repeat(2 * MAX_PENDING));
        assert!(s.lost() > MAX_PENDING as u64 - 100);
        assert_eq!(shown(&mut s).len(), MAX_PENDING);
        assert_eq!(typed(&mut s, "stats\r"), [Command::Stats]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'"'),
            Just(b'\x1b'), Just(b'['), Just(b'\t'), Just(b' '), b'a'..b'z'], 0..400)) {
            let mut s = Session::new();
            for byte in bytes {
                if s.key(byte).is_some() {
                    s.finish("done\n");
                }
            }
            // Whatever came, an ended line brings the prompt back.
            s.key(b'\r');
            s.finish("");
            let mut out = Vec::new();
            s.flush(|b| { out.extend_from_slice(b); b.len() });
            prop_assert!(out.windows(PROMPT.len()).rev().take(300).any(|w| w == PROMPT.as_bytes()));
        }
    }
}
