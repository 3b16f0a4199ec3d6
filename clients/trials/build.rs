//! Links the protection domains and generates their constants. The default system runs none of them.

fn main() {
    pd_build::protection_domains(&[
        ("storm.elf", "storm"),
        ("stray.elf", "stray"),
        ("examiner.elf", "storm"),
        ("subject.elf", "storm"),
    ]);
}
