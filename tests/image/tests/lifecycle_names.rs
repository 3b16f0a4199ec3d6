//! Names: each brane sees its own interfaces only. A foreign name behaves like a name that does not exist. No
//! name or MAC address is used twice.

use anyhow::{Result, ensure};
use brane_abi::operator::Request;
use image_tests::guest::{Guest, Net, PROMPT};
use image_tests::lifecycle::{Operator, PATIENCE, Said, boot, run, vnic, well};
use std::collections::BTreeSet;

const CONFIG: &str = "two-nics";
/// A name that nothing has.
const NONSENSE: &str = "xyzzy0";

/// Boots branes with interfaces whose names are unique, a renamed device, a pair, and a device without a
/// brane.
fn named() -> Result<(Guest, Vec<String>)> {
    let guest = boot(CONFIG, Net::User, None)?;
    let mut operator = Operator::when_started(&guest)?;
    for (brane, name) in [("main", "uplink"), ("blue", "azure")] {
        operator.done(&Request::RenameInterface {
            brane: brane.to_owned(),
            from: "net0".to_owned(),
            to: name.to_owned(),
        })?;
    }
    operator.create("green", true)?;
    operator.device(vnic("g0"))?;
    operator.device(vnic("idle0"))?;
    operator.done(&Request::Assign {
        device: "g0".to_owned(),
        brane: "green".to_owned(),
        interface: Some("lan.3".to_owned()),
        addressing: None,
    })?;
    operator.clean()?;
    // Names that red does not have: all devices, its own included, and interfaces of other branes.
    let mut foreign: BTreeSet<String> = operator.devices()?.into_iter().map(|d| d.config.name).collect();
    for brane in operator.list(false)? {
        if brane.name != "red" {
            foreign.insert(brane.name.clone());
            foreign.extend(brane.interfaces.into_iter().map(|i| i.name));
        }
    }
    for name in ["net0", "lo0"] {
        foreign.remove(name);
    }
    foreign.extend(["nic0", "nic1", "lo.red", "lo.main", "lo1"].map(str::to_owned));
    ensure!(foreign.len() >= 14, "{foreign:?}");
    Ok((guest, foreign.into_iter().collect()))
}

#[test]
fn ifconfig_a_shows_its_own_branes_interfaces_only() -> Result<()> {
    let (guest, _) = named()?;
    let own = [
        ("main", &["lo0", "uplink", "net1"][..], "02:77:00:00:00:00"),
        ("red", &["lo0", "net0"], "02:77:00:00:00:01"),
        ("blue", &["lo0", "azure"], "02:77:00:00:00:02"),
        ("green", &["lo0", "lan.3"], ""),
    ];
    for (brane, names, mac) in own {
        let shown = well(&guest, &["branectl", "in", brane, "ifconfig", "-a"])?;
        let found: Vec<&str> = shown
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split([':', ' ']).next())
            .filter(|name| !name.is_empty())
            .collect();
        ensure!(found == names, "{brane} shows {found:?}, not {names:?}:\n{shown}");
        ensure!(shown.contains(mac), "{brane}: no {mac}");
        for (other, _, foreign) in own {
            ensure!(
                other == brane || foreign.is_empty() || !shown.contains(foreign),
                "{brane} shows {foreign} of {other}:\n{shown}"
            );
        }
        for table in [
            &["netstat", "-i"][..],
            &["route"],
            &["netstat", "-r"],
            &["ifconfig"],
        ] {
            let mut words = vec!["branectl", "in", brane];
            words.extend(table);
            let shown = well(&guest, &words)?;
            for (other, names, _) in own {
                for name in names.iter().filter(|name| **name != "lo0" && other != brane) {
                    let whole = |word: &str| word == *name;
                    ensure!(
                        !shown.split([' ', ':', '\n', '\t']).any(whole),
                        "{words:?} shows {name} of {other}:\n{shown}"
                    );
                }
            }
        }
    }
    guest.untroubled()
}

