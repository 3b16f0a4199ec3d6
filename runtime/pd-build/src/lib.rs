//! Steps of the build script of every protection domain: link arguments for a static program at a fixed
//! address, and the constants that `branes-system` generates from the system description.

use std::path::{Path, PathBuf};

use branes_system::codegen;
use branes_system::configs::Config;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pd.ld");

/// Writes `wiring.rs` into `OUT_DIR`. The build script of the crate whose binary becomes `program` must call
/// it. `program` is the description's `program_image`.
pub fn protection_domain(program: &str) {
    protection_domain_with(program, &[]);
}

/// Does the work of [`protection_domain`] for a program that is also used in systems without some channels, regions or
/// children. `optional` has their names as in the description, families with `-N` for the number
/// ([`codegen::program_with`]).
pub fn protection_domain_with(program: &str, optional: &[&str]) {
    link();
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    match codegen::from_env(program, optional) {
        Ok(text) => std::fs::write(Path::new(&out).join("wiring.rs"), text).expect("writing into OUT_DIR"),
        Err(error) => println!("cargo::error={error}"),
    }
}

fn link() {
    println!("cargo:rerun-if-changed={SCRIPT}");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,--gc-sections",
        "-Wl,-z,norelro",
        "-Wl,-z,noexecstack",
        "-Wl,-z,max-page-size=4096",
        &format!("-Wl,-T,{SCRIPT}"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Writes `wiring-PROGRAM.rs` into `OUT_DIR` for each program of a crate with several programs that no single system
/// runs. Each program is given with a configuration of `configs.toml` that runs it. If the system being built does not
/// run a program, its constants come from that configuration, so that the program always compiles.
pub fn protection_domains(programs: &[(&str, &str)]) {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let wiring = |program: &str| out.join(format!("wiring-{}.rs", program.trim_end_matches(".elf")));
    for (program, _) in programs {
        // An earlier build for another system may have left the file.
        let _ = std::fs::remove_file(wiring(program));
    }
    link();
    for (program, config) in programs {
        let text = codegen::from_env(program, &[])
            .or_else(|_| codegen::program(&configuration(config)?.system, program));
        match text {
            Ok(text) => std::fs::write(wiring(program), text).expect("writing into OUT_DIR"),
            Err(error) => println!("cargo::error={error}"),
        }
    }
}

/// Returns a configuration of this project, independent of the system being built.
pub fn configuration(name: &str) -> Result<Config, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["system.xml", "configs.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let config = Config::load(&root, name).map_err(|e| e.to_string())?;
    if let Some(add) = &config.entry.add {
        println!("cargo:rerun-if-changed={}", root.join(add).display());
    }
    Ok(config)
}
