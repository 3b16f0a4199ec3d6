use super::*;
use brane_abi::control::{Family, Protocol};
use brane_abi::log::Level;
use brane_abi::net::MacAddr;
use brane_abi::operator::Kind;
use brane_manager_core::boot::{DEFAULT_POOL, pool_mac};
use proptest::prelude::*;
use std::collections::HashMap;

/// Ports of a brane at one NIC.
const PORTS_PER_BRANE: usize = 2;

fn manager_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../brane-manager")
}

/// Returns the size of a system with two NICs.
fn size(instances: usize) -> Size {
    Size {
        instances,
        nics: 2,
        ports_per_nic: Some(PORTS_PER_BRANE),
    }
}

fn shipped(name: &str, instances: usize) -> BootConfig {
    let path = manager_dir().join(name);
    let bytes = compile(&path, size(instances)).unwrap_or_else(|e| panic!("{e}"));
    let config = BootConfig::from_bytes(&bytes).expect("what was compiled reads back");
    config
        .check(instances, PORTS_PER_BRANE)
        .expect("the manager accepts what the compiler accepts");
    config
}

#[test]
fn the_default_has_three_branes_and_a_second_interface() {
    let config = shipped("branes.toml", 3);
    let names: Vec<_> = config.branes.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["main", "red", "blue"]);
    for (i, brane) in config.branes.iter().enumerate() {
        let net0 = &brane.interfaces[0];
        assert_eq!(net0.mac, MacAddr([2, 0x77, 0, 0, 0, i as u8]));
        let shown: Vec<_> = net0.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [format!("10.0.2.{}/24", 15 + i), format!("fec0::{}/64", 15 + i)]
        );
        assert_eq!(net0.gateway4, Some([10, 0, 2, 2].into()));
    }
    let net1 = &config.branes[0].interfaces[1];
    assert_eq!((net1.device.as_str(), net1.port), ("vnic3", 1));
    assert_eq!(net1.mac, MacAddr([2, 0x77, 0, 0, 1, 0]));
}

#[test]
fn the_measured_system_keeps_the_harness_contract() {
    let config = shipped("bench.toml", 17);
    assert_eq!(config.branes.len(), 17);
    for (i, brane) in config.branes.iter().enumerate() {
        let net0 = &brane.interfaces[0];
        let host = if i == 0 { 2 } else { 100 + i };
        let shown: Vec<_> = net0.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [format!("10.77.0.{host}/24"), format!("fd77::{host}/64")]);
        assert_eq!(net0.mac, MacAddr([2, 0x77, 0, 0, 0, i as u8]));
        assert!(!net0.dhcp4 && !net0.slaac);
    }
}

#[test]
fn a_device_without_a_mac_address_gets_the_one_that_the_manager_would_choose() {
    let macs = |text: &str| {
        let config = parse(Path::new("b.toml"), text, size(3)).unwrap_or_else(|e| panic!("{e}"));
        let interfaces = config.branes.into_iter().flat_map(|b| b.interfaces);
        interfaces.map(|i| (i.device, i.mac)).collect::<HashMap<_, _>>()
    };
    let by_name = |name: &str| pool_mac(DEFAULT_POOL, name, |_| false).unwrap();
    let good = macs(GOOD);
    assert_eq!(good.len(), 3);
    for (device, mac) in &good {
        assert_eq!(*mac, by_name(device), "{device}");
    }
    // The brane and the place in it do not matter.
    let moved = GOOD
        .replace("\"vnic1\"", "\"vnic9\"")
        .replace("\"vnic2\"", "\"vnic1\"");
    assert_eq!(macs(&moved)["vnic1"], good["vnic1"]);
    // If an interface names an address, an earlier device of the file does not get it from the pool.
    let named = format!("{GOOD}mac = \"{}\"\n", good["vnic0"]);
    let named = macs(&named);
    assert_eq!(named["vnic2"], good["vnic0"]);
    let taken = good["vnic0"];
    assert_eq!(
        named["vnic0"],
        pool_mac(DEFAULT_POOL, "vnic0", |mac| mac == taken).unwrap()
    );
}

