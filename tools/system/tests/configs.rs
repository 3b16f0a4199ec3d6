//! Expansion of described systems: the results and the refusals.

use branes_system::System;
use branes_system::configs::{Config, ConfigError, Entry, entries};
use std::path::{Path, PathBuf};

/// Three instances of a server under one parent, with a number in every place that can have one.
const SMALL: &str = r#"<system>
    <memory_region name="data-0" size="0x1000" phys_addr="0x8000000" />
    <memory_region name="data-1" size="0x2000" phys_addr="0x8010000" />
    <memory_region name="data-2" size="0x3000" phys_addr="0x8020000" />
    <memory_region name="log-0" size="0x1000" />
    <memory_region name="log-1" size="0x1000" />
    <memory_region name="log-2" size="0x1000" />
    <protection_domain name="parent" priority="100">
        <program_image path="parent.elf" />
        <map mr="log-0" vaddr="0x1000000" />
        <map mr="log-1" vaddr="0x1001000" />
        <map mr="log-2" vaddr="0x1002000" />
        <protection_domain name="child-0" id="9" priority="10">
            <program_image path="child.elf" path_for_symbols="child.sym" />
            <map mr="data-0" vaddr="0x2000000" perms="rw" />
            <map mr="log-0" vaddr="0x3000000" />
        </protection_domain>
        <protection_domain name="child-1" id="10" priority="10">
            <program_image path="child.elf" path_for_symbols="child.sym" />
            <map mr="data-1" vaddr="0x2000000" perms="rw" />
            <map mr="log-1" vaddr="0x3000000" />
        </protection_domain>
        <protection_domain name="child-2" id="11" priority="10">
            <program_image path="child.elf" path_for_symbols="child.sym" />
            <map mr="data-2" vaddr="0x2000000" perms="rw" />
            <map mr="log-2" vaddr="0x3000000" />
        </protection_domain>
    </protection_domain>
    <channel>
        <end pd="child-0" id="0" />
        <end pd="parent" id="30" />
    </channel>
    <channel>
        <end pd="child-1" id="0" />
        <end pd="parent" id="28" />
    </channel>
    <channel>
        <end pd="child-2" id="0" />
        <end pd="parent" id="26" />
    </channel>
</system>
"#;

fn entry(instances: usize) -> Entry {
    Entry {
        about: "a test".to_owned(),
        instances,
        boot: PathBuf::from("boot.toml"),
        ..Entry::default()
    }
}

fn resolve(text: &str, entry: Entry) -> Result<Config, ConfigError> {
    Config::resolve(Path::new("root"), "test", entry, Path::new("small.xml"), text)
}

/// Returns the message for `SMALL` with `from` replaced by `to`, expanded to six instances.
fn refusal(from: &str, to: &str) -> String {
    assert_eq!(SMALL.matches(from).count(), 1, "{from}");
    let error = resolve(&SMALL.replacen(from, to, 1), entry(6)).expect_err("refused");
    error.to_string()
}

#[test]
fn all_numbers_continue() {
    let config = resolve(SMALL, entry(6)).unwrap_or_else(|e| panic!("{e}"));
    let system = &config.system;
    assert_eq!(config.boot, Path::new("root/boot.toml"));
    assert_eq!(system.protection_domains.len(), 7);
    let data = system.region("data-5").expect("data-5");
    assert_eq!((data.size, data.phys_addr), (Some(0x6000), Some(0x8050000)));
    let child = system.pd("child-5").expect("child-5");
    assert_eq!(
        (child.child_id, child.parent.as_deref()),
        (Some(14), Some("parent"))
    );
    assert_eq!(child.program_for_symbols.as_deref(), Some("child.sym"));
    let maps: Vec<_> = child.maps.iter().map(|m| (m.mr.as_str(), m.vaddr)).collect();
    assert_eq!(maps, [("data-5", 0x2000000), ("log-5", 0x3000000)]);
    let ends: Vec<_> = system
        .ends("parent")
        .map(|(own, peer)| (own.id, peer.pd.as_str()))
        .collect();
    assert_eq!(ends[..2], [(30, "child-0"), (28, "child-1")]);
    assert_eq!(ends[5], (20, "child-5"));
    let parent: Vec<_> = system
        .pd("parent")
        .expect("parent")
        .maps
        .iter()
        .map(|m| m.vaddr)
        .collect();
    assert_eq!(
        parent,
        [0x1000000, 0x1001000, 0x1002000, 0x1003000, 0x1004000, 0x1005000]
    );
}

