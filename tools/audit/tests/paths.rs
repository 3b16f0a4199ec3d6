//! Paths between branes: in all systems that can be built they pass through trusted domains, and each kind of
//! path that a wrong description would open is found.

use std::path::Path;

use branes_audit::{Kernel, Report};
use branes_system::configs::{Config, entries};
use branes_system::{
    Channel, End, ExtraCap, ExtraCapKind, IoAddressSpace, IoMap, IoPort, Map, MemoryRegion, Position, System,
};

const KERNELS: [Kernel; 2] = [Kernel::Registry, Kernel::Sdk];

fn system(config: &str) -> System {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Config::load(&root, config)
        .unwrap_or_else(|e| panic!("{e}"))
        .system
}

fn faults(system: &System, kernel: Kernel) -> Vec<String> {
    Report::of("test", system, kernel)
        .unwrap_or_else(|e| panic!("{e}"))
        .faults()
}

/// Returns the faults of the default system after a change. Those of both kernels must be equal.
fn after(change: impl Fn(&mut System)) -> Vec<String> {
    let mut system = system("default");
    change(&mut system);
    let [ours, sdk] = KERNELS.map(|kernel| faults(&system, kernel));
    assert_eq!(ours, sdk);
    ours
}

fn named(lines: &[String], words: &str) {
    assert!(
        lines.iter().any(|line| line.contains(words)),
        "no fault with `{words}` among: {lines:#?}"
    );
}

fn map(system: &mut System, pd: &str, region: &str, write: bool) {
    let pd = system
        .protection_domains
        .iter_mut()
        .find(|p| p.name == pd)
        .expect("a domain");
    pd.maps.push(Map {
        mr: region.into(),
        vaddr: 0x6000_0000,
        read: true,
        write,
        execute: false,
        cached: true,
        setvar_vaddr: None,
        setvar_size: None,
        setvar_prefill_size: None,
        position: Position::default(),
    });
}

fn region(system: &mut System, name: &str, phys_addr: Option<u64>) {
    let model = system.region("log-nic0").expect("a region").clone();
    system.memory_regions.push(MemoryRegion {
        name: name.into(),
        phys_addr,
        ..model
    });
}

fn join(system: &mut System, from: &str, to: &str, notify: bool, pp: bool) {
    let end = |pd: &str, notify, pp| End {
        pd: pd.into(),
        id: 40,
        notify,
        pp,
        setvar_id: None,
        position: Position::default(),
    };
    let ends = [end(from, notify, pp), end(to, false, false)];
    system.channels.push(Channel {
        ends,
        position: Position::default(),
    });
}

