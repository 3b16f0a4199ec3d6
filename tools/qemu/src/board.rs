//! What the tools must know of the board that images are built for and run on: one file for each board.
//!
//! What a program must know of a device is in its driver, and where devices lie is said by `system.xml`, which the drivers'
//! constants are generated from. Nothing else names a board (`docs/kernels.md` says what a further one needs).

mod x86_64_generic;

pub use x86_64_generic::BOARD;

/// A board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Its name in the Microkit SDK.
    pub sdk: &'static str,
    /// The target that programs are compiled for.
    pub target: &'static str,
    /// First physical address that is never RAM.
    pub ram_limit: u64,
    /// The machine that QEMU makes of it.
    pub qemu: Qemu,
}

/// How QEMU is called.
#[derive(Clone, Copy, Debug)]
pub struct Qemu {
    /// The program.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// The oldest version that is known to work: major and minor number.
    pub oldest: (u32, u32),
    /// The machine.
    pub machine: &'static str,
    /// The processor: what seL4 and the programs use, and nothing that depends on QEMU's version.
    pub cpu: &'static str,
    /// The network device.
    pub nic: &'static str,
    /// The place of the network device, as `system.xml` has it.
    pub nic_place: &'static str,
    /// The place of the second network device, where there is one.
    pub second_nic_place: &'static str,
}
