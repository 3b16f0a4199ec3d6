//! Links the protection domain and generates its constants.

fn main() {
    // A system can be built without remote, and then has no region for captures. Most systems have no external filters.
    pd_build::protection_domain_with(
        "net-server.elf",
        &["remote", "capture", "filter-N", "hook-filter-N"],
    );
}
