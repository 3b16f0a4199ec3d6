//! Links the protection domain and generates its constants.

fn main() {
    pd_build::protection_domain_with("serial.elf", &["nic1", "log-nic1", "watcher-N", "log-watcher-N"]);
}
