//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with("brane-manager.elf", &["nic1", "watcher-N", "hooks-N"]);
}
