//! The device `edu` of QEMU (docs/specs/edu in its sources): a PCI function that interrupts on request.
//!
//! Owns the function's page of configuration space and its registers, which no other domain maps. The device is
//! trusted.

use sel4_microkit::Region;

/// Configuration space (PCI 3.0, 6.1 and 6.8): offsets of words of 32 bits.
mod config {
    pub const IDENTIFICATION: usize = 0x00;
    pub const COMMAND: usize = 0x04;
    pub const BAR0: usize = 0x10;
    pub const CAPABILITIES: usize = 0x34;
}
/// Registers of the device.
mod register {
    pub const RAISE: usize = 0x60;
    pub const LOWER: usize = 0x64;
}
const EDU: u32 = 0x11e8_1234;
/// Bits of the command register: memory space, and bus master, which messages need.
const ON: u32 = 1 << 1 | 1 << 2;
const MESSAGES: u8 = 5;
/// Bits of a capability's first word: messages are enabled, the address has 64 bits.
const MESSAGES_ON: u32 = 1 << 16;
const LONG_ADDRESS: u32 = 1 << 23;

pub struct Edu {
    config: Region,
    registers: Region,
}

impl Edu {
    /// Finds the device by its page of configuration space. Places its registers at the address of `registers`.
    pub fn open(config: Region, registers: Region) -> Edu {
        let edu = Edu { config, registers };
        let id = edu.config(config::IDENTIFICATION);
        assert!(id == EDU, "no edu device where one should be, but {id:#010x}");
        let place = registers.paddr.expect("the device's registers need a phys_addr");
        edu.set_config(config::COMMAND, 0);
        edu.set_config(config::BAR0, place as u32);
        edu.set_config(config::COMMAND, ON);
        edu
    }

    fn word(region: Region, offset: usize) -> *mut u32 {
        assert!(
            offset.is_multiple_of(4) && offset < region.size,
            "a word outside of its page"
        );
        region.as_ptr().wrapping_add(offset).cast()
    }

    fn config(&self, offset: usize) -> u32 {
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Edu::word(self.config, offset).read_volatile() }
    }

    fn set_config(&self, offset: usize, value: u32) {
        // SAFETY: aligned and inside the page, which only this domain maps, uncached.
        unsafe { Edu::word(self.config, offset).write_volatile(value) }
    }

    fn set(&self, offset: usize, value: u32) {
        // SAFETY: aligned and inside the registers, which only this domain maps, uncached.
        unsafe { Edu::word(self.registers, offset).write_volatile(value) }
    }

    /// Raises the interrupt of the pin, which stays raised until it is lowered.
    pub fn raise(&self) {
        self.set(register::RAISE, 1);
    }

    /// Lowers the interrupt of the pin.
    pub fn lower(&self) {
        self.set(register::LOWER, u32::MAX);
    }

    /// Interrupts once by a message with this address and data.
    pub fn send(&self, (address, data): (u64, u32)) {
        let mut at = self.config(config::CAPABILITIES) as usize & 0xfc;
        // A function has at most 48 capabilities.
        for _ in 0..48 {
            if at == 0 || self.config(at) as u8 == MESSAGES {
                break;
            }
            at = (self.config(at) >> 8) as usize & 0xfc;
        }
        assert!(at != 0, "the device has no messages");
        let head = self.config(at);
        assert!(
            head & LONG_ADDRESS != 0,
            "the device's messages have short addresses"
        );
        self.set_config(at + 4, address as u32);
        self.set_config(at + 8, (address >> 32) as u32);
        self.set_config(at + 12, data);
        self.set_config(at, head | MESSAGES_ON);
        self.raise();
        self.lower();
    }
}
