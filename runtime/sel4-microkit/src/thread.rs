//! Threads of other protection domains, by the capabilities that a `cspace` element gives.
//!
//! Owns no state. The other side is the kernel, which is trusted.

/// A protection domain's thread. A domain with this capability can stop that thread at any time, and is trusted by its
/// domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(u64);

impl Thread {
    /// Names the thread whose capability (`cap_tcb`) lies in slot `slot`, 1 to 63.
    pub const fn in_slot(slot: usize) -> Thread {
        assert!(
            slot >= 1 && slot < 1 << crate::ROOT_BITS,
            "slots of a cspace are 1 to 63"
        );
        // The upper table is indexed by the address's top bits; all other capabilities lie behind its slot 0.
        Thread((slot as u64) << (u64::BITS - crate::ROOT_BITS))
    }

    /// Stops the thread. A call or receive that it waits in begins anew when it continues.
    pub fn stop(self) -> Result<(), sel4::Refused> {
        sel4::tcb_suspend(self.0)
    }

    /// Lets a stopped thread continue.
    pub fn resume(self) -> Result<(), sel4::Refused> {
        sel4::tcb_resume(self.0)
    }
}