#[test]
fn three_instances_are_the_file_itself_and_fewer_leave_some_out() {
    assert_eq!(
        resolve(SMALL, entry(3)).map(|c| c.xml).ok().as_deref(),
        Some(SMALL)
    );
    let one = resolve(SMALL, entry(1)).unwrap_or_else(|e| panic!("{e}")).system;
    let names: Vec<_> = one.protection_domains.iter().map(|pd| pd.name.as_str()).collect();
    assert_eq!(names, ["parent", "child-0"]);
    assert_eq!((one.memory_regions.len(), one.channels.len()), (2, 1));
}

#[test]
fn a_replaced_program_loses_the_symbols_of_the_other() {
    let mut entry = entry(4);
    entry
        .replace
        .insert("child-3".to_owned(), "hostile.elf".to_owned());
    let system = resolve(SMALL, entry.clone())
        .unwrap_or_else(|e| panic!("{e}"))
        .system;
    let child = system.pd("child-3").expect("child-3");
    assert_eq!(
        (child.program.as_str(), &child.program_for_symbols),
        ("hostile.elf", &None)
    );
    assert_eq!(
        system.pd("child-2").map(|pd| pd.program.as_str()),
        Some("child.elf")
    );

    entry
        .replace
        .insert("child-4".to_owned(), "hostile.elf".to_owned());
    let error = resolve(SMALL, entry).expect_err("no such domain").to_string();
    assert!(
        error.contains("`child-4`, which does not exist; there are: parent, child-0"),
        "{error}"
    );
}

#[test]
fn a_placed_region_is_where_the_entry_says() {
    let mut entry = entry(4);
    entry.place.insert("log-3".to_owned(), 0x1234_5000);
    entry.place.insert("data-2".to_owned(), 0x0900_0000);
    // A region at a fixed address has one owner, but here `log-3` has two.
    let error = resolve(SMALL, entry.clone()).expect_err("shared").to_string();
    assert!(
        error.contains("both map `log-3`, which is fixed at physical address 0x12345000"),
        "{error}"
    );
    entry.place.remove("log-3");
    let system = resolve(SMALL, entry.clone())
        .unwrap_or_else(|e| panic!("{e}"))
        .system;
    let place = |name| system.region(name).and_then(|region| region.phys_addr);
    assert_eq!((place("data-2"), place("log-3")), (Some(0x0900_0000), None));
    assert_eq!(place("data-3"), Some(0x0803_0000));

    entry.place.insert("data-4".to_owned(), 0x1000);
    let error = resolve(SMALL, entry).expect_err("no such region").to_string();
    assert!(
        error.contains("`data-4`, which does not exist; there are: data-0"),
        "{error}"
    );
}

#[test]
fn io_address_spaces_are_for_machines_with_an_iommu() {
    let space = "    <io_address_space name=\"device\" peripheral_id=\"00:03.0\" domain_id=\"1\">\n        \
                 <iomap mr=\"data-0\" iovaddr=\"0x8000000\" />\n    </io_address_space>\n</system>";
    let text = SMALL.replacen("</system>", space, 1);
    for instances in [1, 3, 5] {
        for iommu in [false, true] {
            let entry = Entry {
                iommu,
                ..entry(instances)
            };
            let config = resolve(&text, entry).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(config.system.io_address_spaces.len(), usize::from(iommu));
            assert_eq!(config.system.protection_domains.len(), 1 + instances);
            assert_eq!(config.xml == text, iommu && instances == 3);
        }
    }
}

