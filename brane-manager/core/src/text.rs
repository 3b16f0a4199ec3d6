//! Texts for people: parts of refusals, log lines and events.

use crate::ids::SubscriberId;
use alloc::format;
use alloc::string::String;

/// Makes an untrusted text safe to show: replaces control characters and cuts it to 64 characters.
pub(crate) fn printable(text: &str) -> String {
    let shown = text.chars().take(64);
    shown
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// Formats nanoseconds as milliseconds with three decimals.
pub(crate) fn milliseconds(ns: u64) -> String {
    format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000)
}

/// Returns the name of the NIC with this number.
pub(crate) fn nic_name(nic: u8) -> String {
    format!("nic{nic}")
}

/// Returns the name of a subscriber's protection domain.
pub(crate) fn subscriber_name(id: SubscriberId) -> String {
    format!("subscriber-{}", id.index())
}
