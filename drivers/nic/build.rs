//! Links the protection domains and generates their constants: those of each network device's driver. `turn` goes with the drivers.

/// A configuration with two network devices.
const TWO: &str = "life";

fn main() {
    pd_build::protection_domains(&[("nic.elf", "default"), ("nic1.elf", TWO), ("turn.elf", "default")]);
}
