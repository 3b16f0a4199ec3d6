//! Fault messages, decoded, with the upstream crate's names.
//!
//! Owns no state. The words come from the kernel, which is trusted. The registers among them are those of the faulted
//! thread, which is not trusted, so they may have any value.

use crate::{MESSAGE_WORDS, MessageInfo, Word, kernel};
use core::fmt;

/// The raw messages, as the kernel's interface description names their fields.
#[allow(non_camel_case_types, non_snake_case)]
pub mod sys {
    use crate::Word;

    macro_rules! message {
        ($name:ident, $about:literal: $($get:ident $at:literal $field:literal;)*) => {
            #[doc = $about]
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $name([Word; 19]);

            impl $name {
                pub(super) fn new(words: &[Word]) -> Self {
                    Self(core::array::from_fn(|i| words.get(i).copied().unwrap_or(0)))
                }
                $(
                    #[doc = concat!("Returns ", $field, ".")]
                    pub fn $get(&self) -> Word {
                        self.0[$at]
                    }
                )*
            }
        };
    }

    message! { seL4_Fault_NullFault, "No fault.": }
    message! { seL4_Fault_CapFault, "A capability that does not exist.":
        get_IP 0 "the instruction's address";
        get_Addr 1 "the slot that the thread named";
        get_InRecvPhase 2 "1 if the thread was to receive";
        get_LookupFailureType 3 "the reason";
    }
    message! { seL4_Fault_UnknownSyscall, "A system call that does not exist.":
        get_RAX 0 "RAX";
        get_RBX 1 "RBX";
        get_RCX 2 "RCX";
        get_RDX 3 "RDX";
        get_RSI 4 "RSI";
        get_RDI 5 "RDI";
        get_RBP 6 "RBP";
        get_R8 7 "R8";
        get_R9 8 "R9";
        get_R10 9 "R10";
        get_R11 10 "R11";
        get_R12 11 "R12";
        get_R13 12 "R13";
        get_R14 13 "R14";
        get_R15 14 "R15";
        get_FaultIP 15 "the instruction's address";
        get_SP 16 "RSP";
        get_FLAGS 17 "RFLAGS";
        get_Syscall 18 "the system call's number";
    }
    message! { seL4_Fault_UserException, "A processor exception.":
        get_FaultIP 0 "the instruction's address";
        get_Stack 1 "RSP";
        get_FLAGS 2 "RFLAGS";
        get_Number 3 "the exception's vector";
        get_Code 4 "the exception's error code";
    }
    message! { seL4_Fault_VMFault, "An access to memory that is not mapped, or not so.":
        get_IP 0 "the instruction's address";
        get_Addr 1 "the address of the access";
        get_PrefetchFault 2 "1 for an instruction fetch";
        get_FSR 3 "the page fault's error code; bit 1 is set for a write";
    }
}

macro_rules! payloads {
    ($($name:ident($inner:ident) $about:literal;)*) => {$(
        #[doc = $about]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(sys::$inner);

        impl $name {
            /// Returns the raw message.
            pub fn inner(&self) -> &sys::$inner {
                &self.0
            }

            /// Returns the raw message.
            pub fn into_inner(self) -> sys::$inner {
                self.0
            }
        }
    )*};
}

payloads! {
    NullFault(seL4_Fault_NullFault) "No fault.";
    CapFault(seL4_Fault_CapFault) "A capability that does not exist.";
    UnknownSyscall(seL4_Fault_UnknownSyscall) "A system call that does not exist.";
    UserException(seL4_Fault_UserException) "A processor exception. Vector 6 is an invalid instruction, by which a panic ends.";
    VmFault(seL4_Fault_VMFault) "An access to memory that is not mapped, or not so.";
}

/// A thread's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No fault.
    NullFault(NullFault),
    /// A capability that does not exist.
    CapFault(CapFault),
    /// A system call that does not exist.
    UnknownSyscall(UnknownSyscall),
    /// A processor exception.
    UserException(UserException),
    /// An access to memory that is not mapped, or not with this right.
    VmFault(VmFault),
    /// A message with a label that this crate does not know.
    Unknown(Word),
}

