//! What the manager needs of the NIC drivers and of its own shell: calls that are answered at once.
//!
//! The drivers are trusted and above the manager; in the shell these are protected calls, in tests calls of a real switch.

use alloc::vec::Vec;
use brane_abi::vif::{AddVif, BindVif, DeviceInfo, VifCounters, VifEntry, VifLimits};

/// Why a driver refused, in words.
pub type Refused = &'static str;

/// The NIC drivers, each by its number, and the manager's own memory.
pub trait Driver {
    /// NICs of this system.
    fn nics(&self) -> usize;
    /// Creates a vif, bound to no port.
    fn add(&mut self, nic: u8, vif: AddVif) -> Result<(), Refused>;
    /// Removes a vif and all that is known of it.
    fn remove(&mut self, nic: u8, vif: u32) -> Result<(), Refused>;
    /// Binds a vif to a brane's port.
    fn bind(&mut self, nic: u8, bind: BindVif) -> Result<(), Refused>;
    /// Takes a vif from its port: from here on no frame passes.
    fn unbind(&mut self, nic: u8, vif: u32) -> Result<(), Refused>;
    /// Sets a vif's limits.
    fn limit(&mut self, nic: u8, limits: VifLimits) -> Result<(), Refused>;
    /// Sets a vif's mode (`brane_abi::vif::MODE_*`).
    fn mode(&mut self, nic: u8, vif: u32, mode: u32) -> Result<(), Refused>;
    /// Counters of a vif.
    fn counters(&mut self, nic: u8, vif: u32) -> Option<VifCounters>;
    /// The NIC.
    fn device(&mut self, nic: u8) -> Option<DeviceInfo>;
    /// All vifs that the driver has.
    fn table(&mut self, nic: u8) -> Vec<VifEntry>;
    /// Bytes of the manager's heap in use.
    fn heap_used(&self) -> u64;
}
