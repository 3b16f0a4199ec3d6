//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with("net-server.elf", &["filter-N", "hook-filter-N"]);
}
