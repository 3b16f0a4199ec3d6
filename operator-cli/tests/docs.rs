//! `docs/commands.md`, `docs/json.md` and `docs/refusals.md` are generated from the table, the schemas and the words of refusals.
//! This test fails if they are out of date. `BRANES_WRITE_DOCS=1 cargo test -p operator-cli --test docs` writes them.

use operator_cli::error::OWN_CODES;
use operator_cli::help;
use operator_cli::refusals::{Words, examples, query_examples};
use operator_cli::schema::SCHEMAS;
use operator_cli::table::{Program, Verb};
use std::fmt::Write;
use std::path::Path;

fn up_to_date(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("BRANES_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/{name} is not what the table says: BRANES_WRITE_DOCS=1 cargo test -p operator-cli --test docs"
    );
}

fn verb(out: &mut String, program: Program, v: &Verb) {
    let escape = |t: &str| t.replace('|', "\\|").replace('<', "&lt;");
    writeln!(out, "### {}\n\n{}.\n", v.name, capital(v.help)).unwrap();
    writeln!(out, "    {}\n\n{}\n", v.usage(), escape(v.long)).unwrap();
    writeln!(out, "| | |\n| --- | --- |").unwrap();
    for a in v.arguments {
        writeln!(out, "| `{}` | {} |", a.name, escape(a.help)).unwrap();
    }
    for o in v.all_options() {
        let short = o.short.map_or(String::new(), |c| format!("-{c}, "));
        let value = o.value.map_or(String::new(), |(name, _)| format!(" {name}"));
        writeln!(out, "| `{short}--{}{value}` | {} |", o.long, escape(o.help)).unwrap();
    }
    writeln!(out, "\n    {}\n", help::example(program, v)).unwrap();
    let schemas: Vec<String> = v.schemas().map(|s| format!("[{s}](json.md#{s})")).collect();
    if !schemas.is_empty() {
        writeln!(
            out,
            "With `-j`: {}.
",
            schemas.join(", ")
        )
        .unwrap();
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

const HEAD: &str = "# Commands

<!-- Made from the table in operator-cli/src/table by the test `docs`; do not edit. -->

The commands work at the console of the running system, and on the host by `branectl` and `nicctl` over the system's control line. The
path of the control line is that of `--socket PATH`, of `BRANES_CONTROL` in the environment, or by default
`target/run/default/branectl.sock`, which `cargo xtask run` uses. At the console the word `branectl` can be omitted. `enter BRANE` changes
the prompt to that of a brane: its commands are typed without `in BRANE` until `exit`. Tab completes verbs, branes, devices and
interfaces. The keys up and down recall lines. Ctrl-C ends the running command.

Every verb accepts `-j` and then answers in JSON ([json.md](json.md)). `branectl` ends with status 0 if the command succeeded, with 1 if
the system refused it or a defect was found, and with 2 if the command is not valid. Errors go to standard error. `branectl completions
bash|zsh|fish` and `branectl man` print completions and the man page, and `nicctl` has the same two verbs. Every error has a code, which
[refusals.md](refusals.md) lists with its words.

";

#[test]
fn commands_are_documented() {
    let mut out = String::from(HEAD);
    for (program, title) in [
        (Program::Branectl, "branectl: branes"),
        (Program::Nicctl, "nicctl: devices"),
        (Program::InBrane, "Inside a brane"),
    ] {
        writeln!(out, "## {title}\n").unwrap();
        for v in program.verbs() {
            verb(&mut out, program, v);
        }
    }
    up_to_date("commands.md", &format!("{}\n", out.trim_end()));
}

#[test]
fn json_is_documented() {
    let mut out = String::from(
        "# Answers in JSON\n\n<!-- Made from operator-cli/schemas by the test `docs`; do not edit. -->\n\nOne object for each \
         answer, in a line; `events` and `logs` write one for each event or line. The schemas (draft 2020-12) are in \
         `operator-cli/schemas`; a test holds every answer to its schema. If the system refuses, the object is an [error](#error), \
         and the status is 1. A line that is not understood (status 2) has words only. The `code` of an error is one of [refusals.md](refusals.md) and stable; its words are not. Some names and \
         texts come from branes, which are not trusted.\n\n",
    );
    for (name, schema) in SCHEMAS {
        let verbs: Vec<String> = Program::ALL
            .into_iter()
            .flat_map(|p| {
                p.verbs()
                    .filter(|v| v.schemas().any(|s| s == *name))
                    .map(move |v| format!("`{} {}`", p.prefix(), v.name))
            })
            .collect();
        writeln!(out, "## {name}\n").unwrap();
        if !verbs.is_empty() {
            writeln!(out, "{}\n", verbs.join(", ")).unwrap();
        }
        writeln!(out, "```json\n{}```\n", schema).unwrap();
    }
    up_to_date("json.md", &format!("{}\n", out.trim_end()));
}

#[test]
fn refusals_are_documented() {
    let mut out = String::from(
        "# Refusals\n\n<!-- Made from operator-cli/src/refusals.rs by the test `docs`; do not edit. -->\n\nThe manager and the \
         branes refuse a request with a code and data (`abi/src/operator/refusal.rs`, `abi/src/query.rs`). The operator's end \
         makes the words (`operator-cli/src/refusals.rs`). An answer in JSON has the code in `error.code`. Codes are stable; words \
         are not. Each line shows an example of the words.\n",
    );
    let mut table = |title: &str, all: Vec<operator_cli::error::Error>| {
        writeln!(
            out,
            "\n## {title}\n\n| code | words | what to do |\n| --- | --- | --- |"
        )
        .unwrap();
        for e in all {
            let escape = |t: &str| t.replace('|', "\\|").replace('<', "&lt;");
            writeln!(out, "| `{}` | {} | {} |", e.code, escape(&e.what), escape(&e.fix)).unwrap();
        }
    };
    table("Of the manager", examples().iter().map(Words::words).collect());
    table(
        "Of a brane that is asked",
        query_examples().iter().map(Words::words).collect(),
    );
    writeln!(
        out,
        "\n## Of the operator's own program\n\n| code | when |\n| --- | --- |"
    )
    .unwrap();
    for (code, when) in OWN_CODES {
        writeln!(out, "| `{code}` | {when} |").unwrap();
    }
    up_to_date("refusals.md", &out);
}