#[test]
fn instances_that_differ_in_shape_are_refused_by_name() {
    let cases = [
        // A mapping that only one instance has.
        (
            "            <map mr=\"log-1\" vaddr=\"0x3000000\" />\n",
            "",
            "small.xml:25:13: error: instance 2 has <map mr=\"log-2\"> where instance 1 has nothing; \
             help: describe instances 1 and 2 alike, in the same order",
        ),
        (
            "            <map mr=\"log-2\" vaddr=\"0x3000000\" />\n",
            "",
            "small.xml:21:13: error: instance 1 has <map mr=\"log-1\">, instance 2 has not; \
             help: describe instances 1 and 2 alike, in the same order",
        ),
        // An attribute that only one instance has.
        (
            "mr=\"data-1\" vaddr=\"0x2000000\" perms=\"rw\"",
            "mr=\"data-1\" vaddr=\"0x2000000\"",
            "small.xml:25:13: error: <map mr=\"data-2\"> of instance 2 has `perms`, that of instance 1 has not; \
             help: write it in both or in neither",
        ),
        (
            "mr=\"data-2\" vaddr=\"0x2000000\" perms=\"rw\"",
            "mr=\"data-2\" vaddr=\"0x2000000\"",
            "small.xml:20:13: error: <map mr=\"data-1\"> of instance 1 has `perms`, that of instance 2 has not; \
             help: write it in both or in neither",
        ),
        // Words that differ.
        (
            "mr=\"data-2\" vaddr=\"0x2000000\" perms=\"rw\"",
            "mr=\"data-2\" vaddr=\"0x2000000\" perms=\"r\"",
            "small.xml:25:13: error: `perms` of <map mr=\"data-2\"> is \"rw\" for instance 1, \"r\" for 2: there is none for 3; \
             help: write equal values, or numbers with an even spacing and room for more",
        ),
        // A number that overflows.
        (
            "<end pd=\"parent\" id=\"26\" />",
            "<end pd=\"parent\" id=\"11\" />",
            "small.xml:39:9: error: `id` of <end pd=\"parent\"> is \"28\" for instance 1, \"11\" for 2: there is none for 3; \
             help: write equal values, or numbers with an even spacing and room for more",
        ),
        // An element that only one instance has.
        (
            "    <memory_region name=\"log-0\"",
            "    <memory_region name=\"spare-0\" size=\"0x1000\" />\n    <memory_region name=\"log-0\"",
            "small.xml:5:5: error: the family `spare` has instances 0; \
             help: describe instances 0, 1 and 2: all others follow from them",
        ),
        (
            "        <map mr=\"log-2\" vaddr=\"0x1002000\" />\n",
            "",
            "small.xml:11:9: error: instance 2 has no counterpart of this <map mr=\"log-1\">; \
             help: describe instances 1 and 2 alike",
        ),
    ];
    for (from, to, expected) in cases {
        let found = refusal(from, to);
        assert_eq!(found, expected);
    }
}

#[test]
fn a_channel_between_two_instances_has_no_continuation() {
    let more = "    <channel>\n        <end pd=\"child-0\" id=\"5\" />\n        <end pd=\"child-1\" id=\"5\" />\n    </channel>\n</system>";
    let error = refusal("</system>", more);
    assert!(
        error.starts_with("small.xml:41:5: error: a channel joins instances 0 and 1;"),
        "{error}"
    );
}

#[test]
fn what_breaks_a_rule_only_when_continued_is_refused_with_the_configuration() {
    // A plain region at the address of log-4.
    let text = SMALL
        .replacen("<system>", "<system>\n    <memory_region name=\"tty\" size=\"0x1000\" />", 1)
        .replacen(
            "        <map mr=\"log-0\" vaddr=\"0x1000000\" />",
            "        <map mr=\"tty\" vaddr=\"0x1004000\" />\n        <map mr=\"log-0\" vaddr=\"0x1000000\" />",
            1,
        );
    assert!(resolve(&text, entry(4)).is_ok());
    let error = resolve(&text, entry(5)).expect_err("in the way").to_string();
    assert!(error.starts_with("small.xml as continued for `test`:"), "{error}");
    assert!(
        error.contains("error: `parent` maps `log-4` over `tty`; help: move one of them"),
        "{error}"
    );
}

