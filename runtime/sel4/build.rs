//! Chooses the kernel for the system calls, and writes the labels of the kernel whose labels vary.
//!
//! `BRANES_SEL4` is `registry` (also if unset) or `mcs`. For `mcs`, `BRANES_SEL4_LABELS` names the SDK's own
//! `invocations_all.json` for the configuration being built. Without it, the recorded facts of the debug configuration
//! are used, which is enough to compile.
//!
//! `BRANES_SEL4_PRINTING` is set if the kernel has a debug console, so that programs print there.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const KERNEL: &str = "BRANES_SEL4";
const LABELS: &str = "BRANES_SEL4_LABELS";
const PRINTING: &str = "BRANES_SEL4_PRINTING";
const RECORDED: &str = "labels.txt";

fn main() {
    for variable in [KERNEL, LABELS, PRINTING] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed={RECORDED}");
    println!("cargo::rustc-check-cfg=cfg(sel4_mcs)");
    println!("cargo::rustc-check-cfg=cfg(sel4_printing)");
    if env::var_os(PRINTING).is_some() {
        println!("cargo::rustc-cfg=sel4_printing");
    }
    if let Err(error) = write() {
        println!("cargo::error={error}");
    }
}

fn write() -> Result<(), String> {
    match env::var(KERNEL).as_deref() {
        Err(_) | Ok("registry") => {}
        Ok("mcs") => println!("cargo::rustc-cfg=sel4_mcs"),
        Ok(other) => return Err(format!("{KERNEL} is `{other}`; write registry or mcs")),
    }
    let recorded = fs::read_to_string(RECORDED).map_err(|e| format!("{RECORDED}: {e}"))?;
    let recorded: Vec<(&str, &str, u64)> = recorded
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?, words.next()?.parse().ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{RECORDED}: a line is not two names and two numbers"))?;
    let real: Option<BTreeMap<String, u64>> = match env::var_os(LABELS) {
        None => None,
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", Path::new(&path).display());
            let text = fs::read_to_string(&path).map_err(|e| failed(&e))?;
            Some(serde_json::from_str(&text).map_err(|e| failed(&e))?)
        }
    };
    let mut text = String::new();
    for (constant, name, recorded) in recorded {
        let value = match &real {
            None => recorded,
            Some(real) => *real
                .get(name)
                .ok_or_else(|| format!("the kernel of {LABELS} has no invocation {name}"))?,
        };
        let _ = writeln!(text, "/// `{name}`.\npub const {constant}: u64 = {value};");
    }
    let out = env::var("OUT_DIR").map_err(|e| format!("OUT_DIR: {e}"))?;
    fs::write(Path::new(&out).join("mcs_label.rs"), text).map_err(|e| format!("mcs_label.rs: {e}"))
}
