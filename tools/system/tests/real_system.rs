//! The project's own description, the systems expanded from it, and the constants of the programs.

use branes_system::configs::{Config, entries};
use branes_system::{BootInfo, IrqSource, Prefill, System, codegen};
use std::collections::BTreeSet;
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
            .find(|m| m.mr == format!("ports-nic0-{n}"))
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
    assert!(
        nic.contains(
            "pub const NIC_DMA: Region = Region { vaddr: 0x20400000, size: 0x400000, paddr: None };"
        )
    );
    let brane = codegen::program(&system, "net-server.elf").expect("net-server.elf");
    assert!(
        brane.contains("pub const SERVICES: usize = 0;")
            && brane.contains("pub const INSTANCES: usize = 17;")
    );
    assert!(brane.contains("pub const PORTS_NIC: [Region; 1] ="), "{brane}");
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
fn what_a_configuration_adds_stands_beside_the_system() {
    let system = system("signal-flood");
    assert_eq!(
        system.pd("services-2").map(|pd| pd.program.as_str()),
        Some("signal-flood.elf")
    );
    let checker = codegen::program(&system, "irq-checker.elf").expect("irq-checker.elf");
    assert!(
        checker.contains("pub const TIMER: usize = 60;")
            && checker.contains("pub mod threads {")
            && checker.contains("pub const SUBJECT: usize = 5;")
            && checker.contains("pub const VECTOR: [u8; 54] = [0, 2, 4,"),
        "{checker}"
    );
    // Without added domains the constants are the same.
    let serial = |name| codegen::program(&self::system(name), "serial.elf").expect("serial.elf");
    assert_eq!(serial("signal-flood"), serial("dhcp"));
}

#[test]
fn an_unknown_configuration_names_the_known_ones() {
    let error = Config::load(&root(), "bnech")
        .expect_err("no such configuration")
        .to_string();
    assert!(error.contains("bnech") && error.contains("bench"), "{error}");
}

#[test]
fn nothing_of_the_file_is_missing_in_the_largest_system() {
    let text = std::fs::read_to_string(root().join("system.xml")).expect("system.xml");
    let whole = System::parse(&text, "system.xml").unwrap_or_else(|e| panic!("{e}"));
    let [two, four] = ["two-nics", "four-nics"]
        .map(|name| Config::load_for(&root(), name, true).unwrap_or_else(|e| panic!("{e}")));
    let mut entry = two.entry;
    assert!(entry.without.is_empty());
    entry.instances = 3;
    entry.nics = four.entry.nics;
    entry.filters = 4;
    entry.sizes.clear();
    assert_eq!(entry.subscribers, 3);
    let path = Path::new("system.xml");
    let config = Config::resolve(&root(), "two-nics", entry, path, &text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.xml, text);
    // Six branes and their clients in place of three, two NICs in place of four, and no filters in place of four.
    assert_eq!(
        two.system.protection_domains.len(),
        whole.protection_domains.len() + 6 - 2 - 4
    );
}

#[test]
fn without_a_nic_and_subscribers_nothing_of_them_is_left() {
    for name in entries(&root())
        .expect("configs.toml")
        .keys()
        .filter(|name| !["two-nics", "four-nics"].contains(&name.as_str()))
    {
        let config = Config::load_for(&root(), name, true).unwrap_or_else(|e| panic!("{e}"));
        for word in ["nic1", "nic2", "nic3", "subscriber", "subscription"] {
            assert!(!config.xml.contains(word), "{name} has {word}");
        }
        let user = |region: &str| {
            let maps = |pd: &&branes_system::ProtectionDomain| pd.maps.iter().any(|map| map.mr == region);
            config.system.protection_domains.iter().filter(maps).count()
        };
        // Regions with remaining users stay, although removed domains used them too.
        assert!(user("tsc") >= 10, "{name}");
        assert_eq!((user("log-remote"), user("ports-nic0-1")), (2, 2), "{name}");
    }
}

#[test]
fn filters_are_there_by_number_and_each_has_a_region_with_each_brane() {
    for name in entries(&root()).expect("configs.toml").keys() {
        let config = Config::load(&root(), name).unwrap_or_else(|e| panic!("{e}"));
        let has = |word: &str| config.xml.contains(word);
        assert_eq!(config.entry.filters > 0, has("filter0"), "{name}");
        assert!(!has("filter3"), "{name}");
        for filter in (0..config.entry.filters).map(|k| format!("filter{k}")) {
            let pd = config.system.pd(&filter).expect("the filter");
            for n in 0..config.entry.instances {
                let region = format!("hook-{filter}-{n}");
                let brane = config.system.pd(&format!("brane-{n}")).expect("the brane");
                assert!(pd.maps.iter().any(|map| map.mr == region), "{name} {region}");
                assert!(brane.maps.iter().any(|map| map.mr == region), "{name} {region}");
                let mut ends = config.system.ends(&filter);
                let end = ends.find(|(_, peer)| peer.pd == brane.name).expect("a channel");
                assert_eq!(end.0.id as usize, n, "{name} {filter}");
            }
            let users = |pd: &&branes_system::ProtectionDomain| {
                let prefix = format!("hook-{filter}-");
                pd.maps.iter().any(|map| map.mr.starts_with(&prefix))
            };
            let count = config.system.protection_domains.iter().filter(users).count();
            assert_eq!(count, config.entry.instances + 1, "{name} {filter}");
        }
    }
    let mut entry = entries(&root())
        .expect("configs.toml")
        .remove("hooks")
        .expect("hooks");
    entry.filters = 5;
    let text = std::fs::read_to_string(root().join("system.xml")).expect("system.xml");
    let error =
        Config::resolve(&root(), "hooks", entry, Path::new("system.xml"), &text).expect_err("four at most");
    assert!(error.to_string().contains("5 filters"), "{error}");
}

