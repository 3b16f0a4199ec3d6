//! What can go wrong with QEMU and the host's tools, in words for the person at the keyboard.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why QEMU is not running, or not saying what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tools are missing and could not be installed.
    #[error("missing: {missing}. {remedy}")]
    Missing {
        /// The tools, with what they are for.
        missing: String,
        /// What to do.
        remedy: String,
    },
    /// QEMU is too old, or what has its name does not say a version.
    #[error(
        "{}: {what}; version {}.{} or newer is needed, which Debian 12 has in its package qemu-system-x86",
        program.display(),
        needed.0,
        needed.1
    )]
    Version {
        /// The program.
        program: PathBuf,
        /// What is wrong with its version.
        what: String,
        /// The oldest version that works.
        needed: (u32, u32),
    },
    /// A port of the host is taken, or not ours to take.
    #[error(
        "{protocol} port {} of {} is {} ({cause}); {}choose others with --port-base",
        address.port(),
        address.ip(),
        if *taken { "in use" } else { "not to be had" },
        if *taken { "stop what uses it, or " } else { "" }
    )]
    Port {
        /// Whether somebody else has it.
        taken: bool,
        /// TCP or UDP.
        protocol: &'static str,
        /// Where it was to listen.
        address: SocketAddr,
        /// The system's reason.
        cause: io::Error,
    },
    /// The socket of a serial line cannot be made.
    #[error("{} {what}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// A network device of the host is missing.
    #[error(
        "there is no network device {0} here; make it as root with: ip tuntap add dev {0} mode tap && ip link set dev {0} up"
    )]
    NoInterface(String),
    /// A network device of the host cannot be the machine's cable.
    #[error("{name} {what}")]
    Tap {
        /// The device.
        name: String,
        /// Why not, and what to do.
        what: String,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {cause}")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        cause: io::Error,
    },
    /// QEMU ended by itself.
    #[error("QEMU ended ({status}){}", said(messages))]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it wrote on its standard error.
        messages: String,
    },
    /// The console did not show a text in time.
    #[error("the console did not show `{text}` within {} ms; its last lines:\n{tail}", within.as_millis())]
    Silent {
        /// The text.
        text: String,
        /// The time allowed.
        within: Duration,
        /// The end of what the console showed.
        tail: String,
    },
    /// The console cannot be written to.
    #[error("this QEMU's console is not connected to the harness")]
    NoConsole,
    /// An operation on the running QEMU failed.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
}

fn said(messages: &str) -> String {
    match messages.trim() {
        "" => String::new(),
        messages => format!(": {messages}"),
    }
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Io { action, cause }
    }
}
