//! Links the protection domains and generates their constants. The default system runs none of them.

fn main() {
    pd_build::protection_domains(&[
        ("hostile.elf", "hostile-client"),
        ("hostile-brane.elf", "hostile-brane"),
        ("canary.elf", "astray-nic"),
        ("hostile-nic.elf", "hostile-nic"),
        ("gauge.elf", "hostile-nic"),
        ("meter.elf", "floods"),
        ("flood-client.elf", "floods"),
        ("flood-brane.elf", "floods"),
        ("flood-operator.elf", "floods"),
    ]);
}
