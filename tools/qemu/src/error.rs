//! Errors of QEMU and of the host's tools, in words for the person at the keyboard.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Reason why QEMU does not run, or does not show the expected output.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tools are missing and could not be installed.
    #[error("missing: {missing}. {remedy}")]
    Missing {
        /// The tools and their purpose.
        missing: String,
        /// The remedy.
        remedy: String,
    },
    /// QEMU is too old, or the program of its name does not print a version.
    #[error(
        "{}: {what}; version {}.{} or newer is needed, which Debian 12 has in its package qemu-system-x86",
        program.display(),
        needed.0,
        needed.1
    )]
    Version {
        program: PathBuf,
        /// The fault of its version.
        what: String,
        needed: (u32, u32),
    },
    /// A port of the host is in use, or this user may not use it.
    #[error(
        "{protocol} port {} of {} is {} ({cause}); {}choose others with --port-base",
        address.port(),
        address.ip(),
        if *taken { "in use" } else { "not available" },
        if *taken { "stop what uses it, or " } else { "" }
    )]
    Port {
        /// True if another process uses the port, false if it is not available for another reason.
        taken: bool,
        protocol: &'static str,
        /// Address at which QEMU would listen.
        address: SocketAddr,
        cause: io::Error,
    },
    /// The socket of a serial line cannot be made.
    #[error("{} {what}", path.display())]
    Socket {
        path: PathBuf,
        /// The reason, and the remedy.
        what: String,
    },
    #[error(
        "there is no network device {0} here; make it as root with: ip tuntap add dev {0} mode tap && ip link set dev {0} up"
    )]
    NoInterface(String),
    /// A network device of the host cannot be connected to the machine.
    #[error("{name} {what}")]
    Tap {
        name: String,
        /// The reason, and the remedy.
        what: String,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {cause}")]
    Start { program: String, cause: io::Error },
    /// QEMU ended unexpectedly.
    #[error("QEMU ended ({status}){}", said(messages))]
    Ended {
        status: ExitStatus,
        /// Its standard error.
        messages: String,
    },
    /// The console did not show a text in time.
    #[error("the console did not show `{text}` within {} ms; its last lines:\n{tail}", within.as_millis())]
    Silent {
        text: String,
        /// The time limit.
        within: Duration,
        /// The last lines of the console.
        tail: String,
    },
    /// The console cannot be written to.
    #[error("this QEMU's console is not connected to the harness")]
    NoConsole,
    #[error("cannot {action}: {cause}")]
    Io {
        /// The operation, as a verb.
        action: &'static str,
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
