//! Links the protection domains and generates their constants. The default system runs none of them.

fn main() {
    pd_build::protection_domains(&[("filter-example.elf", "filters")]);
}
