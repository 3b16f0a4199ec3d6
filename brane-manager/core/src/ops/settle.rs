//! The end of an operation whose changes in the manager are complete. It waits until a brane has answered `DETACH`.
//!
//! The result does not depend on the brane's answer. A brane that fails or stays silent loses the interface by a
//! restart.

use crate::Manager;
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Resume, Resumed};
use crate::shell::Context;
use alloc::boxed::Box;
use brane_abi::operator::{Answer, Refusal};

#[derive(Debug)]
pub(super) struct Settle {
    pub result: Result<Answer, Refusal>,
    pub locks: Locks,
}

impl Operation for Settle {
    fn resume(self: Box<Self>, _: &mut Manager, _: Resumed, resume: Resume, _: &mut Context<'_>) -> Next {
        match resume {
            Resume::Command(_) => self.result.into(),
            _ => Next::Wait(self),
        }
    }

    fn locks(&self) -> Locks {
        self.locks.clone()
    }
}
