//! Offenders: callers that have used up their budget at a service above the branes.
//!
//! A service (timer, serial, a NIC driver) notifies the manager if one of its callers is exhausted. The manager, which is the
//! parent of all of these callers, fetches each offender by protected call and suspends it until the given time. The manager
//! trusts the service for this: a service runs above all callers and could keep them from running in any case.
//!
//! A caller has the same number everywhere: its channel id at each service is its child id at the manager (`system.xml`).

/// Label: fetch the next offender. Every service answers it. Replies with label [`OFFENDER`], or any other if there is none.
pub const TAKE: u64 = 0x100;
/// Reply: word 0 is the caller's number, word 1 the time until which it is to be suspended, in nanoseconds of the shared clock.
pub const OFFENDER: u64 = 0x101;
/// Reply: there is no offender that was not fetched.
pub const NONE: u64 = 0x102;
