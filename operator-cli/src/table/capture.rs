//! The verb `capture`. It owns no state. The person who types is not trusted: `crate::capture` and libpcap check the words.

use super::{Value, Verb, many, one, option};
use crate::capture::Options;
use crate::command::Command;
use brane_abi::capture::MAX_SNAPLEN;

/// Verbs in the order of `help`.
pub const VERBS: &[Verb] = &[Verb {
    name: "capture",
    arguments: &[
        one(
            "TARGET",
            Value::CaptureTarget,
            "all, a brane, BRANE/INTERFACE or a device",
        ),
        many(
            "EXPRESSION",
            Value::Text,
            "only matching frames: tcpdump's language on the host, matches of a filter rule on the console",
        ),
    ],
    options: &[
        option(
            "write",
            Some('w'),
            "FILE",
            Value::File,
            "write pcapng to a file of the host, - for standard output (default: show lines)",
        ),
        option(
            "snaplen",
            Some('s'),
            "N",
            Value::Text,
            "bytes of each frame that are kept (default and 0: the most)",
        ),
        option(
            "count",
            Some('c'),
            "N",
            Value::Text,
            "end after so many frames (default: Ctrl-C ends it)",
        ),
    ],
    help: "show or store the frames that pass branes' interfaces",
    long: "Shows a line for each frame, or writes the frames to a file. If a brane and a device have one name, the name is the brane's. \
           The capture of an interface ends when the interface leaves the brane. A reader that is too slow loses frames, and the lost \
           frames are counted; the brane does not wait.\n\
           On the host the expression is that of tcpdump, which must be installed, as in `udp port 53`. On the console it is the matches \
           of a filter rule: [inet|inet6] [proto PROTOCOL] [from ...] [to ...] [flags SET/MASK] [icmp-type TYPE[/CODE]]. An expression \
           with an option's dash follows --. The console shows time since the boot, and branectl the time of the day.",
    example: "capture red proto udp",
    schema: "capture",
    build: |m| {
        Options::new(
            m.one("TARGET")?,
            m.value("write"),
            m.number("snaplen", 0, u64::from(MAX_SNAPLEN))?,
            m.number("count", 1, u64::MAX)?,
            m.all("EXPRESSION"),
        )
        .map(Command::Capture)
    },
}];
