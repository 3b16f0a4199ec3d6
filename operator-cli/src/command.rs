//! A line as understood: what is to be done.

use crate::change::Change;
use crate::ping::Echo;
use crate::table::Program;
use alloc::boxed::Box;
use alloc::string::String;
use brane_abi::control::Family;
use brane_abi::operator::Request;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// One request; its answer is shown.
    Send(Request),
    /// Counters.
    Stats {
        /// Of what; `None` for everything.
        of: Option<String>,
        /// Those that are 0 too.
        zeros: bool,
    },
    /// One device.
    ShowDevice(String),
    /// Take an interface from a brane: the device behind it is looked up first.
    RemoveInterface {
        /// The brane.
        brane: String,
        /// The interface in it.
        interface: String,
    },
    /// Change a brane's addressing: what it has is read first.
    Change {
        /// The brane.
        brane: String,
        /// How.
        change: Box<Change>,
    },
    /// A table of neighbours, page by page.
    Neighbours {
        /// The brane.
        brane: String,
        /// Of which family.
        family: Family,
    },
    /// A table of sockets, page by page.
    Sockets {
        /// The brane.
        brane: String,
        /// `tcp` or `udp` alone.
        protocol: Option<String>,
    },
    /// Counters of protocols.
    Protocols {
        /// The brane.
        brane: String,
        /// Those of this protocol only.
        protocol: Option<String>,
    },
    /// Echo requests.
    Ping(Echo),
    /// Events, as they come.
    Events {
        /// Those with numbers above this.
        after: u64,
        /// Only those that are there already.
        once: bool,
    },
    /// Lines of logs.
    Logs {
        /// Of which domain or brane; `None` for all.
        pd: Option<String>,
        /// Lines with numbers above this.
        after: u64,
        /// Shows new lines too, until the command is cancelled.
        follow: bool,
    },
    /// Make the system as a file says. The host does it.
    Apply {
        /// The file.
        file: String,
        /// Only show the difference.
        dry_run: bool,
        /// Do not ask.
        yes: bool,
    },
    /// Write the system's configuration. The host does it.
    Save {
        /// The file; `None` for standard output.
        file: Option<String>,
    },
    /// Help about a word, or in general.
    Help(Option<String>),
    /// Help about a program, or the verb of it with this name: `--help`.
    HelpOf(Program, Option<&'static str>),
    /// From now on commands are those inside this brane. The console does it.
    Enter(String),
    /// No longer so.
    Exit,
}
