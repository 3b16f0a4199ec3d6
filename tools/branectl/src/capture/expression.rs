//! Compiles expressions of tcpdump to programs.
//!
//! libpcap compiles them, in the program `tcpdump` (`tcpdump -d` opens no device). So the language and its messages are those that the
//! user knows, and the C library runs in a process of its own. The user is trusted as the user of this machine. The program is checked
//! before it is sent.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use brane_abi::capture::Link;
use brane_abi::filter::Instruction;
use branes_bpf::{Program, code};
use operator_cli::capture::Programs;
use operator_cli::error::Error;

/// The compiler: the name of the program.
const COMPILER: &str = "tcpdump";

/// Compiles an expression for both link types. An expression that makes no sense for `lo0`, such as `arp`, selects none of its packets.
pub fn compile(expression: &str) -> Result<Programs, Error> {
    let programs = Programs {
        ethernet: checked(expression, &dumped(expression, Link::Ethernet)?)?,
        raw: match dumped(expression, Link::Raw) {
            Ok(text) => checked(expression, &text)?,
            // It compiles for Ethernet, so the fault is that lo0 has no such packets.
            Err(_) => vec![Instruction {
                code: code::RET | code::K,
                ..Instruction::default()
            }],
        },
    };
    programs.checked()
}

/// Returns the dump of the compiled expression.
fn dumped(expression: &str, link: Link) -> Result<String, Error> {
    let name = match link {
        Link::Ethernet => "EN10MB",
        Link::Raw => "RAW",
    };
    let output = Command::new(COMPILER)
        .env("PATH", path())
        .args(["-ddd", "-y", name, "--", expression])
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| match cause.kind() {
            ErrorKind::NotFound => Error::new(
                format!("no program {COMPILER}, which compiles the expression"),
                format!("install it (Debian: apt-get install {COMPILER}), or leave the expression out"),
            ),
            _ => Error::new(format!("{COMPILER} does not start: {cause}"), ""),
        })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr);
    // Warnings come first.
    let last = said.lines().last().unwrap_or("no message");
    let fault = last.strip_prefix(&format!("{COMPILER}: ")).unwrap_or(last);
    Err(Error::new(
        format!("expression \"{expression}\": {fault}"),
        "the manual page pcap-filter(7) explains the language, as in udp port 53",
    ))
}

/// Returns the search path with the folders for administrators, where some systems have tcpdump.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Parses a dump and checks the program.
fn checked(expression: &str, dump: &str) -> Result<Vec<Instruction>, Error> {
    let program = parse(dump).ok_or_else(|| {
        Error::new(
            format!("the output of {COMPILER} for \"{expression}\" is no program"),
            format!("check that {COMPILER} -ddd prints numbers"),
        )
    })?;
    Program::verify(&program).map_err(|fault| {
        let fix = match fault.reason {
            branes_bpf::Reason::TooLong(_) => "write a shorter expression",
            _ => "write another expression",
        };
        Error::new(format!("expression \"{expression}\": {fault}"), fix)
    })?;
    Ok(program)
}

/// Parses the output of `tcpdump -ddd`: the number of instructions, then one in each line. Returns `None` if it is something else.
pub fn parse(dump: &str) -> Option<Vec<Instruction>> {
    let mut lines = dump.lines();
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut program = Vec::new();
    for line in lines {
        let mut numbers = line.split_ascii_whitespace();
        program.push(Instruction {
            code: numbers.next()?.parse().ok()?,
            jt: numbers.next()?.parse().ok()?,
            jf: numbers.next()?.parse().ok()?,
            k: numbers.next()?.parse().ok()?,
        });
        if numbers.next().is_some() {
            return None;
        }
    }
    (program.len() == count).then_some(program)
}

#[cfg(test)]
mod tests;
