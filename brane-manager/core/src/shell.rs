//! The contract between the core and its shell: events go in, actions come out.
//!
//! The shell is trusted. Data in an event that come from a brane, client or subscriber are not trusted.

use crate::driver::Driver;
use crate::ids::{BraneId, FilterId, OperatorId, SubscriberId};
use alloc::string::String;
use alloc::vec::Vec;

/// A protection domain whose parent is the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// `brane-N`
    Brane(BraneId),
    /// `services-N`, the client of brane N.
    Client(BraneId),
    /// `subscriber-N`, which can subscribe to transitions.
    Subscriber(SubscriberId),
    /// `filterK`, which can register a hook.
    Filter(FilterId),
    /// The console or the remote line.
    Operator(OperatorId),
    /// The driver of the control line's device.
    Line,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A new incarnation of a brane or subscriber is up on its region. Its rings are empty.
    LinkUp(Child),
    /// A record that was copied out of the child's ring.
    Report {
        /// The sender.
        child: Child,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// Up to one byte more than `MAX_MESSAGE`.
        payload: &'a [u8],
    },
    /// The child violated the rules of its region.
    Violation {
        /// The sender.
        child: Child,
        /// The rule in words.
        what: &'a str,
    },
    /// A record found no room in the child's ring.
    Dropped {
        /// The receiver.
        child: Child,
        /// The record's meta word 1.
        token: u32,
    },
    /// A child has faulted and is stopped.
    Fault {
        /// The child.
        child: Child,
        /// The kernel's report in words.
        what: &'a str,
    },
    /// A child has used up its budget at a service.
    Offender {
        /// The child.
        child: Child,
        /// Time from which the service allows the child more, in nanoseconds.
        until: u64,
        /// Name of the service's protection domain.
        service: &'a str,
    },
    /// A deadline may have passed. The event follows all reports that were sent before the deadline.
    Tick,
}

/// An action of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stops the child.
    Stop(Child),
    /// Stops the child so that it can be resumed.
    Suspend(Child),
    /// Resumes a suspended child.
    Resume(Child),
    /// Starts the child at its entry point.
    Restart(Child),
    /// Starts the child at its entry point for another tenant: the child first clears the memory that lasts over
    /// restarts.
    Renew(Child),
    /// Puts a record into the ring of a brane or subscriber.
    Send {
        /// The receiver.
        child: Child,
        /// Meta word 0.
        kind: u32,
        /// Meta word 1.
        token: u32,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Notifies an operator that one of its jobs has ended.
    Notify(OperatorId),
    /// Writes a line to the log.
    Log(String),
}

/// The answer to an operator's call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `brane_abi::operator::OK`, `ERROR` or `LATER`.
    pub label: u64,
    /// CBOR for the operator's reply region. Empty for `LATER`.
    pub text: Vec<u8>,
    /// The job's number for `LATER`, otherwise 0.
    pub job: u32,
}

/// Size of the system, as defined in `system.xml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Instances of branes.
    pub instances: usize,
    /// Subscribers.
    pub subscribers: usize,
    /// External filters.
    pub filters: usize,
    /// Operators: the console and the remote line.
    pub operators: usize,
    /// Ports of each brane at each NIC.
    pub ports_per_nic: usize,
}

/// Time, drivers and list of actions of the event that is being handled.
pub(crate) struct Context<'a> {
    /// Nanoseconds of the shell's clock.
    pub now: u64,
    pub driver: &'a mut dyn Driver,
    pub actions: &'a mut Vec<Action>,
}

impl Context<'_> {
    pub(crate) fn log(&mut self, text: String) {
        self.actions.push(Action::Log(text));
    }
}
