//! The properties of a board that the tools need, with one file for each board.
//!
//! A driver knows the properties of its device. `system.xml` gives the addresses of devices, and the drivers'
//! constants are generated from it. No other file names a board. `docs/kernels.md` lists the requirements for
//! another board.

mod x86_64_generic;

pub use x86_64_generic::BOARD;

#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Name of the board in the Microkit SDK.
    pub sdk: &'static str,
    /// Target that programs are compiled for.
    pub target: &'static str,
    /// First physical address that is never RAM.
    pub ram_limit: u64,
    /// QEMU's model of the board.
    pub qemu: Qemu,
}

/// Options for QEMU.
#[derive(Clone, Copy, Debug)]
pub struct Qemu {
    pub program: &'static str,
    /// The Debian package that contains the program.
    pub package: &'static str,
    /// The oldest version that is known to work: major and minor number.
    pub oldest: (u32, u32),
    /// Name of the machine.
    pub machine: &'static str,
    /// The processor: features that seL4 and the programs use, and none that depend on QEMU's version.
    pub cpu: &'static str,
    /// Name of the network device.
    pub nic: &'static str,
    /// PCI addresses of network devices, by the NIC's number, as in `system.xml`.
    pub nic_places: &'static [&'static str],
    /// Name of the device of the control line, which holds one virtio-console port.
    pub line: &'static str,
    /// PCI address of the device of the control line, as in `system.xml`.
    pub line_place: &'static str,
}
