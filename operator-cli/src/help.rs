//! The texts of `help`, from the table. Owns no state.

use crate::error::Error;
use crate::parse::near;
use crate::table::{Program, Verb};
use crate::table_layout::Table;
use alloc::format;
use alloc::string::{String, ToString};

/// Width of the texts in characters.
const WIDTH: usize = 100;

/// Returns all verbs of a program, one for each line.
pub fn list(program: Program) -> String {
    let mut table = Table::default();
    for v in program.verbs() {
        table.row([v.name.to_string(), arguments(v), v.help.into()]);
    }
    match program {
        Program::Branectl => {
            table.row([
                "in".into(),
                "BRANE COMMAND...".into(),
                "a command inside a brane; `help in` lists them".into(),
            ]);
            table.row([
                "enter".into(),
                "BRANE".into(),
                "manage one brane (only on the console); `exit` leaves it".into(),
            ]);
            table.row([
                "nicctl".into(),
                "VERB...".into(),
                "create and delete devices; `help nicctl` lists its verbs".into(),
            ]);
        }
        Program::Nicctl | Program::InBrane => {}
    }
    let tail = match program {
        Program::Branectl => "`help VERB` explains one; -j answers in JSON.\n",
        Program::Nicctl => "`help nicctl VERB` explains one; -j answers in JSON.\n",
        Program::InBrane => "`help VERB` explains one; -j answers in JSON; `exit` leaves the brane.\n",
    };
    table.text("") + tail
}

fn arguments(v: &Verb) -> String {
    let usage = v.usage();
    let words = usage.split(' ').skip(1);
    let mut out = String::new();
    for word in words.take_while(|w| !w.starts_with("[-")) {
        if !out.is_empty() {
            out.push(' ');
        }
        out += word;
    }
    out
}

/// Returns the full help of a verb.
pub fn verb(program: Program, v: &Verb) -> String {
    let mut out = format!("{}\n\n  usage  {}\n\n", v.help, v.usage());
    out += &wrapped(v.long, WIDTH);
    out.push('\n');
    let mut table = Table::default();
    for a in v.arguments {
        table.row([a.name.into(), a.help.into()]);
    }
    for o in v.all_options() {
        let short = o.short.map_or(String::new(), |c| format!("-{c}, "));
        let value = o.value.map_or(String::new(), |(name, _)| format!(" {name}"));
        table.row([format!("{short}--{}{value}", o.long), o.help.into()]);
    }
    out += &table.text("  ");
    out += &format!("\n  example  {}\n", example(program, v));
    out
}

/// Returns the example of a verb, as typed at the host's shell and at the console.
pub fn example(program: Program, v: &Verb) -> String {
    match program {
        Program::InBrane => format!("branectl in red {}", v.example),
        _ => format!("{} {}", program.prefix(), v.example),
    }
}

/// Returns the answer of `help WORD`.
pub fn about(word: Option<&str>) -> Result<String, Error> {
    let Some(word) = word else {
        return Ok(list(Program::Branectl));
    };
    match word {
        "branectl" => return Ok(list(Program::Branectl)),
        "nicctl" => return Ok(list(Program::Nicctl)),
        "in" | "enter" => return Ok(list(Program::InBrane)),
        _ => {}
    }
    let mut out = String::new();
    for program in Program::ALL {
        if let Some(v) = program.verb(word) {
            if !out.is_empty() {
                out += "\n";
            }
            out += &format!("{} {word}: ", program.prefix());
            out += &verb(program, v);
        }
    }
    if !out.is_empty() {
        return Ok(out);
    }
    let all = Program::ALL.into_iter().flat_map(|p| p.verbs().map(|v| v.name));
    let what = format!("no verb \"{word}\"");
    Err(match near(word, all) {
        Some(near) => Error::new(what, format!("did you mean {near}?")),
        None => Error::new(what, "`help` lists the verbs"),
    })
}

/// Wraps text at spaces to lines of at most `width` characters.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    for paragraph in text.lines() {
        let mut column = 0;
        for word in paragraph.split(' ') {
            let long = word.chars().count();
            if column > 0 && column + 1 + long > width {
                out.push('\n');
                column = 0;
            }
            if column > 0 {
                out.push(' ');
                column += 1;
            }
            out += word;
            column += long;
        }
        out.push('\n');
    }
    out
}