#[test]
fn instances_have_limits() {
    for instances in [0, 64, usize::MAX] {
        let error = resolve(SMALL, entry(instances)).expect_err("a limit").to_string();
        assert!(error.contains("1 to 63 are allowed"), "{error}");
    }
}

#[test]
fn wrong_tables_are_refused_by_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = entries(folder.path()).expect_err("no file").to_string();
    assert!(missing.contains("configs.toml"), "{missing}");
    let wrong = "[default]\nabout = \"x\"\ninstances = 3\nboot = \"b.toml\"\nreplaces = {}\n";
    std::fs::write(folder.path().join("configs.toml"), wrong).expect("writing");
    let unknown = entries(folder.path()).expect_err("an unknown key").to_string();
    assert!(
        unknown.contains("configs.toml:5:1: unknown field `replaces`, expected one of"),
        "{unknown}"
    );
    assert_eq!(unknown.lines().count(), 1, "{unknown}");
    std::fs::write(
        folder.path().join("configs.toml"),
        wrong.replace("replaces = {}\n", ""),
    )
    .expect("writing");
    let missing = Config::load(folder.path(), "default")
        .expect_err("no description")
        .to_string();
    assert!(missing.contains("system.xml"), "{missing}");
    std::fs::write(
        folder.path().join("system.xml"),
        "<system>\n    <chanel />\n</system>",
    )
    .expect("writing");
    let broken = Config::load(folder.path(), "default")
        .expect_err("a broken description")
        .to_string();
    assert!(
        broken.contains("system.xml:2:5: error: <chanel> inside <system>"),
        "{broken}"
    );
}

#[test]
fn a_continued_system_is_plain() {
    let config = resolve(SMALL, entry(6)).unwrap_or_else(|e| panic!("{e}"));
    assert!(System::parse(&config.xml, "plain.xml").is_ok());
    assert_eq!(config.xml.matches("<protection_domain ").count(), 7);
}

#[test]
fn subscribers_continue_by_a_number_of_their_own() {
    let text = SMALL
        .replace("data-", "subscription-")
        .replace("child-", "subscriber-")
        .replace("log-", "log-subscriber-");
    for (subscribers, instances) in [(0, 3), (2, 6), (3, 3), (5, 1)] {
        let entry = Entry {
            subscribers,
            ..entry(instances)
        };
        let system = resolve(&text, entry).unwrap_or_else(|e| panic!("{e}")).system;
        assert_eq!(system.protection_domains.len(), 1 + subscribers, "{subscribers}");
        assert_eq!(system.channels.len(), subscribers);
        assert_eq!(system.memory_regions.len(), 2 * subscribers);
    }
}

#[test]
fn a_family_of_regions_gets_another_size() {
    let sized = |key: &str| Entry {
        sizes: [(key.to_owned(), 0x9000)].into(),
        ..entry(5)
    };
    let system = resolve(SMALL, sized("data-N"))
        .unwrap_or_else(|e| panic!("{e}"))
        .system;
    let sizes: Vec<_> = (0..5)
        .map(|n| system.region(&format!("data-{n}")).and_then(|r| r.size))
        .collect();
    assert_eq!(sizes, [Some(0x9000); 5]);
    assert_eq!(
        system.region("log-4").and_then(|r| r.size),
        Some(0x1000),
        "others stay"
    );
    let system = resolve(SMALL, sized("data-3"))
        .unwrap_or_else(|e| panic!("{e}"))
        .system;
    assert_eq!(system.region("data-3").and_then(|r| r.size), Some(0x9000));
    assert_eq!(system.region("data-4").and_then(|r| r.size), Some(0x5000));
    let error = resolve(SMALL, sized("logs-N")).expect_err("refused").to_string();
    assert!(
        error.contains("`logs-N` a size, but it does not exist; there are: data-0"),
        "{error}"
    );
}