impl Fault {
    /// Decodes a fault message from its info and its words. A missing word counts as 0.
    pub fn decode(info: MessageInfo, words: &[Word]) -> Fault {
        let words = &words[..info.length().min(words.len()).min(MESSAGE_WORDS)];
        match info.label() {
            0 => Fault::NullFault(NullFault(sys::seL4_Fault_NullFault::new(words))),
            kernel::fault::CAPABILITY => Fault::CapFault(CapFault(sys::seL4_Fault_CapFault::new(words))),
            kernel::fault::SYSCALL => {
                Fault::UnknownSyscall(UnknownSyscall(sys::seL4_Fault_UnknownSyscall::new(words)))
            }
            kernel::fault::EXCEPTION => {
                Fault::UserException(UserException(sys::seL4_Fault_UserException::new(words)))
            }
            kernel::fault::PAGE => Fault::VmFault(VmFault(sys::seL4_Fault_VMFault::new(words))),
            label => Fault::Unknown(label),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NullFault(_) => f.write_str("no fault"),
            Fault::CapFault(CapFault(fault)) => {
                let (address, ip) = (fault.get_Addr(), fault.get_IP());
                write!(f, "invalid capability {address:#x} at instruction {ip:#x}")
            }
            Fault::UnknownSyscall(UnknownSyscall(fault)) => {
                let (number, ip) = (fault.get_Syscall() as i64, fault.get_FaultIP());
                write!(f, "unknown system call {number} at instruction {ip:#x}")
            }
            Fault::UserException(UserException(fault)) => {
                let (vector, code, ip) = (fault.get_Number(), fault.get_Code(), fault.get_FaultIP());
                match vector {
                    6 => write!(f, "invalid instruction (panic) at {ip:#x}"),
                    _ => write!(f, "exception {vector}, code {code:#x}, at instruction {ip:#x}"),
                }
            }
            Fault::VmFault(VmFault(fault)) => {
                let kind = match (fault.get_PrefetchFault() != 0, fault.get_FSR() & 2 != 0) {
                    (true, _) => "fetch from",
                    (false, true) => "write to",
                    (false, false) => "read from",
                };
                let (address, ip) = (fault.get_Addr(), fault.get_IP());
                write!(f, "{kind} unmapped {address:#x} at instruction {ip:#x}")
            }
            Fault::Unknown(label) => write!(f, "fault {label}"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    fn decoded(label: u64, words: &[Word]) -> Fault {
        Fault::decode(MessageInfo::new(label, words.len()), words)
    }

    #[test]
    fn each_fault_is_decoded_by_its_label_and_in_words() {
        let page = decoded(kernel::fault::PAGE, &[0x20_0004, 0x1234, 0, 6]);
        assert_eq!(
            page.to_string(),
            "write to unmapped 0x1234 at instruction 0x200004"
        );
        let Fault::VmFault(inner) = page else { panic!() };
        assert_eq!((inner.inner().get_Addr(), inner.inner().get_FSR()), (0x1234, 6));

        let mut words = [0; 19];
        (words[15], words[18]) = (0x20_0008, -12i64 as u64);
        let call = decoded(kernel::fault::SYSCALL, &words);
        assert_eq!(
            call.to_string(),
            "unknown system call -12 at instruction 0x200008"
        );
        let exception = decoded(kernel::fault::EXCEPTION, &[0x20_0000, 0, 0, 6, 0]);
        assert_eq!(exception.to_string(), "invalid instruction (panic) at 0x200000");
        let capability = decoded(kernel::fault::CAPABILITY, &[1, 2, 0, 0]);
        assert_eq!(
            capability.to_string(),
            "invalid capability 0x2 at instruction 0x1"
        );
        assert_eq!(decoded(77, &[]), Fault::Unknown(77));
    }

    #[test]
    fn words_beyond_the_message_are_not_read() {
        let info = MessageInfo::new(kernel::fault::PAGE, 1);
        let Fault::VmFault(fault) = Fault::decode(info, &[1, 2, 3, 4]) else {
            panic!()
        };
        assert_eq!((fault.inner().get_IP(), fault.inner().get_Addr()), (1, 0));
    }
}