/// Removes the name itself from a text, so that answers can be compared.
fn without(text: &str, name: &str) -> String {
    text.replace(&format!("\"{name}\""), "NAME")
        .replace(&format!(" {name} "), " NAME ")
        .replace(&format!("/{name}"), "/NAME")
        .replace(&format!(" {name}\n"), " NAME\n")
        .replace(&format!(" {name}\""), " NAME\"")
        .replace(&format!("\\\"{name}\\\""), "NAME")
}

#[test]
fn every_foreign_name_gives_the_same_error_as_one_that_does_not_exist() -> Result<()> {
    let (guest, foreign) = named()?;
    // Each command, with `?` for the name.
    let commands = [
        "branectl in red ifconfig ?",
        "branectl in red ifconfig ? -j",
        "branectl in red ifconfig ? inet 10.9.9.9/24",
        "branectl in red ifconfig ? inet 10.9.9.9/24 alias",
        "branectl in red ifconfig ? dhcp",
        "branectl in red route add default 10.0.2.2 -i ?",
        "branectl address red/? 10.9.9.9/24",
        "branectl rename red/? other0",
        "branectl remove red/?",
    ];
    let ask = |command: &str, name: &str| -> Result<Said> {
        let line = command.replace('?', name);
        let words: Vec<&str> = line.split(' ').collect();
        let said = run(&guest, &words)?;
        Ok(Said {
            status: said.status,
            out: without(&said.out, name),
            err: without(&said.err, name),
        })
    };
    let before = well(&guest, &["branectl", "save"])?;
    for command in commands {
        let nonsense = ask(command, NONSENSE)?;
        ensure!(nonsense.status != 0, "{command}: {nonsense:?}");
        ensure!(nonsense.err.contains("NAME"), "{command}: {nonsense:?}");
        for name in &foreign {
            let said = ask(command, name)?;
            ensure!(
                said == nonsense,
                "{command} with {name}:\n{said:?}, not\n{nonsense:?}"
            );
        }
    }
    ensure!(
        before == well(&guest, &["branectl", "save"])?,
        "something was changed"
    );
    well(&guest, &["branectl", "audit"])?;
    guest.untroubled()
}

#[test]
fn the_console_tells_no_more_of_them() -> Result<()> {
    let (mut guest, foreign) = named()?;
    let mut answers = Vec::new();
    for line in ["in red ifconfig ?", "in red ifconfig ? inet 10.9.9.9/24"] {
        let ask = |guest: &mut Guest, name: &str| -> Result<String> {
            let line = line.replace('?', name);
            let shown = guest.command(&line)?;
            let last = shown.lines().last().unwrap_or_default();
            Ok(without(&format!("{last}\n"), name))
        };
        let nonsense = ask(&mut guest, NONSENSE)?;
        ensure!(nonsense.contains("NAME"), "{nonsense}");
        for name in &foreign {
            let said = ask(&mut guest, name)?;
            ensure!(said == nonsense, "{line} with {name}: {said}, not {nonsense}");
        }
        answers.push(nonsense);
    }
    // The same commands from inside the brane.
    guest.type_line("enter red")?;
    guest.wait_for("red", PATIENCE)?;
    for name in [&foreign[0], &foreign[5]] {
        guest.type_line(&format!("ifconfig {name}"))?;
        guest.wait_for(answers[0].split("NAME").next().unwrap_or("?"), PATIENCE)?;
    }
    guest.type_line("exit")?;
    guest.wait_for(PROMPT, PATIENCE)?;
    guest.untroubled()
}

