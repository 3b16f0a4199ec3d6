//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with(
        "brane-manager.elf",
        &[
            "subscriber-N",
            "subscription-N",
            "filter-N",
            "registration-filter-N",
        ],
    );
}
