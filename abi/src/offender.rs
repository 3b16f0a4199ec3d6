//! Offenders: callers that have used up their budget at a service above the branes.
//!
//! A service (timer, serial, a NIC driver) notifies the manager if one of its callers is exhausted. The manager is the parent of
//! all callers. It fetches each offender by protected call and suspends it until the given time. The manager trusts the service
//! for this: a service runs above all callers, so it could stop them in any case.
//!
//! A caller has one number everywhere: its channel id at each service is its child id at the manager (`system.xml`).

/// Label: fetch the next offender. Every service answers it. Replies with label [`OFFENDER`], or any other label if there is
/// none.
pub const TAKE: u64 = 0x100;
/// Reply: word 0 is the caller's number, word 1 the end of its suspension in nanoseconds of the shared clock.
pub const OFFENDER: u64 = 0x101;
/// Reply: all offenders are fetched already.
pub const NONE: u64 = 0x102;