#[test]
fn no_name_and_no_mac_address_is_given_twice() -> Result<()> {
    let (guest, _) = named()?;
    let long = "a".repeat(34);
    let right = "a".repeat(31);
    for (words, error) in [
        (
            &["nicctl", "create", "vnic", "vnic1"][..],
            "the name \"vnic1\" is taken by a device: choose another one, or delete that device first",
        ),
        (
            &["nicctl", "create", "vnic", "vnic9", "--mac", "02:77:00:00:00:01"],
            "the MAC address 02:77:00:00:00:01 is that of \"vnic1\": choose another one, or leave it out for one from the pool",
        ),
        (
            &["nicctl", "rename", "idle0", "vnic1"],
            "the name \"vnic1\" is taken by a device: choose another one, or delete that device first",
        ),
        (
            &["nicctl", "create", "vnic", "lo0"],
            "\"lo0\" is kept for the lo0 of a brane: choose a name other than `lo`, `loN` and `lo.N`",
        ),
        (
            &["nicctl", "rename", "lo.0", "loop"],
            "\"lo.0\" is the loopback device of brane \"main\": loopback devices cannot be changed; other devices can",
        ),
        (
            &["nicctl", "delete", "lo.1"],
            "\"lo.1\" is the loopback device of brane \"red\": loopback devices cannot be changed; other devices can",
        ),
        (
            &["branectl", "create", "red"],
            "the name \"red\" is taken by a brane: choose another one",
        ),
        (
            &["branectl", "rename", "blue", "red"],
            "the name \"red\" is taken by a brane: choose another one",
        ),
        (
            &["branectl", "rename", "main/net1", "uplink"],
            "brane \"main\" has an interface \"uplink\" already: choose another name",
        ),
        (
            &["branectl", "rename", "red/net0", "lo0"],
            "brane \"red\" has an interface \"lo0\" already: choose another name",
        ),
        (
            &["branectl", "assign", "idle0", "red", "--as", "net0"],
            "brane \"red\" has an interface \"net0\" already: choose another name",
        ),
        (
            &["branectl", "create", &long],
            "name too long: 34 bytes, 31 allowed",
        ),
        (
            &["nicctl", "create", "vnic", &long],
            "name too long: 34 bytes, 31 allowed",
        ),
        (
            &["nicctl", "create", "pair", "p0", "p0"],
            "both ends of the pair are \"p0\": name the other end differently",
        ),
    ] {
        let said = run(&guest, words)?;
        ensure!(
            said.status != 0 && said.out.is_empty() && said.err == format!("{error}\n"),
            "{words:?}: {said:?}, not {error}"
        );
    }
    // Names of maximum length, and one name in two branes and of two kinds.
    well(&guest, &["branectl", "create", &right])?;
    well(&guest, &["nicctl", "create", "vnic", &right])?;
    well(&guest, &["branectl", "assign", &right, &right, "--as", &right])?;
    well(
        &guest,
        &["branectl", "rename", &format!("{right}/{right}"), "net0"],
    )?;
    well(&guest, &["branectl", "audit"])?;
    guest.untroubled()
}

#[test]
fn a_device_is_renamed_while_its_brane_has_it() -> Result<()> {
    let (guest, _) = named()?;
    let show = |device: &str| well(&guest, &["nicctl", "show", device]);
    ensure!(show("lo.1")?.contains("red"), "{}", show("lo.1")?);
    let before = show("vnic1")?;
    well(&guest, &["nicctl", "rename", "vnic1", "red-link"])?;
    let after = show("red-link")?;
    ensure!(after == before.replace("vnic1", "red-link"), "{before}\n{after}");
    // The brane itself uses the new name too, as the audit shows.
    let inside = well(&guest, &["branectl", "show", "red"])?;
    ensure!(
        inside.contains("red-link") && !inside.contains("vnic1"),
        "{inside}"
    );
    well(&guest, &["branectl", "audit"])?;
    // Neither the interface nor the brane was restarted.
    let events = well(&guest, &["branectl", "events", "--once"])?;
    ensure!(!events.contains("restarted"), "{events}");
    well(&guest, &["nicctl", "rename", "red-link", "vnic1"])?;
    ensure!(show("vnic1")? == before, "{before}");
    guest.untroubled()
}
