//! The generated constants: rustc accepts them, and constants that cannot serve all domains of a program are
//! refused.

use branes_system::configs::{Config, entries};
use branes_system::{System, codegen};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Returns the types of the constants as the runtime defines them. The crate itself does not link on the
/// host.
fn runtime_type(name: &str) -> &'static str {
    const RUNTIME: &str = include_str!("../../../runtime/sel4-microkit/src/region.rs");
    let start = RUNTIME
        .find(&format!("pub struct {name} {{"))
        .expect("the runtime's type");
    let end = RUNTIME[start..].find("\n}").expect("its end");
    &RUNTIME[start..start + end + 2]
}

#[test]
fn the_constants_of_every_program_compile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut source = format!(
        "#![no_std]\n#![deny(warnings)]\nextern crate self as sel4_microkit;\n{}\n{}\n",
        runtime_type("Region"),
        runtime_type("IoPortRange")
    );
    let mut count = 0;
    for config in entries(&root).expect("configs.toml").keys() {
        let system = Config::load(&root, config)
            .unwrap_or_else(|e| panic!("{e}"))
            .system;
        let programs: BTreeSet<&str> = system
            .protection_domains
            .iter()
            .map(|pd| pd.program.as_str())
            .collect();
        for program in programs {
            let text = codegen::program(&system, program).unwrap_or_else(|e| panic!("{config}: {e}"));
            source += &format!("mod program_{count} {{\n{text}}}\n");
            count += 1;
        }
    }
    assert!(count >= 14, "{count} programs");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("lib.rs"), &source).expect("writing");
    let out = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--out-dir",
        ])
        .arg(folder.path())
        .arg(folder.path().join("lib.rs"))
        .output()
        .expect("rustc");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn refusal(inside: &str) -> String {
    let text = format!("<system>{inside}</system>");
    let system = System::parse(&text, "test.xml").unwrap_or_else(|e| panic!("{e}"));
    codegen::program(&system, "app.elf").expect_err("refused")
}

#[test]
fn domains_of_one_program_must_have_the_same_constants() {
    let regions =
        "<memory_region name=\"data-0\" size=\"0x1000\"/><memory_region name=\"data-1\" size=\"0x2000\"/>";
    let pd = |n: usize, at: &str| {
        format!(
            "<protection_domain name=\"app-{n}\"><program_image path=\"app.elf\"/>\
             <map mr=\"data-{n}\" vaddr=\"{at}\"/></protection_domain>"
        )
    };
    let error = refusal(&format!("{regions}{}{}", pd(0, "0x1000000"), pd(1, "0x1000000")));
    assert!(
        error.contains("`app-0` and `app-1` both run `app.elf`, but differ"),
        "{error}"
    );
    assert!(
        error.contains("size: 0x1000,") && error.contains("size: 0x2000,"),
        "{error}"
    );
}

#[test]
fn numbers_with_a_gap_make_no_array() {
    let error = refusal(
        "<memory_region name=\"data-0\" size=\"0x1000\"/><memory_region name=\"data-2\" size=\"0x1000\"/>\
         <protection_domain name=\"app\"><program_image path=\"app.elf\"/>\
         <map mr=\"data-0\" vaddr=\"0x1000000\"/><map mr=\"data-2\" vaddr=\"0x1001000\"/></protection_domain>",
    );
    assert!(
        error.contains("`app`") && error.contains("DATA") && error.contains("without a gap"),
        "{error}"
    );
}

#[test]
fn two_names_do_not_become_one_constant() {
    let error = refusal(
        "<memory_region name=\"rx-ring\" size=\"0x1000\"/><memory_region name=\"rx_ring\" size=\"0x1000\"/>\
         <protection_domain name=\"app\"><program_image path=\"app.elf\"/>\
         <map mr=\"rx-ring\" vaddr=\"0x1000000\"/><map mr=\"rx_ring\" vaddr=\"0x1001000\"/></protection_domain>",
    );
    assert!(error.contains("`app`") && error.contains("`rx_ring`"), "{error}");
}

#[test]
fn a_constant_needs_a_size() {
    let error = refusal(
        "<memory_region name=\"data\" prefill_path=\"data.bin\"/>\
         <protection_domain name=\"app\"><program_image path=\"app.elf\"/>\
         <map mr=\"data\" vaddr=\"0x1000000\"/></protection_domain>",
    );
    assert!(
        error.contains("`app`") && error.contains("`data` needs a size"),
        "{error}"
    );
}

#[test]
fn what_a_system_may_lack_is_an_option_or_an_array() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let optional = ["subscriber-N", "subscription-N"];
    let constants = |config: &str, program: &str| {
        let config = Config::load(&root, config).unwrap_or_else(|e| panic!("{e}"));
        codegen::program_with(&config.system, program, &optional).unwrap_or_else(|e| panic!("{e}"))
    };
    let (with, none) = (
        constants("two-nics", "brane-manager.elf"),
        constants("default", "brane-manager.elf"),
    );
    for (with_them, without_them) in [
        (
            "pub const NIC: [usize; 2] = [57, 56];",
            "pub const NIC: [usize; 1] = [57];",
        ),
        (
            "pub const SUBSCRIBER: [usize; 3] = [40, 41, 42];",
            "pub const SUBSCRIBER: [usize; 0] = [];",
        ),
        (
            "pub const SUBSCRIPTION: [Region; 3] = [Region",
            "pub const SUBSCRIPTION: [Region; 0] = [];",
        ),
    ] {
        assert!(with.contains(with_them), "no `{with_them}` in {with}");
        assert!(none.contains(without_them), "no `{without_them}` in {none}");
    }
    assert!(
        none.contains("pub const CONSOLE: usize = 59;"),
        "others are as ever"
    );
}

#[test]
fn nics_are_an_array_and_their_driver_sees_its_own_without_a_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let constants = |config: &str, program: &str| {
        let config = Config::load(&root, config).unwrap_or_else(|e| panic!("{e}"));
        codegen::program(&config.system, program).unwrap_or_else(|e| panic!("{e}"))
    };
    for (config, nics) in [("default", 1), ("two-nics", 2), ("four-nics", 4)] {
        let brane = constants(config, "net-server.elf");
        for array in [
            format!("pub const NIC: [usize; {nics}] = ["),
            format!("pub const PORTS_NIC: [Region; {nics}] = ["),
        ] {
            assert!(brane.contains(&array), "no `{array}` in {brane}");
        }
        let driver = constants(config, "nic.elf");
        assert!(driver.contains(&format!("pub const INSTANCES: usize = {nics};")));
        for own in [
            "pub const LOG_NIC: Region = Region {",
            "pub const NIC_DMA: Region = Region { vaddr: 0x20400000, size: 0x400000, paddr: None };",
        ] {
            assert!(driver.contains(own), "no `{own}` in {driver}");
        }
        assert_eq!(driver.contains("VECTOR"), nics == 1, "each has another vector");
    }
}

#[test]
fn a_name_of_a_nic_and_an_instance_needs_one_of_them_to_be_the_domains_own() {
    let error = refusal(
        "<memory_region name=\"ports-nic1-2\" size=\"0x1000\"/>\
         <protection_domain name=\"app\"><program_image path=\"app.elf\"/>\
         <map mr=\"ports-nic1-2\" vaddr=\"0x1000000\"/></protection_domain>",
    );
    assert!(
        error.contains("`app`")
            && error.contains("`ports-nic1-2` has the number of a NIC or filter and that of an instance"),
        "{error}"
    );
}
