//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with(
        "serial.elf",
        &["subscriber-N", "log-subscriber-N", "filter-N", "log-filter-N"],
    );
}
