//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with("timer.elf", &["subscriber-N", "filter-N"]);
}
