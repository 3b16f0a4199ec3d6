//! Links the protection domains and generates their constants: those of each network device's driver, and those of the driver
//! that goes astray, which only one configuration of the tests runs. `turn` goes with the drivers.

/// The configuration that runs the driver that goes astray.
const ASTRAY: &str = "astray-nic";

/// A configuration with two network devices.
const TWO: &str = "life";

fn main() {
    pd_build::protection_domains(&[
        ("nic.elf", "default"),
        ("nic1.elf", TWO),
        ("astray-nic.elf", ASTRAY),
        ("turn.elf", "default"),
    ]);
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    match canary() {
        Ok(text) => std::fs::write(format!("{out}/canary.rs"), text).expect("writing into OUT_DIR"),
        Err(error) => println!("cargo::error={error}"),
    }
}

/// Where the region is that the configuration places: it belongs to another protection domain.
fn canary() -> Result<String, String> {
    let config = pd_build::configuration(ASTRAY)?;
    let (name, at) = config
        .entry
        .place
        .first_key_value()
        .ok_or_else(|| format!("the configuration `{ASTRAY}` places no memory region"))?;
    Ok(format!(
        "/// The region `{name}`.\nconst CANARY: virtio_drivers::PhysAddr = {at:#x};\n"
    ))
}