/// Two children of a parent, beside a family that follows the number of instances.
const PARENT: &str = r#"<system>
    <memory_region name="common" size="0x1000" />
    <memory_region name="region-first" size="0x1000" />
    <memory_region name="region-second" size="0x1000" />
    <memory_region name="own" size="0x1000" phys_addr="0x8000000" />
    <protection_domain name="parent" priority="100">
        <program_image path="parent.elf" />
        <map mr="common" vaddr="0x1000000" perms="r" />
        <map mr="region-first" vaddr="0x1001000" />
        <map mr="region-second" vaddr="0x1002000" />
        <protection_domain name="first" id="9" priority="10">
            <program_image path="child.elf" />
            <map mr="region-first" vaddr="0x2000000" perms="rw" />
            <map mr="common" vaddr="0x3000000" perms="r" />
        </protection_domain>
        <protection_domain name="second" id="10" priority="10">
            <program_image path="child.elf" />
            <map mr="region-second" vaddr="0x2000000" perms="rw" />
            <map mr="common" vaddr="0x3000000" perms="r" />
            <protection_domain name="deep" id="1" priority="5">
                <program_image path="deep.elf" />
                <map mr="own" vaddr="0x2000000" perms="rw" />
            </protection_domain>
        </protection_domain>
    </protection_domain>
    <io_address_space name="device" peripheral_id="00:02.0" domain_id="1">
        <iomap mr="own" iovaddr="0x8000000" perms="rw" />
    </io_address_space>
    <channel>
        <end pd="first" id="0" />
        <end pd="parent" id="30" />
    </channel>
    <channel>
        <end pd="second" id="0" />
        <end pd="parent" id="31" />
    </channel>
</system>
"#;

fn without(names: &[&str]) -> Entry {
    let spanned = names
        .iter()
        .map(|name| toml::Spanned::new(0..0, (*name).to_owned()));
    Entry {
        without: spanned.collect(),
        iommu: true,
        ..entry(5)
    }
}

#[test]
fn what_is_not_continued_stays_as_it_is() {
    let config = resolve(PARENT, without(&[])).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.system.protection_domains.len(), 4);
    assert_eq!(config.system.channels.len(), 2);
}

#[test]
fn a_domain_goes_with_all_that_is_of_no_use_without_it() {
    let config = resolve(PARENT, without(&["second"])).unwrap_or_else(|e| panic!("{e}"));
    let system = config.system;
    let names: Vec<_> = system
        .protection_domains
        .iter()
        .map(|pd| pd.name.as_str())
        .collect();
    assert_eq!(names, ["parent", "first"], "its child goes too");
    let regions: Vec<_> = system.memory_regions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(regions, ["common", "region-first"], "what two others use stays");
    assert!(system.io_address_spaces.is_empty() && system.channels.len() == 1);
    let maps: Vec<_> = system
        .pd("parent")
        .expect("parent")
        .maps
        .iter()
        .map(|m| m.mr.as_str())
        .collect();
    assert_eq!(maps, ["common", "region-first"]);

    let config = resolve(PARENT, without(&["first", "second"])).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.system.protection_domains.len(), 1);
    assert!(
        config.system.memory_regions.is_empty(),
        "common is nobody's common any more"
    );
}

#[test]
fn without_a_member_of_a_family_the_family_is_refused() {
    let error = resolve(SMALL, without(&["child-1"]))
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("has instances 0, 2; help: describe instances 0, 1 and 2"),
        "{error}"
    );
}

#[test]
fn a_configuration_cannot_be_without_what_there_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("system.xml"), PARENT).expect("written");
    let text =
        "[default]\nabout = \"x\"\ninstances = 3\nboot = \"b.toml\"\nwithout = [\"first\", \"nic7\"]\n";
    std::fs::write(folder.path().join("configs.toml"), text).expect("written");
    let error = Config::load(folder.path(), "default")
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("configs.toml:5:21: configuration `default` is without `nic7`, which does not exist; there are: parent, first"),
        "{error}"
    );
}