#[test]
fn every_nic_is_wired_like_the_first() {
    let four = system("four-nics");
    let said = |nic: &str| {
        let pd = four.pd(nic).expect("the driver");
        let maps = pd
            .maps
            .iter()
            .map(|map| (map.mr.replace(nic, "nic"), map.vaddr, map.write, map.cached));
        let maps: Vec<_> = maps.collect();
        let setvars = pd.setvars.iter();
        let setvars: Vec<_> = setvars
            .map(|s| (s.symbol.clone(), s.region.replace(nic, "nic")))
            .collect();
        let peers = four
            .ends(nic)
            .map(|(own, peer)| (own.id, peer.pd.clone(), own.pp, peer.pp));
        let peers: BTreeSet<_> = peers.collect();
        (
            maps,
            setvars,
            peers,
            pd.program.clone(),
            pd.priority,
            pd.stack_size,
        )
    };
    let of = |nic: &str, what: &str| four.region(&format!("{nic}-{what}")).expect("a region").clone();
    for (one, next) in [("nic0", "nic1"), ("nic1", "nic2"), ("nic2", "nic3")] {
        assert_eq!(said(one), said(next));
        for what in ["ecam", "bar", "dma"] {
            let (first, second) = (of(one, what), of(next, what));
            assert_eq!(first.size, second.size, "{what}");
            let end = first.phys_addr.zip(first.size).map(|(at, size)| at + size);
            assert!(end <= second.phys_addr, "{what}");
        }
    }
    // Each brane has ports at each of them.
    let brane = four.pd("brane-2").expect("a brane");
    let ports = brane
        .maps
        .iter()
        .filter(|map| map.mr.starts_with("ports-nic"))
        .count();
    let drivers = four
        .ends("brane-2")
        .filter(|(_, peer)| peer.pd.starts_with("nic"))
        .count();
    assert_eq!((ports, drivers), (4, 4));
}

#[test]
fn the_iommu_lets_the_device_reach_the_driver_s_region_and_nothing_else() {
    assert!(system("default").io_address_spaces.is_empty());
    for (name, nics) in [("default", 1), ("bench", 1), ("two-nics", 2), ("four-nics", 4)] {
        // The device of the control line is confined too.
        let devices = nics + 1;
        let config = Config::load_for(&root(), name, true).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.system.io_address_spaces.len(), devices, "{name}");
        for space in &config.system.io_address_spaces {
            let [map] = &space.maps[..] else {
                panic!("{name}: not one mapping")
            };
            let region = config.system.region(&map.mr).expect("the region");
            // The driver gives the device physical addresses. The function must be that of its configuration
            // space.
            assert_eq!(
                (map.mr.as_str(), Some(map.iovaddr)),
                (format!("{}-dma", space.name).as_str(), region.phys_addr)
            );
            let (bus, device, function) = space.peripheral;
            let page = u64::from(bus) << 20 | u64::from(device) << 15 | u64::from(function) << 12;
            let ecam = config.system.region(&format!("{}-ecam", space.name));
            assert_eq!(ecam.and_then(|r| r.phys_addr), Some(0xb000_0000 + page));
        }
    }
}

