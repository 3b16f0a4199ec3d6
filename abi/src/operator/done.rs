//! What a change did, as a code with data. The manager sends it; the operator's end makes the words (`operator-cli`), so the manager
//! holds none. It is trusted, but names in it come from operators.

use super::*;

/// The result of a request that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Done {
    /// There is nothing to report.
    #[n(0)]
    Nothing,
    /// A brane was created, and is not started.
    #[n(1)]
    Created(#[n(0)] String),
    /// A brane was started.
    #[n(2)]
    Started(#[n(0)] String),
    /// A brane was started before the request.
    #[n(3)]
    StartedAlready(#[n(0)] String),
    /// A brane was shut down.
    #[n(4)]
    ShutDown {
        /// The brane.
        #[n(0)]
        brane: String,
        /// Connections that were aborted.
        #[n(1)]
        aborted: u32,
    },
    /// A brane was shut down before the request.
    #[n(5)]
    ShutDownAlready(#[n(0)] String),
    /// A brane or a device was renamed.
    #[n(6)]
    Renamed {
        /// Its former name.
        #[n(0)]
        from: String,
        /// Its name.
        #[n(1)]
        to: String,
    },
    /// An interface was renamed.
    #[n(7)]
    InterfaceRenamed {
        /// Its brane.
        #[n(0)]
        brane: String,
        /// Its former name.
        #[n(1)]
        from: String,
        /// Its name.
        #[n(2)]
        to: String,
    },
    /// A device was assigned to a brane.
    #[n(8)]
    Assigned {
        /// The device.
        #[n(0)]
        device: String,
        /// Its interface.
        #[n(1)]
        interface: String,
        /// The brane.
        #[n(2)]
        brane: String,
        /// The brane that had the device before, if any.
        #[n(3)]
        from: Option<String>,
    },
    /// A device was removed from its brane.
    #[n(9)]
    Removed {
        /// The device.
        #[n(0)]
        device: String,
        /// Its former interface.
        #[n(1)]
        interface: String,
        /// The brane that had the device.
        #[n(2)]
        brane: String,
    },
    /// An interface has other addresses.
    #[n(10)]
    Addressed {
        /// The interface.
        #[n(0)]
        interface: String,
        /// Its brane.
        #[n(1)]
        brane: String,
    },
    /// A device has other limits.
    #[n(11)]
    Limited(#[n(0)] String),
    /// A device was created.
    #[n(12)]
    DeviceCreated {
        /// The device. For a pair, its first end.
        #[n(0)]
        device: String,
        /// Its MAC address.
        #[n(1)]
        mac: MacAddr,
    },
    /// A brane was ordered to fault.
    #[n(13)]
    Faulting(#[n(0)] String),
    /// A brane was ordered to hang.
    #[n(14)]
    Hanging(#[n(0)] String),
    /// A protection domain has another log level.
    #[n(15)]
    LogLevelSet(#[n(0)] LogLevel),
    /// A quarantined subscriber was restarted.
    #[n(16)]
    Readmitted(#[n(0)] String),
    /// The filter of a brane has changed.
    #[n(17)]
    Filtered {
        /// The brane.
        #[n(0)]
        brane: String,
        /// Number of its rules now.
        #[n(1)]
        rules: u32,
    },
    /// Rules were collected for a replacement.
    #[n(18)]
    Staged(#[n(0)] u32),
}
