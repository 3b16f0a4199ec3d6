//! What the build script of every protection domain does: link arguments for a static program at a fixed place, and the
//! constants that `branes-system` generates from the system description.

use std::path::Path;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pd.ld");

/// To be called by the build script of the crate whose binary becomes `program` (as the description's `program_image`
/// names it). Writes `wiring.rs` into `OUT_DIR`.
pub fn protection_domain(program: &str) {
    protection_domains(&[program]);
}

/// For a crate with several binaries: the constants of each, as `wiring-NAME.rs` (and the first also as `wiring.rs`).
/// A program that the described system does not run gets none; its binary is not built then.
pub fn protection_domains(programs: &[&str]) {
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
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    for (i, program) in programs.iter().enumerate() {
        let text = match branes_system::codegen::from_env(program) {
            Ok(text) => text,
            Err(error) if programs.len() > 1 && error.contains("runs") => continue,
            Err(error) => {
                println!("cargo::error={error}");
                return;
            }
        };
        let name = program.trim_end_matches(".elf");
        let write = |file: &str| {
            std::fs::write(Path::new(&out).join(file), &text).expect("writing into OUT_DIR");
        };
        write(&format!("wiring-{name}.rs"));
        if i == 0 {
            write("wiring.rs");
        }
    }
}