#[test]
fn the_model_says_what_the_file_says() {
    let system = system("dhcp");
    let names: Vec<_> = system
        .protection_domains
        .iter()
        .map(|pd| pd.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "timer",
            "serial",
            "nic0",
            "turn",
            "manager",
            "brane-0",
            "brane-1",
            "brane-2",
            "services-0",
            "services-1",
            "services-2",
            "console",
            "remote",
            "line"
        ]
    );
    for name in [
        "brane-0",
        "brane-1",
        "brane-2",
        "services-0",
        "services-1",
        "services-2",
    ] {
        assert_eq!(
            system.pd(name).and_then(|pd| pd.parent.as_deref()),
            Some("manager"),
            "{name}"
        );
    }
    assert_eq!(system.children("manager").count(), 9);

    let timer = system.pd("timer").expect("timer");
    let source = IrqSource::IoApic {
        ioapic: 0,
        pin: 2,
        level: false,
        active_low: false,
    };
    assert_eq!(timer.irqs.first().map(|irq| irq.source), Some(source));
    assert_eq!(
        system
            .pd("serial")
            .and_then(|pd| pd.ioports.first())
            .map(|p| (p.addr, p.size)),
        Some((0x3f8, 8))
    );
    assert_eq!(
        system
            .pd("serial")
            .and_then(|pd| pd.ioports.get(1))
            .map(|p| (p.addr, p.size)),
        Some((0x2f8, 8))
    );
    let hpet = system.region("hpet").expect("hpet");
    assert_eq!((hpet.phys_addr, hpet.page_size), (Some(0xfed0_0000), 0x1000));
    let tsc = system.region("tsc").expect("tsc");
    assert_eq!(tsc.prefill, Prefill::BootInfo(BootInfo::X86TscFreq));
    let boot = system.region("boot-config").expect("boot-config");
    assert_eq!(boot.prefill, Prefill::File("boot-config.cbor".to_owned()));
    assert_eq!(
        system.region("ports-nic0-1").map(|r| r.page_size),
        Some(0x20_0000)
    );
}

#[test]
fn ids_are_unique_and_calls_go_only_to_what_is_never_restarted() {
    for name in entries(&root()).expect("configs.toml").keys() {
        let system = system(name);
        for pd in &system.protection_domains {
            let channels = system.ends(&pd.name).map(|(own, _)| own.id);
            let ids: Vec<u8> = channels.chain(pd.irqs.iter().map(|irq| irq.id)).collect();
            let unique: BTreeSet<u8> = ids.iter().copied().collect();
            assert_eq!(unique.len(), ids.len(), "{name}: {}", pd.name);
            assert!(unique.iter().all(|id| *id <= 61), "{name}: {}", pd.name);
            for (_, callee) in system.ends(&pd.name).filter(|(own, _)| own.pp) {
                assert!(
                    [
                        "timer",
                        "serial",
                        "nic0",
                        "nic1",
                        "nic2",
                        "nic3",
                        "manager",
                        "irq-checker",
                        // Of a configuration for tests, whose programs are written for the upstream crate.
                        "upstream-server"
                    ]
                    .contains(&callee.pd.as_str()),
                    "{name}: {} calls {}",
                    pd.name,
                    callee.pd
                );
            }
        }
    }
}

#[test]
fn a_caller_has_the_same_number_at_every_service() {
    let services = ["timer", "serial", "nic0", "nic1", "nic2", "nic3", "manager"];
    for name in entries(&root()).expect("configs.toml").keys() {
        let system = system(name);
        for child in system.children("manager") {
            let peers = system.ends(&child.name).map(|(_, peer)| peer);
            for peer in peers.filter(|peer| services.contains(&peer.pd.as_str())) {
                assert_eq!(
                    child.child_id,
                    Some(peer.id),
                    "{name}: {} at {}",
                    child.name,
                    peer.pd
                );
            }
        }
    }
}

#[test]
fn bench_has_its_key_facts() {
    let bench = system("bench");
    let count = |base: &str| {
        let pds = bench.protection_domains.iter();
        pds.filter(|pd| codegen::family(&pd.name).is_some_and(|(b, _)| b == base))
            .count()
    };
    assert_eq!((count("brane"), count("services")), (17, 17));
    assert_eq!(bench.protection_domains.len(), 42);
    let default = system("dhcp");
    let of_one = |base: &str| {
        let regions = default.memory_regions.iter();
        regions
            .filter(|r| codegen::family(&r.name).is_some_and(|(_, n)| n == 1) && r.name.contains(base))
            .count()
    };
    let per_instance = of_one("");
    assert_eq!(
        bench.memory_regions.len(),
        default.memory_regions.len() + 14 * per_instance
    );
    let channels = default.channels.iter();
    let per_instance = channels
        .filter(|c| c.ends.iter().any(|end| end.pd.ends_with("-1")))
        .count();
    assert_eq!(bench.channels.len(), default.channels.len() + 14 * per_instance);
    // One program for all branes, and one for all clients.
    for (n, base) in [(16, "brane"), (16, "services"), (3, "brane")] {
        let (far, near) = (bench.pd(&format!("{base}-{n}")), default.pd(&format!("{base}-1")));
        let (far, near) = (far.expect("far"), near.expect("near"));
        assert_eq!(
            (&far.program, far.priority, far.stack_size),
            (&near.program, near.priority, near.stack_size)
        );
        let places = |pd: &branes_system::ProtectionDomain| -> Vec<(u64, bool)> {
            pd.maps.iter().map(|map| (map.vaddr, map.write)).collect()
        };
        assert_eq!(places(far), places(near));
    }
    // The address ranges that driver and manager reserve are large enough: no two mappings overlap.
    let ids = |pd: &str| bench.ends(pd).map(|(own, _)| own.id).max();
    assert!(ids("nic0") <= Some(61) && ids("timer") <= Some(61) && ids("serial") <= Some(61));
}
