//! Commands: the results of parsing.

use crate::capture::Options;
use crate::change::Change;
use crate::ping::Echo;
use crate::reach::{Reach, Why};
use crate::table::Program;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::filter::Rule;
use brane_abi::operator::Request;

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Send one request and show its answer.
    Send(Request),
    /// Show counters.
    Stats {
        /// A brane, device or NIC; `None` for all.
        of: Option<String>,
        /// Show counters that are 0 too.
        zeros: bool,
    },
    /// Show one device.
    ShowDevice(String),
    /// Remove an interface from a brane. The device behind it is looked up first.
    RemoveInterface {
        /// The brane.
        brane: String,
        /// The interface in it.
        interface: String,
    },
    /// Change a brane's addressing. The present addressing is read first.
    Change {
        /// The brane.
        brane: String,
        /// The change.
        change: Box<Change>,
    },
    /// Show the table of neighbours, page by page.
    Neighbours {
        /// The brane.
        brane: String,
        /// The family.
        family: Family,
    },
    /// Show the table of sockets, page by page.
    Sockets {
        /// The brane.
        brane: String,
        /// Only this protocol, `tcp` or `udp`.
        protocol: Option<String>,
    },
    /// Show the counters of protocols.
    Protocols {
        /// The brane.
        brane: String,
        /// Only this protocol.
        protocol: Option<String>,
    },
    /// Show the rules of a brane's filter, page by page.
    FilterList(String),
    /// Replace all rules of a brane's filter.
    FilterReplace {
        /// The brane.
        brane: String,
        /// The new rules.
        rules: Vec<Rule>,
    },
    /// Replace all rules of a brane's filter by those in a file. Only the host does this.
    FilterFile {
        /// The brane.
        brane: String,
        /// The file; `-` for standard input.
        file: String,
    },
    /// Send echo requests.
    Ping(Echo),
    /// Show or store frames. Only the host writes files.
    Capture(Options),
    /// Explain which thing lets traffic pass or stops it.
    Why(Why),
    /// Show which brane reaches which.
    Reach(Reach),
    /// Show events as they occur.
    Events {
        /// Only events with numbers above this one.
        after: u64,
        /// Only events that exist already.
        once: bool,
    },
    /// Show lines of logs.
    Logs {
        /// The domain or brane; `None` for all.
        pd: Option<String>,
        /// Only lines with numbers above this one.
        after: u64,
        /// Show new lines too, until the command is cancelled.
        follow: bool,
    },
    /// Change the system to the configuration in a file. Only the host does this.
    Apply {
        /// The file.
        file: String,
        /// Only show the difference.
        dry_run: bool,
        /// Do not ask for confirmation.
        yes: bool,
    },
    /// Save the system's configuration. Only the host does this.
    Save {
        /// The file; `None` for standard output.
        file: Option<String>,
    },
    /// Show help about a word, or general help.
    Help(Option<String>),
    /// Show help about a program or about its verb with this name: `--help`.
    HelpOf(Program, Option<&'static str>),
    /// Enter this brane: further commands are those inside it. Only the console does this.
    Enter(String),
    /// Leave the entered brane.
    Exit,
}
