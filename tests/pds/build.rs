//! Links the protection domains and generates their constants. The default system runs none of them.

/// Configuration whose NIC driver misdirects its device.
const DMA_ESCAPE: &str = "dma-escape";

fn main() {
    pd_build::protection_domains(&[
        ("hostile.elf", "hostile-client"),
        ("hostile-brane.elf", "hostile-brane"),
        ("hostile-nic.elf", "hostile-nic"),
        ("gauge.elf", "hostile-nic"),
        ("meter.elf", "floods"),
        ("flood-client.elf", "floods"),
        ("flood-brane.elf", "floods"),
        ("flood-operator.elf", "floods"),
        ("canary.elf", DMA_ESCAPE),
        ("dma-escape.elf", DMA_ESCAPE),
        ("signal-flood.elf", "signal-flood"),
        ("irq-checker.elf", "signal-flood"),
        ("subject.elf", "signal-flood"),
        ("stray.elf", "stray"),
        ("multicast.elf", "multicast"),
        ("subscriber.elf", "two-nics"),
        ("test-filter.elf", "hooks"),
    ]);
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    match target_of_escape() {
        Ok(text) => std::fs::write(format!("{out}/canary.rs"), text).expect("writing into OUT_DIR"),
        Err(error) => println!("cargo::error={error}"),
    }
}

/// Returns a constant with the physical address of the region that the configuration places. The region belongs to the canary.
fn target_of_escape() -> Result<String, String> {
    let config = pd_build::configuration(DMA_ESCAPE)?;
    let (name, at) = config
        .entry
        .place
        .first_key_value()
        .ok_or_else(|| format!("the configuration `{DMA_ESCAPE}` places no memory region"))?;
    Ok(format!(
        "/// The region `{name}`.\nconst CANARY: virtio_drivers::PhysAddr = {at:#x};\n"
    ))
}
