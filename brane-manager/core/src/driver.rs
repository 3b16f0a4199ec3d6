//! The core's view of the NIC drivers, of serial's logs and of the shell's heap: calls that return their answers at
//! once.
//!
//! The drivers are trusted and run above the manager. In the shell these are protected calls; in tests they call a real
//! switch.

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::log::{Level, Line};
use brane_abi::operator::DriverRefusal;
use brane_abi::vif::{AddVif, BindVif, DeviceInfo, VifCounters, VifEntry, VifLimits};

/// The NIC drivers, each by its number, serial, and the manager's own memory.
pub trait Driver {
    /// Returns the number of NICs in this system.
    fn nics(&self) -> usize;
    /// Creates a vif that is bound to no port.
    fn add(&mut self, nic: u8, vif: AddVif) -> Result<(), DriverRefusal>;
    /// Removes a vif with its limits and counters.
    fn remove(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal>;
    /// Binds a vif to a brane's port.
    fn bind(&mut self, nic: u8, bind: BindVif) -> Result<(), DriverRefusal>;
    /// Unbinds a vif from its port. No frame passes after the call returns.
    fn unbind(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal>;
    /// Sets a vif's limits.
    fn limit(&mut self, nic: u8, limits: VifLimits) -> Result<(), DriverRefusal>;
    /// Sets a vif's mode (`brane_abi::vif::MODE_*`).
    fn mode(&mut self, nic: u8, vif: u32, mode: u32) -> Result<(), DriverRefusal>;
    /// Returns a vif's counters.
    fn counters(&mut self, nic: u8, vif: u32) -> Option<VifCounters>;
    /// Returns the NIC's MAC address, link state and counters.
    fn device(&mut self, nic: u8) -> Option<DeviceInfo>;
    /// Returns all vifs of the driver.
    fn table(&mut self, nic: u8) -> Vec<VifEntry>;
    /// Returns the domains that have a log: their names, and their numbers at serial.
    fn logs(&self) -> Vec<(String, u32)>;
    /// Sets the log level of a domain. Returns false if serial does not know the domain.
    fn set_log_level(&mut self, domain: u32, level: Level) -> bool;
    /// Calls `line` with each stored line of a domain that has a number above `after`, the oldest first.
    fn log_lines(&mut self, domain: u32, after: u64, line: &mut dyn FnMut(Line<'_>));
    /// Returns the bytes of the manager's heap in use.
    fn heap_used(&self) -> u64;
}
