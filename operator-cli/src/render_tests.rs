//! Tests of the answers' text, and of their JSON against the schemas.

use crate::samples;
use crate::schema::{SCHEMAS, schema};
use crate::{json, table_layout, text};
use boon::{Compiler, Schemas};
use brane_abi::operator::{Answer, Brane};
use serde_json::Value;

fn valid(name: &str, value: &Value) -> Result<(), String> {
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    let url = format!("file:///{name}.json");
    let text: Value =
        serde_json::from_str(schema(name).ok_or("no such schema")?).map_err(|e| e.to_string())?;
    compiler.add_resource(&url, text).map_err(|e| e.to_string())?;
    let index = compiler
        .compile(&url, &mut schemas)
        .map_err(|e| format!("{e:#}"))?;
    // Converts to text and back, because a reader receives text.
    let value: Value = serde_json::from_str(&value.to_string()).map_err(|e| e.to_string())?;
    schemas.validate(&value, index).map_err(|e| format!("{e:#}"))
}

#[test]
fn every_answer_is_as_its_schema_says() {
    let mut seen = Vec::new();
    for (name, answer) in samples::answers() {
        let value = json::answer(&answer);
        valid(name, &value).unwrap_or_else(|e| panic!("{name}: {e}\n{value}"));
        seen.push(name);
    }
    for device in samples::devices() {
        valid("device", &json::device(&device)).unwrap();
    }
    valid("event", &json::event(&samples::event(1))).unwrap();
    valid("log-line", &json::log_line(&samples::log_line(1))).unwrap();
    let mut outcome = crate::ping::Outcome::new(None);
    outcome.sent = 2;
    valid("ping", &outcome.json()).unwrap();
    outcome.to = Some([10, 0, 2, 2].into());
    outcome.reply(0, [10, 0, 2, 2].into(), 56, 64, 123);
    valid("ping", &outcome.json()).unwrap();
    for found in samples::explanations() {
        valid("why", &found.json()).unwrap_or_else(|e| panic!("{e}\n{}", found.json()));
    }
    let mut matrix = samples::matrix();
    valid("reach", &matrix.json()).unwrap();
    matrix.pairs[0].tried = Some(false);
    valid("reach", &matrix.json()).unwrap();
    for time in [None, Some("12:00:00.000001")] {
        let frame = crate::capture::Frame {
            at_ns: 1_500_000_250,
            time,
            brane: "red",
            interface: "net0",
            link: brane_abi::capture::Link::Ethernet,
            sent: true,
            length: 60,
            bytes: &[0x02, 0xff],
        };
        valid("capture", &frame.json()).unwrap_or_else(|e| panic!("{e}\n{}", frame.json()));
    }
    seen.extend(["capture", "device", "event", "log-line", "ping", "why", "reach"]);
    for (name, text) in SCHEMAS {
        // The host's own answers are checked in `tools/branectl`.
        assert!(
            seen.contains(name) || ["apply", "save"].contains(name),
            "{name} is never seen"
        );
        let wrong = serde_json::json!({"something": "else"});
        assert!(valid(name, &wrong).is_err(), "{name} takes anything");
        assert!(text.ends_with("}\n"));
    }
}

#[test]
fn every_answer_has_a_text_in_whole_lines() {
    for (name, answer) in samples::answers() {
        let text = text::answer(&answer);
        assert!(
            text.ends_with('\n') && text == table_layout::printable(&text),
            "{name}: {text:?}"
        );
        assert!(text.lines().all(|l| l == l.trim_end()), "{name}:\n{text}");
    }
}

#[test]
fn list_has_a_line_for_each_interface() {
    let blue = Brane {
        name: "blue".into(),
        state: "restarting".into(),
        primary: true,
        ..Brane::default()
    };
    assert_eq!(
        text::answer(&Answer::Branes(vec![samples::brane(), blue])),
        "BRANE           STATE       RESTARTS  INTERFACE  MAC                ADDRESSES\n\
         red             started     2         net0       02:77:00:00:00:01  10.0.2.16/24, fec0::16/64, 10.0.9.51/24\n\
         blue (primary)  restarting  0         -          -                  -\n"
    );
}

