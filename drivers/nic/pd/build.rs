//! Links the protection domains and generates their constants. `turn` goes with the driver.

fn main() {
    pd_build::protection_domains(&[("nic.elf", "default"), ("turn.elf", "default")]);
}
