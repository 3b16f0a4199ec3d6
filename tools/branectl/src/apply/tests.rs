use super::*;
use brane_abi::filter::Rule;
use brane_abi::log::Level;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{LogLevel, Mode};
use brane_manager_core::boot::DEFAULT_POOL;
use brane_manager_core::testing::World;
use branes_bootconfig::Size;
use proptest::prelude::*;

/// The largest system that the tests play.
/// Ports of a brane at one NIC.
const PORTS_PER_BRANE: usize = 2;
const SIZE: Size = Size {
    instances: 17,
    nics: 2,
    ports_per_nic: Some(PORTS_PER_BRANE),
};

/// The real manager over a real switch, with simulated branes.
struct Real(World);

impl Operator for Real {
    fn call(&mut self, request: &Request) -> Result<Answer, Failure> {
        let operator = 1;
        self.0
            .call_as(operator, request.clone())
            .map_err(Failure::Refused)
    }
}

/// Generates systems over the same few names, so that two of them differ in many parts.
fn configs() -> impl Strategy<Value = BootConfig> {
    let device = (
        0u8..4,
        any::<bool>(),
        proptest::option::of(0usize..4),
        0u8..3,
        0usize..2,
        proptest::option::of(1u64..9),
    );
    let brane = (
        any::<[bool; 3]>(),
        any::<bool>(),
        proptest::collection::vec(rule(), 0..3),
    );
    (
        proptest::collection::vec(device, 6),
        proptest::collection::vec(brane, 4),
    )
        .prop_map(|(devices, branes)| {
            let mut config = BootConfig {
                mac_pool: DEFAULT_POOL,
                ..BootConfig::default()
            };
            for (n, (flags, exists, filter)) in branes.into_iter().enumerate() {
                if exists || n == 0 {
                    let families = all_families()[..1].to_vec();
                    config.branes.push(BraneBoot {
                        name: format!("b{n}"),
                        primary: n == 0,
                        held: flags[0],
                        families: (n != 0 && flags[1]).then_some(families),
                        interfaces: vec![],
                        filter,
                        memory: (n != 0 && flags[1]).then_some(100_000 + n as u32),
                    });
                }
            }
            for (n, (kind, flag, owner, address, iface, rate)) in devices.into_iter().enumerate() {
                let kind = match (kind, n) {
                    (0, _) => continue,
                    // The last two are the ends of a wire, or nothing.
                    (_, 4) if flag => Kind::Pair("d4p".into()),
                    (1, _) => Kind::Vlan(7),
                    _ => Kind::Vnic,
                };
                let name = format!("d{n}");
                let pair = matches!(kind, Kind::Pair(_));
                let mut ends = vec![DeviceConfig {
                    name: name.clone(),
                    kind,
                    mac: (!pair).then_some(MacAddr([2, 0, 0, 0, u8::from(flag), n as u8])),
                    mode: if flag { Mode::Private } else { Mode::Bridge },
                    nic: u8::from(flag && !pair),
                    rate_up: rate,
                    ..DeviceConfig::default()
                }];
                if pair {
                    ends.push(DeviceConfig {
                        name: "d4p".into(),
                        kind: Kind::Pair(name.clone()),
                        rate_down: rate,
                        ..DeviceConfig::default()
                    });
                }
                for end in ends {
                    if let Some(b) = owner.and_then(|o| config.branes.get_mut(o)) {
                        let local = format!("net{iface}");
                        if b.interfaces.len() < 2 && b.interfaces.iter().all(|i| i.name != local) {
                            let first = end.nic * PORTS_PER_BRANE as u8;
                            let port = (first..)
                                .find(|p| b.interfaces.iter().all(|i| i.port != *p))
                                .unwrap();
                            b.interfaces.push(InterfaceConfig {
                                name: local,
                                port,
                                device: end.name.clone(),
                                mac: end.mac.unwrap_or_default(),
                                addresses: vec![Cidr {
                                    ip: [10, 0, address, 1].into(),
                                    prefix: 24,
                                }],
                                slaac: flag,
                                ..InterfaceConfig::default()
                            });
                        }
                    }
                    config.devices.push(end);
                }
            }
            config
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    let texts = vec![
        "drop",
        "pass in on net0 proto tcp to port 22 state new",
        "drop bpf \"6 0 0 1\"",
    ];
    proptest::sample::select(texts).prop_map(parsed)
}

fn parsed(text: &str) -> Rule {
    branes_pfil::parse(text).unwrap()
}

/// Removes the parts that the manager may choose: the order, ports, and MAC addresses if the file gives none.
fn compared(mut config: BootConfig, wanted: &BootConfig) -> BootConfig {
    config.branes.sort_by(|a, b| a.name.cmp(&b.name));
    config.devices.sort_by(|a, b| a.name.cmp(&b.name));
    for b in &mut config.branes {
        b.interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        for i in &mut b.interfaces {
            (i.port, i.mac) = (0, MacAddr::default());
        }
    }
    for d in &mut config.devices {
        if wanted.device(&d.name).is_some_and(|w| w.mac.is_none()) {
            d.mac = None;
        }
    }
    config
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn carried_out_in_order_the_plan_leads_from_any_system_to_any_other(now in configs(), wanted in configs()) {
        let mut system = Real(World::with(now.clone(), 5, 2));
        let before = running(&mut system).unwrap();
        prop_assert_eq!(compared(before.clone(), &now), compared(now.clone(), &now));
        let plan = plan(&before, &wanted).unwrap();
        for request in &plan {
            if let Err(e) = system.call(request) {
                return Err(TestCaseError::fail(format!("{request:?}: {e:?}\n{plan:#?}")));
            }
        }
        // Each request is part of a line that a person could type.
        let steps = operator_cli::unparse::steps(&plan);
        prop_assert_eq!(steps.iter().map(|step| step.requests.len()).sum::<usize>(), plan.len());
        let after = running(&mut system).unwrap();
        prop_assert_eq!(compared(after.clone(), &wanted), compared(wanted.clone(), &wanted));
        prop_assert_eq!(super::plan(&after, &wanted).unwrap(), []);
        system.0.clean();
    }
}

fn shipped() -> BootConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../brane-manager/branes.toml");
    branes_bootconfig::load(path.as_ref(), SIZE).unwrap()
}

#[test]
fn what_was_saved_changes_nothing() {
    let now = shipped();
    let text = branes_bootconfig::to_toml(&now);
    let wanted = branes_bootconfig::parse("saved.toml".as_ref(), &text, SIZE).unwrap();
    assert_eq!(plan(&now, &wanted), Ok(vec![]));
}

#[test]
fn what_cannot_change_while_it_runs_is_said() {
    let now = shipped();
    let mut other = now.clone();
    other.branes[0].primary = false;
    other.branes[1].primary = true;
    assert_eq!(
        plan(&now, &other).unwrap_err().to_string(),
        "the primary brane cannot change in a running system: write it into the boot configuration and restart \
         the system"
    );
    let mut other = now.clone();
    other.branes[0].families = Some(vec![]);
    let error = plan(&now, &other).unwrap_err().to_string();
    assert!(
        error.starts_with("the families and the memory of the primary brane main cannot change"),
        "{error}"
    );
}

#[test]
fn the_difference_is_shown_as_commands_in_a_safe_order() {
    let now = shipped();
    let text = branes_bootconfig::to_toml(&now)
        .replace("name = \"blue\"", "name = \"green\"")
        .replace("[\"10.0.2.16/24\", ", "[\"10.0.2.66/24\", ")
        + "[[device]]\nname = \"office\"\nkind = \"vlan\"\ntag = 12\n";
    let wanted = branes_bootconfig::parse("new.toml".as_ref(), &text, SIZE).unwrap();
    let plan = plan(&now, &wanted).unwrap();
    let lines: Vec<String> = plan.iter().filter_map(operator_cli::unparse::line).collect();
    assert_eq!(
        lines,
        [
            "branectl delete blue --deadline 5000ms",
            "nicctl create vlan office --tag 12",
            "branectl create green",
            "branectl address red/net0 10.0.2.66/24 fec0::16/64 --gateway4 10.0.2.2 --slaac",
            "branectl assign vnic2 green 10.0.2.17/24 fec0::17/64 --gateway4 10.0.2.2 --slaac --as net0",
            "branectl start green",
        ]
    );
}

#[test]
fn log_levels_are_brought_to_those_of_the_file() {
    let with = |levels: &[(&str, Level)]| {
        let log = levels
            .iter()
            .map(|&(pd, level)| LogLevel { pd: pd.into(), level });
        BootConfig {
            log: log.collect(),
            ..BootConfig::default()
        }
    };
    let now = with(&[
        ("brane-1", Level::Debug),
        ("nic0", Level::Warn),
        ("manager", Level::Off),
    ]);
    let wanted = with(&[("nic0", Level::Debug), ("manager", Level::Off)]);
    let set = |pd: &str, level| Request::SetLogLevel { pd: pd.into(), level };
    assert_eq!(
        plan(&now, &wanted).unwrap(),
        [set("brane-1", Level::Info), set("nic0", Level::Debug)]
    );
    assert!(plan(&now, &now).unwrap().is_empty());
}

/// Returns the shipped system with rules of brane `red`.
fn filtered(rules: &[&str]) -> BootConfig {
    let mut config = shipped();
    config.branes[1].filter = rules.iter().copied().map(parsed).collect();
    config
}

/// Returns the lines of a plan.
fn lines(now: &BootConfig, wanted: &BootConfig) -> Vec<String> {
    let plan = plan(now, wanted).unwrap();
    let steps = operator_cli::unparse::steps(&plan);
    steps.into_iter().map(|step| step.line).collect()
}

#[test]
fn a_filter_is_replaced_as_a_whole() {
    let one = filtered(&["drop in"]);
    let two = filtered(&["pass in proto tcp to port 22", "drop bpf \"6 0 0 1\""]);
    let none = filtered(&[]);
    assert_eq!(lines(&two, &two), [""; 0]);
    assert_eq!(
        lines(&one, &two),
        ["branectl filter red replace 'pass in proto tcp to any port 22; drop bpf \"6 0 0 1\"'"]
    );
    assert_eq!(lines(&none, &one), ["branectl filter red replace 'drop in'"]);
    assert_eq!(lines(&one, &none), ["branectl filter red flush"]);
    // A brane that is created again has its rules before its interfaces.
    let mut other = one.clone();
    other.branes[1].families = Some(all_families()[..1].to_vec());
    let lines = lines(&one, &other);
    let at = |start: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start))
            .expect(start)
    };
    let order = [
        at("branectl create red"),
        at("branectl filter red replace 'drop in'"),
        at("branectl assign vnic1 red"),
        at("branectl start red"),
    ];
    assert!(order.is_sorted(), "{lines:#?}");
}

#[test]
fn saved_rules_change_nothing() {
    let mut config = filtered(&["pass in on net0 proto tcp to port 22,80", "drop in"]);
    config.branes[0].filter = vec![parsed("reject out proto udp to fec0::/64 rate 5/s"); 64];
    let mut system = Real(World::with(config, 5, 2));
    let now = running(&mut system).unwrap();
    assert_eq!(now.branes[0].filter.len(), 64);
    let text = branes_bootconfig::to_toml(&now);
    let wanted = branes_bootconfig::parse("saved.toml".as_ref(), &text, SIZE).unwrap();
    assert_eq!(plan(&now, &wanted), Ok(vec![]));
    // The rules of a file become those of the brane, in several requests.
    let mut other = wanted.clone();
    other.branes[1].filter = other.branes[0].filter.clone();
    let plan = plan(&now, &other).unwrap();
    assert!(plan.len() > 3, "{plan:?}");
    for request in &plan {
        system.call(request).unwrap();
    }
    assert_eq!(
        running(&mut system).unwrap().branes[1].filter,
        other.branes[0].filter
    );
}
