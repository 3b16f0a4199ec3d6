//! Links the protection domain and generates its constants: a configuration for tests alone runs it.

fn main() {
    pd_build::protection_domains(&[("watcher.elf", "life")]);
}
