//! The project's own description, the systems that follow from it, and the constants that programs get.

use branes_system::configs::{Config, entries};
use branes_system::{System, codegen};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn system(config: &str) -> System {
    let config = Config::load(&root(), config).unwrap_or_else(|e| panic!("{e}"));
    System::parse(&config.xml, &config.name).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_configuration_is_a_valid_system() {
    for name in entries(&root()).expect("configs.toml").keys() {
        let system = system(name);
        assert!(system.protection_domains.len() <= 63, "{name}");
    }
}

#[test]
fn bench_continues_instances_one_and_two() {
    let bench = system("bench");
    let brane = |n: usize| bench.pd(&format!("brane-{n}")).expect("a brane");
    assert_eq!((brane(16).child_id, brane(16).priority), (Some(16), 100));
    assert!(bench.pd("brane-17").is_none() && bench.pd("services-16").is_some());
    let nic = bench.pd("nic0").expect("the driver");
    let ports = |n: usize| {
        nic.maps
            .iter()
            .find(|m| m.mr == format!("ports-{n}"))
            .expect("a mapping")
            .vaddr
    };
    assert_eq!(ports(16) - ports(15), ports(2) - ports(1));
    assert_eq!(
        bench.region("sock-16").and_then(|r| r.size),
        bench.region("sock-2").and_then(|r| r.size)
    );
    let at_nic = bench
        .ends("nic0")
        .filter(|(_, peer)| peer.pd.starts_with("brane-"))
        .count();
    assert_eq!(at_nic, 17);
}

#[test]
fn programs_get_their_constants() {
    let system = system("bench");
    let nic = codegen::program(&system, "nic.elf").expect("nic.elf");
    assert!(
        nic.contains("pub const BRANE: [usize; 17] = [0, 1, 2, 3,"),
        "{nic}"
    );
    assert!(nic.contains(
        "pub const NIC0_DMA: Region = Region { vaddr: 0x20400000, size: 0x400000, paddr: Some(134217728) };"
    ));
    let brane = codegen::program(&system, "net-server.elf").expect("net-server.elf");
    assert!(
        brane.contains("pub const SERVICES: usize = 0;")
            && brane.contains("pub const INSTANCES: usize = 17;")
    );
    assert!(brane.contains("pub const PORTS: Region ="), "{brane}");
    let wrong = codegen::program(&system, "nothing.elf").expect_err("no such program");
    assert!(wrong.contains("nothing.elf"));
}

#[test]
fn a_replaced_program_stands_in_the_description() {
    assert_eq!(
        system("hostile-client")
            .pd("services-2")
            .map(|pd| pd.program.as_str()),
        Some("hostile.elf")
    );
}

#[test]
fn an_unknown_configuration_names_the_known_ones() {
    let error = Config::load(&root(), "bnech")
        .expect_err("no such configuration")
        .to_string();
    assert!(error.contains("bnech") && error.contains("bench"), "{error}");
}