#[test]
fn show_says_all_of_a_brane() {
    assert_eq!(
        text::answer(&Answer::Brane(samples::brane())),
        "brane red\n  number        1\n  state         started\n  families      inet (icmp, udp, tcp), inet6 (icmp6, udp, \
         tcp)\n  restarts      2\n  last fault    invalid instruction (panic) at 0x201000\n  recovered in  4.100 ms\n  \
         reported      12 ms ago\ninterface lo0 is up\n  mtu      65535\n  address  127.0.0.1/8 (link)\ninterface net0 is \
         up\n  device    vnic1\n  mac       02:77:00:00:00:01\n  mtu       1500\n  address   10.0.2.16/24 (static)\n  address   \
         fec0::16/64 (slaac)\n  address   10.0.9.51/24 (dhcp)\n  gateway4  10.0.2.2\n  gateway6  fe80::2\ndevice vnic1\n  \
         tx_frames  10\ncounters that are not listed are 0\n"
    );
}

#[test]
fn stats_leaves_zeros_out_unless_they_are_wanted() {
    let groups = [samples::group("nic0")];
    assert_eq!(
        text::stats(&groups, false),
        "nic0\n  tx_frames  10\ncounters that are not listed are 0\n"
    );
    assert_eq!(
        text::stats(&groups, true),
        "nic0\n  tx_frames   10\n  tx_spoofed  0\n"
    );
}

#[test]
fn rules_are_a_table_in_the_words_that_add_accepts() {
    let rules = vec![
        samples::rule("drop in proto tcp to port 22", 17),
        samples::rule("pass", 0),
    ];
    let answer = |rules| Answer::Query(brane_abi::query::Answer::Filter(rules, false));
    assert_eq!(
        text::answer(&answer(rules)),
        "NUMBER  PACKETS  BYTES  RULE\n\
         1       17       1020   drop in proto tcp to any port 22\n\
         2       0        0      pass\n"
    );
    assert_eq!(text::answer(&answer(vec![])), "no rules: every packet passes\n");
}

#[test]
fn devices_and_receipts_are_tables() {
    assert_eq!(
        text::answer(&Answer::Devices(samples::devices())),
        "DEVICE   KIND          NIC   MAC                MODE     STATE       OWNER\n\
         nic0     phys          nic0  -                  bridge   unattached  -\n\
         office0  vlan 12       nic0  -                  bridge   unattached  -\n\
         pa       pair with pb  -     -                  bridge   unattached  -\n\
         vnic1    vnic          nic0  02:77:00:00:00:01  private  attached    red/net0\n"
    );
    assert_eq!(
        text::device(&samples::devices()[3]),
        "device vnic1\n  kind       vnic\n  nic        nic0\n  mac        02:77:00:00:00:01\n  state      attached\n  owner      red/net0\n  mode       \
         private\n  allowed    10.0.2.16/32\n  rate up    10M bytes per second\n  rate down  no limit\n"
    );
    let receipt = samples::answers()
        .into_iter()
        .find(|(n, _)| *n == "receipt")
        .unwrap()
        .1;
    let shown = text::answer(&receipt);
    assert!(
        shown.starts_with("red is deleted: it took 1.999 ms, 3 connections were aborted; released vnic1\n"),
        "{shown}"
    );
    assert!(shown.contains("\n  free slots            0       1\n"), "{shown}");
}

#[test]
fn ifconfig_and_route_look_as_people_know_them() {
    let all: Vec<_> = samples::answers();
    let shown = |name: &str| text::answer(&all.iter().find(|(n, _)| *n == name).unwrap().1);
    assert_eq!(
        shown("interfaces"),
        "lo0: UP mtu 65535\n\tinet 127.0.0.1/8 (link)\nnet0: UP mtu 1500\n\tether 02:77:00:00:00:01\n\tinet 10.0.2.16/24 \
         (static)\n\tinet6 fec0::16/64 (slaac)\n\tinet 10.0.9.51/24 (dhcp)\n"
    );
    assert_eq!(
        shown("routes"),
        "DESTINATION  GATEWAY   INTERFACE\n10.0.2.0/24  link      net0\ndefault      10.0.2.2  net0\n"
    );
    assert_eq!(shown("protocols"), "inet tcp (started)\n  segments received  5\n");
}

#[test]
fn a_report_is_shown_in_columns_and_as_named_values() {
    let all = samples::answers();
    let report = &all.iter().find(|(name, _)| *name == "report").unwrap().1;
    assert_eq!(
        text::answer(report),
        "up  1 min 2 s\nBRANE  RESTARTS  STARTED  RESTARTED\nred    2         1.250 s  -\n"
    );
    let value = json::answer(report);
    assert_eq!(value["facts"]["up_us"], 62_000_000);
    assert_eq!(value["rows"][0]["started_us"], 1_250_000);
    assert_eq!(value["rows"][0]["restarted_us"], Value::Null);
}
