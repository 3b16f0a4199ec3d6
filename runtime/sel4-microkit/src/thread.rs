//! Threads of other protection domains, by the capabilities that a `cspace` element gives.

/// A protection domain's thread. Who holds this can stop that domain, whatever it does, and is trusted by it for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(u64);

impl Thread {
    /// The thread whose capability (`cap_tcb`) lies in that slot, 1 to 63.
    pub const fn in_slot(slot: usize) -> Thread {
        assert!(
            slot >= 1 && slot < 1 << crate::ROOT_BITS,
            "slots of a cspace are 1 to 63"
        );
        // The upper table takes the address's top bits; all other capabilities lie behind its slot 0.
        Thread((slot as u64) << (u64::BITS - crate::ROOT_BITS))
    }

    /// Stops it. A call or receive that it waits in is begun anew when it goes on.
    pub fn stop(self) -> Result<(), sel4::Refused> {
        sel4::tcb_suspend(self.0)
    }

    /// Lets it go on.
    pub fn resume(self) -> Result<(), sel4::Refused> {
        sel4::tcb_resume(self.0)
    }
}
