//! What the NIC driver (trusted, and called) is to set up for the branes, from the boot configuration.

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::vif::{Prefix, VifLimits};

/// A vif to be set up at the driver before the branes need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VifPlan {
    /// Its number.
    pub vif: u32,
    /// The instance that it goes to.
    pub brane: usize,
    /// The brane's port.
    pub port: u32,
    /// Its address.
    pub mac: MacAddr,
    /// `brane_abi::vif::MODE_*`.
    pub mode: u32,
    /// Where what it sends may come from; empty: anything.
    pub allow: Vec<Cidr>,
    /// Bytes per second that it may send; 0: no limit.
    pub rate_up: u64,
    /// Bytes per second that it gets; 0: no limit.
    pub rate_down: u64,
    /// Device and brane, for messages.
    pub label: String,
}

impl VifPlan {
    /// As the driver is told. More prefixes than it takes are told in their number, which it refuses.
    pub fn limits(&self) -> VifLimits {
        let mut limits = VifLimits {
            vif: self.vif,
            allowed: u32::try_from(self.allow.len()).unwrap_or(u32::MAX),
            rate_up: self.rate_up,
            rate_down: self.rate_down,
            ..VifLimits::default()
        };
        for (place, cidr) in limits.allow.iter_mut().zip(&self.allow) {
            *place = Prefix::from(*cidr);
        }
        limits
    }
}
