//! Links both protection domains and generates their constants.
//!
//! The default system runs neither. Where the system being built does not run one of them, its constants come from the
//! configuration that does, so that the program can always be compiled and checked.

use branes_system::codegen;
use branes_system::configs::Config;
use std::path::{Path, PathBuf};

const PROGRAMS: [(&str, &str); 2] = [("hostile", "hostile-client"), ("hostile-brane", "hostile-brane")];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["system.xml", "configs.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let wiring = |name: &str| out.join(format!("wiring-{name}.rs"));
    for (name, _) in PROGRAMS {
        // What an earlier build for another system left.
        let _ = std::fs::remove_file(wiring(name));
    }
    let names = PROGRAMS.map(|(name, _)| format!("{name}.elf"));
    pd_build::protection_domains(&names.each_ref().map(String::as_str));
    for (name, config) in PROGRAMS {
        if !wiring(name).exists() {
            match constants(&root, config, &format!("{name}.elf")) {
                Ok(text) => std::fs::write(wiring(name), text).expect("writing into OUT_DIR"),
                Err(error) => println!("cargo::error={error}"),
            }
        }
    }
}

fn constants(root: &Path, config: &str, program: &str) -> Result<String, String> {
    let config = Config::load(root, config).map_err(|e| e.to_string())?;
    let system = branes_system::System::parse(&config.xml, "system.xml").map_err(|e| e.to_string())?;
    codegen::program(&system, program)
}
