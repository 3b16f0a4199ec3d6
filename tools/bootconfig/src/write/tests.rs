use super::*;
use brane_abi::control::{Family, all_families};
use brane_abi::filter::Rule;
use brane_abi::log::Level;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::LogLevel;
use proptest::prelude::*;
use std::path::Path;

/// Levels that a file must name, because they are not the default.
const LEVELS: [Level; 4] = [Level::Off, Level::Error, Level::Warn, Level::Debug];

/// Ports of a brane at one NIC.
const PORTS_PER_BRANE: usize = 2;

/// A system of two NICs.
fn size(instances: usize) -> crate::Size {
    crate::Size {
        instances,
        nics: 2,
        ports_per_nic: Some(PORTS_PER_BRANE),
    }
}

/// Generates all kinds of files: some branes with interfaces on devices of all kinds, and devices without a
/// brane.
fn configs() -> impl Strategy<Value = BootConfig> {
    let brane = (
        any::<bool>(),
        0usize..4,
        proptest::collection::vec(interface(), 0..4),
        proptest::collection::vec(rule(), 0..4),
    );
    let spare = (0u8..3, any::<bool>(), proptest::option::of(1u64..1_000_000));
    (
        proptest::collection::vec(brane, 1..5),
        proptest::collection::vec(spare, 0..4),
        any::<[u8; 3]>(),
        proptest::collection::btree_map("[a-z]{1,8}(-[0-9])?", 0usize..4, 0..4),
    )
        .prop_map(|(branes, spares, pool, levels)| {
            let levels = levels.into_iter();
            let mut config = BootConfig {
                mac_pool: [2, pool[0], pool[1], pool[2]],
                log: levels.map(|(pd, i)| LogLevel { pd, level: LEVELS[i] }).collect(),
                ..BootConfig::default()
            };
            for (number, (held, families, interfaces, filter)) in branes.into_iter().enumerate() {
                let mut built = BraneBoot {
                    name: format!("b{number}"),
                    primary: number == 0,
                    held,
                    memory: (number % 2 == 1).then_some(70_000 + number as u32),
                    families: match families {
                        0 => None,
                        1 => Some(all_families()),
                        2 => Some(vec![FamilyConfig {
                            family: Family::Inet6,
                            protocols: vec![],
                        }]),
                        _ => Some(vec![FamilyConfig {
                            family: Family::Inet,
                            protocols: Family::Inet.protocols()[..2].to_vec(),
                        }]),
                    },
                    interfaces: vec![],
                    filter,
                };
                for (index, (mut interface, mut device)) in interfaces.into_iter().enumerate() {
                    let last = (number * 16 + index) as u8;
                    let on_nic = built
                        .interfaces
                        .iter()
                        .filter(|i| usize::from(i.port) / PORTS_PER_BRANE == usize::from(device.nic));
                    let on_nic = on_nic.count();
                    if on_nic == PORTS_PER_BRANE {
                        continue;
                    }
                    interface.name = format!("net{index}");
                    interface.device = format!("dev{number}.{index}");
                    interface.port = device.nic * PORTS_PER_BRANE as u8 + on_nic as u8;
                    interface.mac = MacAddr([2, 0x77, 1, 0, 0, last]);
                    if !interface.dhcp4 {
                        interface.addresses.push(Cidr {
                            ip: [10, 1, last, 1].into(),
                            prefix: 24,
                        });
                        interface.gateway4 = interface.slaac.then_some([10, 1, last, 2].into());
                    }
                    device.name.clone_from(&interface.device);
                    device.mac = Some(interface.mac);
                    built.interfaces.push(interface);
                    config.devices.push(device);
                }
                config.branes.push(built);
            }
            for (n, (nic, named, rate)) in spares.into_iter().enumerate() {
                let name = format!("spare{n}");
                let mac = |last| named.then_some(MacAddr([2, 0x77, 2, 0, last, n as u8]));
                let end = |name: &str, kind, last| DeviceConfig {
                    name: name.into(),
                    kind,
                    nic: nic.min(1),
                    mac: mac(last),
                    rate_down: rate,
                    ..DeviceConfig::default()
                };
                if nic == 2 {
                    let peer = format!("{name}-peer");
                    config.devices.push(end(&name, Kind::Pair(peer.clone()), 0));
                    config.devices.push(end(&peer, Kind::Pair(name), 1));
                } else {
                    config.devices.push(end(&name, Kind::Vnic, 0));
                }
            }
            config
        })
}

