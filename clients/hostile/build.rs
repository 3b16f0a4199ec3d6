//! Links both protection domains and generates their constants. The default system runs neither.

fn main() {
    pd_build::test_domains(&[
        ("hostile.elf", "hostile-client"),
        ("hostile-brane.elf", "hostile-brane"),
    ]);
}
