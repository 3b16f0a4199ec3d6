//! A PC with one processor, as QEMU's machine q35 models it.

use super::{Board, Qemu};

pub const BOARD: Board = Board {
    sdk: "x86_64_generic",
    target: "x86_64-unknown-linux-gnu",
    // The PCI configuration window starts here.
    ram_limit: 0xb000_0000,
    qemu: Qemu {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        oldest: (7, 2),
        machine: "q35",
        cpu: "qemu64,+fsgsbase,+pdpe1gb,+xsave,+xsaveopt,+rdrand",
        nic: "virtio-net-pci",
        nic_places: &["0x2.0", "0x3.0", "0x4.0", "0x5.0"],
        line: "virtio-serial-pci",
        line_place: "0x19.0",
    },
};