#[test]
fn no_configuration_has_a_path_that_nobody_trusted_stands_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for name in entries(&root).expect("configs.toml").keys() {
        for kernel in KERNELS {
            assert_eq!(faults(&system(name), kernel), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn shared_memory_is_found() {
    let lines = after(|system| map(system, "brane-1", "heap-0", true));
    named(&lines, "brane-0 -> brane-1 (shared memory heap-0)");
    named(&lines, "brane-1 -> brane-0 (shared memory heap-0)");
    // One direction only if the other domain cannot write. None if no domain can write.
    let lines = after(|system| map(system, "services-1", "heap-0", false));
    assert_eq!(lines.len(), 1, "{lines:?}");
    named(&lines, "brane-0 -> services-1 (shared memory heap-0)");
    assert!(
        after(|system| {
            region(system, "facts", None);
            map(system, "brane-0", "facts", false);
            map(system, "brane-1", "facts", false)
        })
        .is_empty()
    );
    // A path within a compartment is no fault.
    assert!(after(|system| map(system, "services-0", "heap-0", true)).is_empty());
}

#[test]
fn channels_are_found() {
    let lines = after(|system| join(system, "brane-0", "services-2", true, false));
    assert_eq!(
        lines,
        ["brane-0 -> services-2 (notification 40/40): no trusted domain in between"]
    );
    let lines = after(|system| join(system, "brane-0", "brane-1", false, true));
    named(&lines, "brane-0 -> brane-1 (call 40/40)");
    named(&lines, "brane-1 -> brane-0 (answer 40/40)");
}

#[test]
fn a_third_that_nobody_trusts_is_found() {
    let lines = after(|system| {
        join(system, "brane-0", "console", true, false);
        map(system, "console", "heap-2", true);
    });
    named(
        &lines,
        "brane-0 -> console (notification 40/40) -> brane-2 (shared memory heap-2)",
    );
    // A path through a trusted domain is no fault.
    assert!(
        after(|system| {
            join(system, "brane-0", "nic0", true, false);
            map(system, "nic0", "heap-2", true)
        })
        .is_empty()
    );
}

#[test]
fn control_of_another_is_found() {
    let extra = |kind| {
        move |system: &mut System| {
            let pd = system
                .protection_domains
                .iter_mut()
                .find(|p| p.name == "brane-0")
                .expect("a domain");
            pd.cspace.push(ExtraCap {
                kind,
                slot: 5,
                pd: "brane-1".into(),
                position: Position::default(),
            });
        }
    };
    let lines = after(extra(ExtraCapKind::Tcb));
    named(&lines, "brane-0 -> brane-1 (thread control)");
    named(&lines, "brane-1 -> brane-0 (registers)");
    named(
        &after(extra(ExtraCapKind::VSpace)),
        "brane-0 -> brane-1 (address space control)",
    );
    let mut time = system("default");
    extra(ExtraCapKind::SchedulingContext)(&mut time);
    named(
        &faults(&time, Kernel::Sdk),
        "brane-0 -> brane-1 (scheduling context control)",
    );
    // A brane as the parent of another brane.
    let lines = after(|system| {
        let child = system
            .protection_domains
            .iter_mut()
            .find(|p| p.name == "brane-1")
            .expect("a domain");
        child.parent = Some("brane-0".into());
    });
    named(&lines, "brane-1 -> brane-0 (fault as 1, registers)");
    named(&lines, "brane-0 -> brane-1 (thread control)");
}

#[test]
fn shared_ports_and_interrupts_are_found() {
    let ports = |system: &mut System, pd: &str, addr, size| {
        let pd = system
            .protection_domains
            .iter_mut()
            .find(|p| p.name == pd)
            .expect("a domain");
        pd.ioports.push(IoPort {
            id: 1,
            addr,
            size,
            setvar_id: None,
            setvar_addr: None,
            position: Position::default(),
        });
    };
    let lines = after(|system| {
        ports(system, "brane-0", 0x500, 8);
        ports(system, "brane-1", 0x504, 8);
    });
    named(&lines, "brane-0 -> brane-1 (I/O ports 0x504 to 0x507)");
    let lines = after(|system| {
        let irq = system.pd("nic0").expect("the driver").irqs[0].clone();
        for pd in system
            .protection_domains
            .iter_mut()
            .filter(|p| ["brane-0", "brane-1"].contains(&p.name.as_str()))
        {
            pd.irqs.push(irq.clone());
        }
    });
    named(&lines, "brane-0 -> brane-1 (interrupt pin 22");
}

#[test]
fn devices_of_the_untrusted_are_found() {
    for (pd, role) in [
        ("brane-0", "brane"),
        ("services-1", "client"),
        ("console", "other"),
    ] {
        let lines = after(|system| {
            region(system, "second", Some(0xd100_0000));
            map(system, pd, "second", true);
        });
        named(
            &lines,
            &format!("{pd} ({role}) controls a device (second at 0xd1000000)"),
        );
    }
}

#[test]
fn a_parent_that_nobody_trusts_is_found() {
    let lines = after(|system| {
        for pd in &mut system.protection_domains {
            if pd.parent.is_some() {
                pd.parent = Some("console".into());
            }
        }
    });
    named(
        &lines,
        "brane-0 -> console (fault as 0, registers) -> brane-1 (thread control)",
    );
}

#[test]
fn what_the_iommu_lets_a_device_reach_is_found() {
    let give = |regions: &[&str]| {
        let mut system = system("default");
        region(&mut system, "second-ecam", Some(0xb001_8000));
        map(&mut system, "brane-0", "second-ecam", true);
        let pd = system
            .protection_domains
            .iter_mut()
            .find(|p| p.name == "brane-0")
            .expect("a domain");
        pd.maps.last_mut().expect("its last").cached = false;
        let map = |mr: &&str| IoMap {
            mr: (*mr).into(),
            iovaddr: 0,
            read: true,
            write: true,
            position: Position::default(),
        };
        system.io_address_spaces.push(IoAddressSpace {
            name: "second".into(),
            peripheral: (0, 3, 0),
            domain_id: 1,
            maps: regions.iter().map(map).collect(),
            position: Position::default(),
        });
        system
    };
    assert_eq!(faults(&give(&["log-brane-0"]), Kernel::Sdk), Vec::<String>::new());
    named(
        &faults(&give(&["log-brane-1"]), Kernel::Sdk),
        "device 00:03.0 of brane-0 -> brane-1 (shared memory log-brane-1)",
    );
    // The registry kernel's image has no IOMMU spaces.
    named(
        &faults(&give(&["log-brane-0"]), Kernel::Registry),
        "brane-0 (brane) controls a device",
    );
}

#[test]
fn the_sdk_s_rights_are_listed_and_not_hidden() {
    let report = Report::of("default", &system("default"), Kernel::Sdk).unwrap_or_else(|e| panic!("{e}"));
    let text = report.to_string();
    assert!(
        text.contains("KNOWN WEAKNESS") && report.summary().contains("known weakness"),
        "{text}"
    );
    let json = report.json();
    let met = json["known_weaknesses"]["manager"]
        .as_array()
        .expect("the domains at the manager's endpoint");
    assert!(
        met.iter().any(|name| name == "brane-0") && met.iter().any(|name| name == "brane-1"),
        "{met:?}"
    );
    let ours = Report::of("default", &system("default"), Kernel::Registry).unwrap_or_else(|e| panic!("{e}"));
    assert!(!ours.to_string().contains("WEAKNESS"));
}

#[test]
fn the_listing_stays_short_for_many_branes() {
    let lines = |config: &str, kernel| {
        let report = Report::of(config, &system(config), kernel).unwrap_or_else(|e| panic!("{e}"));
        let text = report.to_string();
        assert!(
            text.contains("  brane-N    -> nic0        shared memory ports-nic0-N, notification 57/N\n"),
            "{text}"
        );
        text.lines().count()
    };
    for kernel in KERNELS {
        assert_eq!(lines("bench", kernel), lines("default", kernel));
    }
}

#[test]
fn the_json_form_has_what_is_documented() {
    let json = Report::of("default", &system("default"), Kernel::Registry)
        .unwrap_or_else(|e| panic!("{e}"))
        .json();
    assert_eq!(
        (&json["schema"], &json["config"], &json["kernel"]),
        (&1.into(), &"default".into(), &"registry".into())
    );
    let mut fields: Vec<&String> = json.as_object().expect("an object").keys().collect();
    fields.sort();
    let documented = include_str!("../../../docs/audit.md");
    for field in fields {
        assert!(
            documented.contains(&format!("| `{field}` |")),
            "{field} is not in docs/audit.md"
        );
    }
    let edge = serde_json::json!({"from": "brane-0", "to": "nic0", "by": {"kind": "memory", "what": "ports-nic0-0"}});
    assert!(json["edges"].as_array().expect("a list").contains(&edge));
}

#[test]
fn what_the_sdk_s_rights_open_is_told_apart_and_named() {
    let known = |kernel| {
        Report::of("default", &system("default"), kernel)
            .unwrap_or_else(|e| panic!("{e}"))
            .known_weaknesses()
    };
    assert_eq!(known(Kernel::Registry), Vec::<String>::new());
    let lines = known(Kernel::Sdk);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    named(&lines, "the endpoint of manager");
    named(&lines, "the endpoint of timer");
}