fn interface() -> impl Strategy<Value = (InterfaceConfig, DeviceConfig)> {
    let kind = prop_oneof![Just(Kind::Vnic), (1u16..4095).prop_map(Kind::Vlan)];
    let rate = proptest::option::of(1u64..100_000_000_000);
    (any::<[bool; 4]>(), kind, 0u8..2, rate.clone(), rate).prop_map(
        |(flags, kind, nic, rate_up, rate_down)| {
            let interface = InterfaceConfig {
                dhcp4: flags[0],
                slaac: flags[1],
                gateway6: flags[2].then(|| "fe80::1".parse().unwrap()),
                ..InterfaceConfig::default()
            };
            let device = DeviceConfig {
                kind,
                nic,
                mode: if flags[2] { Mode::Private } else { Mode::Bridge },
                allow: if flags[3] {
                    vec![Cidr {
                        ip: [10, 1, 0, 0].into(),
                        prefix: 16,
                    }]
                } else {
                    vec![]
                },
                rate_up,
                rate_down,
                ..DeviceConfig::default()
            };
            (interface, device)
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let texts = vec![
        "drop",
        "pass in on net0 inet proto tcp from 10.0.0.0/8 to any port 22,80-90 flags S/SA state new rate 10/s burst 20",
        "reject out inet6 proto icmp6 icmp-type echo/0",
        "drop bpf \"48 0 0 9; 21 0 1 6; 6 0 0 1; 6 0 0 0\"",
    ];
    proptest::sample::select(texts).prop_map(|text| branes_pfil::parse(text).unwrap())
}

fn sorted(mut config: BootConfig) -> BootConfig {
    config.devices.sort_by(|a, b| a.name.cmp(&b.name));
    config
}

proptest! {
    #[test]
    fn what_is_written_compiles_to_the_same(config in configs()) {
        let text = to_toml(&config);
        let read = crate::parse(Path::new("saved.toml"), &text, size(17));
        let read = read.map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read.check(17, PORTS_PER_BRANE), Ok(()));
        prop_assert_eq!(sorted(read), sorted(config), "{}", text);
    }
}

#[test]
fn the_shipped_files_come_back() {
    for (name, instances) in [("branes.toml", 6), ("bench.toml", 17), ("dhcp.toml", 6)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../brane-manager")
            .join(name);
        let config = crate::load(&path, size(instances)).unwrap();
        let again = crate::parse(&path, &to_toml(&config), size(instances)).unwrap();
        assert_eq!(sorted(again), sorted(config), "{name}");
    }
}

#[test]
fn a_file_is_as_a_person_would_write_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../brane-manager/branes.toml");
    let text = to_toml(&crate::load(&path, size(6)).unwrap());
    let start = "# The desired state of the system when this was saved; brane-manager/branes.toml explains the keys.\n\nmac-pool = \
                 \"02:77:00:00\"\n\n[[brane]]\nname = \"main\"\nprimary = true\n\n[[brane.interface]]\nname = \"net0\"\naddresses = \
                 [\"10.0.2.15/24\", \"fec0::15/64\"]\ndevice = \"vnic0\"\ngateway4 = \"10.0.2.2\"\nmac = \
                 \"02:77:00:00:00:00\"\nport = 0\nslaac = true\n";
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn rules_follow_their_brane() {
    let mut config = BootConfig {
        mac_pool: [2, 0x77, 0, 0],
        ..BootConfig::default()
    };
    let rules = ["pass in proto tcp to any port 22", "drop bpf \"6 0 0 1\""];
    for (name, rules) in [("main", &rules[..]), ("red", &rules[1..])] {
        config.branes.push(BraneBoot {
            name: name.into(),
            primary: name == "main",
            filter: rules
                .iter()
                .map(|text| branes_pfil::parse(text).unwrap())
                .collect(),
            ..BraneBoot::default()
        });
    }
    let text = to_toml(&config);
    let end = "[[brane]]\nname = \"main\"\nprimary = true\n\n[[brane.filter]]\nrule = \"pass in proto tcp to any port 22\"\n\n\
               [[brane.filter]]\nrule = 'drop bpf \"6 0 0 1\"'\n\n[[brane]]\nname = \"red\"\n\n[[brane.filter]]\nrule = 'drop bpf \
               \"6 0 0 1\"'\n\n";
    assert!(text.ends_with(end), "{text}");
}
