//! The protection domain `upstream-parent.elf`: handles the faults of its children. It is written for the upstream crate
//! `sel4-microkit` and uses nothing that only this project's runtime has.
//!
//! Owns its children's threads. The children (`upstream-child.elf`) are not trusted: their faults are printed and answered.
#![no_std]
#![no_main]

use sel4::Fault;
use sel4_microkit::{Child, Handler, Infallible, MessageInfo, debug_println, protection_domain, var};

#[protection_domain]
fn init() -> Parent {
    let faulter = Child::new(*var!(faulter_id: usize = usize::MAX));
    Parent { faulter, faults: 0 }
}

struct Parent {
    faulter: Child,
    faults: u32,
}

impl Handler for Parent {
    type Error = Infallible;

    fn fault(&mut self, child: Child, msg_info: MessageInfo) -> Result<Option<MessageInfo>, Self::Error> {
        match msg_info.fault() {
            Fault::VmFault(fault) => {
                assert_eq!(child, self.faulter);
                self.faults += 1;
                let address = fault.inner().get_Addr();
                debug_println!("parent: fault {} of {child:?} at {address:#x}", self.faults);
                child.tcb().tcb_suspend().unwrap();
                if self.faults == 1 {
                    // The child runs the same instruction again.
                    child.tcb().tcb_resume().unwrap();
                }
            }
            Fault::UserException(fault) => {
                assert_ne!(child, self.faulter);
                debug_println!("parent: exception {} of {child:?}", fault.inner().get_Number());
            }
            other => panic!("unexpected {other:?}"),
        }
        Ok(None)
    }
}