#[test]
fn the_automatic_one_fixes_nothing() {
    for brane in shipped("dhcp.toml", 3).branes {
        let net0 = &brane.interfaces[0];
        assert!(net0.dhcp4 && net0.slaac && net0.addresses.is_empty());
    }
}

const GOOD: &str = r#"mac-pool = "02:77:00:00"
[[brane]]
name = "main"
primary = true
[[brane.interface]]
name = "net0"
device = "vnic0"
addresses = ["10.0.2.15/24", "fec0::15/64"]
gateway4 = "10.0.2.2"
[[brane.interface]]
name = "net1"
device = "vnic1"
[[brane]]
name = "red"
[[brane.interface]]
name = "net0"
device = "vnic2"
"#;

fn message(text: &str) -> String {
    parse(Path::new("b.toml"), text, size(3)).map_or_else(|e| e.to_string(), |_| "accepted".into())
}

/// Breaks the good file once for each rule. Each case has the text to replace, its replacement, and the
/// expected message.
#[test]
fn every_rule_names_place_key_and_remedy() {
    assert_eq!(message(GOOD), "accepted");
    let cases = [
        (
            "02:77:00:00\"",
            "01:77:00:00\"",
            "b.toml:1:12: mac-pool: `01:77:00:00` is not the start of",
        ),
        (
            "02:77:00:00\"",
            "02:77\"",
            "b.toml:1:12: mac-pool: `02:77` is not the start of",
        ),
        (
            "name = \"main\"",
            "name = \"Main\"",
            "b.toml:3:8: brane.name: `Main` is not a name: use 1 to 31",
        ),
        (
            "name = \"main\"",
            "nane = \"main\"",
            "b.toml:3:1: unknown field `nane`, expected one of",
        ),
        ("name = \"main\"\n", "", "b.toml:2:1: missing field `name`"),
        (
            "name = \"red\"",
            "name = \"main\"",
            "b.toml:14:8: brane.name: `main` is taken by a brane: choose",
        ),
        (
            "primary = true\n",
            "",
            "b.toml:2:1: no brane is the primary one: write `primary = true`",
        ),
        (
            "name = \"red\"",
            "name = \"red\"\nprimary = true",
            "brane `red` is a second primary one, after `main`",
        ),
        (
            "name = \"net1\"",
            "name = \"net0\"",
            "b.toml:11:8: brane.interface.name: brane `main` has two interfaces",
        ),
        (
            "name = \"net1\"",
            "name = \"lo0\"",
            "b.toml:11:8: brane.interface.name: every brane has its own `lo0`",
        ),
        (
            "\"vnic2\"",
            "\"lo0\"",
            "b.toml:17:10: brane.interface.device: `lo0` is kept for the lo0 of a brane",
        ),
        (
            "\"vnic2\"",
            "\"vnic0\"",
            "b.toml:17:10: brane.interface.device: `vnic0` is taken by `net0` of brane `main`",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nmac = \"02:77\"",
            "b.toml:18:7: brane.interface.mac: `02:77` is not a MAC address",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nmac = \"33:33:00:00:00:01\"",
            "is not the address of one station",
        ),
        (
            "device = \"vnic1\"\n[[brane]]\nname = \"red\"\n[[brane.interface]]\nname = \"net0\"\ndevice = \"vnic2\"\n",
            "device = \"vnic1\"\nmac = \"02:77:00:00:00:00\"\n[[brane]]\nname = \"red\"\n[[brane.interface]]\nname = \"net0\"\ndevice = \"vnic2\"\nmac = \"02:77:00:00:00:00\"\n",
            "`02:77:00:00:00:00` is taken by `net1` of brane `main`",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nport = 2",
            "b.toml:18:8: brane.interface.port: a brane has no port 2: use 0 to 1",
        ),
        (
            "\"vnic1\"",
            "\"vnic1\"\nport = 0",
            "b.toml:13:8: brane.interface.port: `net1` and `net0` of brane `main` are both",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nallow = [\"10.0.2.17\"]",
            "b.toml:18:10: brane.interface.allow: `10.0.2.17` is neither a prefix nor \"addresses\"",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nallow = [\"fec0::/64\", \"10.0.2.17/24\"]",
            "b.toml:18:23: brane.interface.allow: `10.0.2.17/24` has bits behind its prefix length: write \
             `10.0.2.0/24` for the network, or `10.0.2.17/32` for the address",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nallow = []",
            "b.toml:18:9: brane.interface.allow: an empty list would let `net0` of brane `red` send nothing",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nallow = [\"addresses\"]",
            "b.toml:18:10: brane.interface.allow: `net0` of brane `red` has no fixed addresses",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nrate-up = 0",
            "b.toml:18:11: brane.interface.rate-up: 0 is no rate: write bytes per second, 1 to 100000000000",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nrate-down = -5",
            "b.toml:18:13: brane.interface.rate-down: -5 is no rate",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nrate-down = \"1M\"",
            "b.toml:18:13: invalid type: string \"1M\", expected i64",
        ),
        (
            "\"vnic2\"",
            "\"vnic2\"\nmode = \"open\"",
            "b.toml:18:8: unknown variant `open`, expected `bridge` or `private`",
        ),
        (
            "10.0.2.15/24",
            "10.0.2.15",
            "b.toml:8:14: brane.interface.addresses: `10.0.2.15` is not an address with a prefix",
        ),
        (
            "10.0.2.15/24",
            "10.0.2.15/33",
            "is not an address with a prefix length",
        ),
        (
            "10.0.2.15/24",
            "10.0.2.255/24",
            "cannot be the address of an interface",
        ),
        (
            "10.0.2.15/24",
            "10.0.2.0/24",
            "cannot be the address of an interface",
        ),
        (
            "fec0::15/64",
            "ff02::1/64",
            "b.toml:8:30: brane.interface.addresses: `ff02::1/64` cannot be the address",
        ),
        (
            "fec0::15/64",
            "10.0.2.15/24",
            "`10.0.2.15` is taken by `net0` of brane `main`",
        ),
        (
            "\"10.0.2.2\"",
            "\"10.0.3.2\"",
            "b.toml:9:12: brane.interface.gateway4: `10.0.3.2` is in no network of `net0`",
        ),
        (
            "\"10.0.2.2\"",
            "\"fec0::2\"",
            "b.toml:9:12: brane.interface.gateway4: `fec0::2` is not such an address",
        ),
        (
            "gateway4",
            "dhcp4 = true\ngateway4",
            "b.toml:9:9: brane.interface.dhcp4: `net0` of brane `main` has a fixed",
        ),
        ("= true", "= yes", "b.toml:4:11: "),
        (
            "= \"red\"",
            "= 7",
            "b.toml:14:8: invalid type: integer `7`, expected a string",
        ),
    ];
    for (from, to, expected) in cases {
        let broken = GOOD.replacen(from, to, 1);
        assert_ne!(broken, GOOD, "{from}");
        let message = message(&broken);
        assert!(
            message.contains(expected),
            "{from} -> {to}\n  expected: {expected}\n  message:  {message}"
        );
    }
}

/// Returns the good file with rules of brane `red`, each as a TOML string.
fn filtered(rules: &[&str]) -> String {
    let sections = rules
        .iter()
        .map(|rule| format!("[[brane.filter]]\nrule = {rule}\n"));
    sections.fold(GOOD.into(), |text, section| text + &section)
}

#[test]
fn rules_reach_the_manager_in_order() {
    let text = filtered(&[
        "\"pass in proto tcp to port 22 state new\"",
        "'drop in bpf \"6 0 0 1\"'",
        "\"\"\"drop bpf\n1,\n6 0 0 1\"\"\"",
    ]);
    let config = parse(Path::new("b.toml"), &text, size(3)).unwrap_or_else(|e| panic!("{e}"));
    let config = BootConfig::from_bytes(&config.to_bytes()).unwrap();
    assert_eq!(config.check(3, PORTS_PER_BRANE), Ok(()));
    let rules: Vec<_> = config.branes[1].filter.iter().map(branes_pfil::print).collect();
    assert_eq!(
        rules,
        [
            "pass in proto tcp to any port 22 state new",
            "drop in bpf \"6 0 0 1\"",
            "drop bpf \"6 0 0 1\""
        ]
    );
    assert!(config.branes[0].filter.is_empty());
}

#[test]
fn faults_of_rules_have_the_column_of_their_word() {
    let place = |rule: &str| {
        let message = message(&filtered(&["\"pass\"", rule]));
        let (place, what) = message.split_once(": brane.filter.rule: ").expect(&message);
        assert!(!what.is_empty());
        place.to_string()
    };
    // The string begins in column 8 of line 21.
    for (rule, column) in [
        ("\"dorp in\"", 9),
        ("\"drop in proto tpc\"", 23),
        ("'drop in proto tpc'", 23),
        ("\"drop\\tin  proto tpc\"", 25),
        ("\"\\u0064rop \\x69n proto tpc\"", 31),
        ("\"drop in proto\"", 22),
        ("\"\"", 9),
        ("\"\"\"\ndrop in proto tpc\"\"\"", 8),
    ] {
        assert_eq!(place(rule), format!("b.toml:21:{column}"), "{rule}");
    }
    for (text, expected) in [
        (
            GOOD.to_string() + "[[brane.filter]]\n",
            "b.toml:18:1: missing field `rule`",
        ),
        (
            GOOD.to_string() + "[[brane.filter]]\nrule = \"drop\"\nin = true\n",
            "b.toml:20:1: unknown field `in`, expected `rule`",
        ),
        (
            GOOD.to_string() + "[[brane.filter]]\nrule = 1\n",
            "b.toml:19:8: invalid type: integer `1`, expected a string",
        ),
    ] {
        assert_eq!(message(&text), expected);
    }
    // All faults are reported.
    let both = message(&filtered(&["\"dorp\"", "\"pass\"", "\"drop ni\""]));
    assert_eq!(both.lines().count(), 2, "{both}");
}

#[test]
fn a_filter_of_the_file_has_the_bounds_of_the_manager() {
    assert_eq!(message(&filtered(&["\"drop\""; 64])), "accepted");
    let message_65 = message(&filtered(&["\"drop\""; 65]));
    assert_eq!(
        message_65,
        "b.toml:147:8: brane.filter: brane `red`: 65 rules, a filter takes 64: drop some, or join some into one"
    );
    let ports = "port 1001,1002,1003,1004,1005,1006,1007,1008";
    let long = format!("\"drop from fec0::1 {ports} to fec0::2 {ports}\"");
    let too_long = message(&filtered(&[long.as_str(); 60]));
    assert!(
        too_long.starts_with("b.toml:137:8: brane.filter: brane `red`: the rules of the filter have ")
            && too_long.ends_with(" bytes, 6144 fit: drop some, or ports and programs of some"),
        "{too_long}"
    );
}

#[test]
fn limits_reach_the_manager() {
    let limited = GOOD.replacen(
        "gateway4",
        "allow = [\"addresses\", \"10.9.0.0/17\"]\nrate-up = 1_000_000\nrate-down = 5\ngateway4",
        1,
    );
    let config = parse(Path::new("b.toml"), &limited, size(3)).unwrap();
    let config = BootConfig::from_bytes(&config.to_bytes()).unwrap();
    let net0 = &config.devices[0];
    let shown: Vec<_> = net0.allow.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.2.15/32", "fec0::15/128", "10.9.0.0/17"]);
    assert_eq!((net0.rate_up, net0.rate_down), (Some(1_000_000), Some(5)));
    let net1 = &config.devices[1];
    assert_eq!(
        (net1.allow.len(), net1.rate_up, net1.rate_down),
        (0, None, None),
        "no limits where there is none in the file"
    );
    let many: Vec<_> = (0..17).map(|i| format!("\"10.{i}.0.0/16\"")).collect();
    let broken = GOOD.replacen("gateway4", &format!("allow = [{}]\ngateway4", many.join(", ")), 1);
    assert!(message(&broken).contains("`net0` of brane `main` has 17 prefixes, the driver accepts 16"));
}

#[test]
fn log_levels_reach_the_manager() {
    let text = format!("{GOOD}\n[log]\nbrane-1 = \"debug\"\nnic0 = \"info\"\n");
    let config = parse(Path::new("b.toml"), &text, size(3)).unwrap();
    let levels: Vec<_> = config.log.iter().map(|l| (l.pd.as_str(), l.level)).collect();
    assert_eq!(levels, [("brane-1", Level::Debug)]);
    let refused = message(&format!("{GOOD}\n[log]\nnic0 = \"loud\"\n"));
    assert!(
        refused.contains("log: `loud` is no level: write one of off, error, warn, info, debug"),
        "{refused}"
    );
}

#[test]
fn counts_are_bounded_by_the_system() {
    let many: String = ["[[brane]]\nname = \"a\"\nprimary = true\n".to_string()]
        .into_iter()
        .chain((1..4).map(|i| format!("[[brane]]\nname = \"b{i}\"\n")))
        .collect();
    assert!(message(&many).contains("b.toml:8:1: 4 branes, but the system has 3: drop some, or raise"));
    let third = GOOD.replace(
        "[[brane]]\nname = \"red\"",
        "[[brane.interface]]\nname = \"net2\"\ndevice = \"vnic9\"\nport = 1\n[[brane]]\nname = \"red\"",
    );
    assert!(message(&third).contains("brane `main` has 3 interfaces besides lo0"));
    assert!(message("").contains("there is no brane: add a [[brane]]"));
}

#[test]
fn all_problems_are_said_at_once_in_order() {
    let broken = GOOD.replace("\"red\"", "\"R\"").replace("10.0.2.2\"", "x\"");
    let message = message(&broken);
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert!(
        lines[0].starts_with("b.toml:9:") && lines[1].starts_with("b.toml:14:"),
        "{message}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = compile(&dir.path().join("none.toml"), size(3))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none.toml") && error.contains("configs.toml"),
        "{error}"
    );
}

#[test]
fn damage_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.toml");
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = GOOD.find("main").unwrap();
    bytes[at] = 0xff;
    std::fs::write(&path, bytes).unwrap();
    let error = compile(&path, size(3)).unwrap_err().to_string();
    assert!(
        error.contains("damaged.toml:3:9: byte 0xff is no UTF-8 text"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(at in 0usize..GOOD.len(), cut in 0usize..40, put in "[a-z0-9\\[\\]=\":./\n é-]{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let _ = message(&format!("{}{put}{}", &GOOD[..at], &GOOD[end..]));
    }
}

const DEVICES: &str = r#"[[device]]
name = "office"
kind = "vlan"
nic = "nic1"
tag = 12
mac = "02:77:00:00:05:00"
rate-up = 5
[[device]]
name = "pa"
kind = "pair"
peer = "pb"
[[device]]
name = "pb"
kind = "pair"
peer = "pa"
"#;

#[test]
fn devices_families_and_held_branes_are_understood() {
    let text = GOOD.replace("\"vnic1\"", "\"office\"").replace(
        "name = \"red\"",
        "name = \"red\"\nstarted = false\nfamilies = { inet = [\"icmp\", \"udp\"], inet6 = [] }",
    ) + DEVICES;
    let config = parse(Path::new("b.toml"), &text, size(3)).unwrap_or_else(|e| panic!("{e}"));
    config.check(3, PORTS_PER_BRANE).unwrap();
    let net1 = &config.branes[0].interfaces[1];
    assert_eq!(
        (net1.device.as_str(), net1.port, net1.mac),
        ("office", 2, MacAddr([2, 0x77, 0, 0, 5, 0]))
    );
    let office = config.device("office").unwrap();
    assert_eq!(
        (&office.kind, office.nic, office.rate_up),
        (&Kind::Vlan(12), 1, Some(5))
    );
    assert_eq!(config.device("pb").unwrap().kind, Kind::Pair("pa".into()));
    let red = &config.branes[1];
    assert!(red.held && !config.branes[0].held);
    let families = red.families.as_ref().unwrap();
    assert_eq!(families[0].protocols, [Protocol::Icmp, Protocol::Udp]);
    assert!(families[1].family == Family::Inet6 && families[1].protocols.is_empty());
    assert_eq!(config.branes[0].families, None);
}

#[test]
fn every_rule_of_devices_names_place_key_and_remedy() {
    let good = GOOD.replace("\"vnic1\"", "\"office\"") + DEVICES;
    assert_eq!(message(&good), "accepted");
    for (from, to, expected) in [
        (
            "tag = 12",
            "tag = 4095",
            "device.tag: the vlan `office` needs one from 1 to 4094: write `tag = 12`",
        ),
        (
            "tag = 12\n",
            "",
            "device.tag: the vlan `office` needs one from 1 to 4094",
        ),
        (
            "\"nic1\"",
            "\"nic7\"",
            "device.nic: `nic7` is not a NIC: use nic0 to nic1",
        ),
        (
            "\"vlan\"",
            "\"vnic\"",
            "device.tag: only a vlan has one: drop it, or write `kind = \"vlan\"`",
        ),
        ("\"vlan\"", "\"lo\"", "unknown variant `lo`, expected one of"),
        (
            "peer = \"pb\"\n",
            "",
            "device.peer: the pair `pa` needs the name of its other end",
        ),
        (
            "peer = \"pb\"",
            "peer = \"px\"",
            "device.peer: the other end `px` of `pa` does not name it as its peer: write a [[device]] `px`",
        ),
        (
            "name = \"pb\"",
            "name = \"pa\"",
            "device.name: `pa` is taken by a device: choose another one",
        ),
        (
            "name = \"pa\"\nkind = \"pair\"\npeer = \"pb\"",
            "name = \"pa\"\nkind = \"phys\"",
            "device.name: `pa` is not the NIC's own name: the physical device of nic0 is `nic0`",
        ),
        (
            "\"vnic0\"",
            "\"vnic0\"\nmac = \"02:77:00:00:05:00\"",
            "brane.interface.mac: `02:77:00:00:05:00` is taken by device `office`",
        ),
        (
            "\"office\"\n",
            "\"office\"\nmode = \"private\"\n",
            "brane.interface.mode: `office` has a [[device]] of its own: write `mode` there",
        ),
        (
            "\"office\"\n",
            "\"office\"\nport = 0\n",
            "brane.interface.port: a brane has no port 0 at nic1: use 2 to 3",
        ),
        (
            "name = \"red\"",
            "name = \"red\"\nfamilies = {}",
            "brane.families: brane `red` would have none",
        ),
        (
            "name = \"red\"",
            "name = \"red\"\nfamilies = { inet = [\"icmp6\"] }",
            "brane.families.inet: `icmp6` is not one of its protocols: use icmp, udp, tcp",
        ),
        (
            "name = \"red\"",
            "name = \"red\"\nfamilies = { inet = [\"udp\", \"udp\"] }",
            "brane.families.inet: `udp` is there twice: drop one",
        ),
    ] {
        let broken = good.replacen(from, to, 1);
        assert_ne!(broken, good, "{from}");
        let message = message(&broken);
        assert!(
            message.contains(expected),
            "{from} -> {to}\n  expected: {expected}\n  message:  {message}"
        );
    }
}
