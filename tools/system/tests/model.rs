//! Every element and attribute of the format that the board has, and the defaults.

use branes_system::*;

const FULL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- Everything once. -->
<system>
    <domains>
        <domain name="day" id="0" />
        <domain name="night" />
        <domain_schedule start_index="1" index_shift="2">
            <schedule_entry domain="day" duration="1_000 us" />
            <schedule_entry domain="night" duration="20 ticks" />
            <schedule_end_marker />
        </domain_schedule>
    </domains>
    <channel>
        <end pd="client" id="0" pp="true" notify="false" setvar_id="server_channel" />
        <end pd="server" id="61" />
    </channel>
    <protection_domain name="server" priority="0xfe" budget="100" period="1_000" passive="true" stack_size="0x1000000"
        cpu="0" fpu="false" domain="day">
        <program_image path="server.elf" path_for_symbols="server.sym" />
        <map mr="registers" vaddr="0x2_000_000" perms="rw" cached="false" setvar_vaddr="registers" />
        <map mr="file" vaddr="0x3000000" perms="r" setvar_size="size" setvar_prefill_size="file_size" />
        <map mr="code" vaddr="0x4000000" perms="rx" />
        <irq id="0" pin="11" vector="107" ioapic="0" trigger="edge" polarity="low" setvar_id="irq" />
        <irq id="1" pcidev="ff:1f.7" handle="3" vector="0" />
        <irq id="2" pin="4" vector="1" />
        <ioport id="0" addr="0x3f8" size="8" setvar_id="port" setvar_addr="port_addr" />
        <setvar symbol="registers_paddr" region_paddr="registers" />
        <cspace>
            <cap_tcb slot="1" pd="client" />
            <cap_sc slot="0x2" pd="client" />
            <cap_vspace slot="63" pd="client" />
        </cspace>
        <protection_domain name="child" id="0x3d" priority="253" domain="night" setvar_id="child">
            <program_image path="child.elf" />
            <protection_domain name="grandchild" id="0" priority="1" domain="night">
                <program_image path="child.elf" />
            </protection_domain>
        </protection_domain>
    </protection_domain>
    <protection_domain name="client" domain="night">
        <program_image path="client.elf" />
        <map mr="large" vaddr="0x40000000" />
        <map mr="small" vaddr="0x50001000" />
    </protection_domain>
    <memory_region name="registers" size="0x4000" phys_addr="0xfebfc000" />
    <memory_region name="file" prefill_path="file.bin" />
    <memory_region name="code" size="0x1000" prefill_path="code.bin" />
    <memory_region name="frequency" size="0x1000" prefill_bootinfo="x86_tsc_freq" />
    <memory_region name="large" size="0x400000" />
    <memory_region name="small" size="0x400000" />
    <memory_region name="asked" size="0x200000" page_size="0x1000" />
    <io_address_space name="nic" peripheral_id="0:2.0" domain_id="5">
        <iomap mr="asked" iovaddr="0x1000" perms="w" />
        <iomap mr="registers" iovaddr="0x201000" />
    </io_address_space>
</system>
"#;

fn full() -> System {
    System::parse(FULL, "full.xml").unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn protection_domains_have_what_is_written() {
    let system = full();
    let server = system.pd("server").expect("server");
    assert_eq!(
        (server.priority, server.budget, server.period, server.budget_given),
        (254, 100, 1000, true)
    );
    assert!(server.passive && !server.fpu && server.stack_size == 0x100_0000);
    assert_eq!(
        (server.program.as_str(), server.program_for_symbols.as_deref()),
        ("server.elf", Some("server.sym"))
    );
    assert_eq!(
        (
            server.domain.as_deref(),
            server.parent.as_deref(),
            server.child_id
        ),
        (Some("day"), None, None)
    );
    assert_eq!(server.position, Position { line: 17, column: 5 });

    let names: Vec<_> = system
        .protection_domains
        .iter()
        .map(|pd| pd.name.as_str())
        .collect();
    assert_eq!(names, ["server", "child", "grandchild", "client"]);
    let child = system.pd("child").expect("child");
    assert_eq!(
        (child.child_id, child.setvar_id.as_deref()),
        (Some(61), Some("child"))
    );
    assert_eq!(child.parent.as_deref(), Some("server"));
    let grandchildren: Vec<_> = system.children("child").map(|pd| pd.name.as_str()).collect();
    assert_eq!(grandchildren, ["grandchild"]);
}

#[test]
fn defaults_are_those_of_the_format() {
    let system = full();
    let client = system.pd("client").expect("client");
    assert_eq!(
        (client.priority, client.budget, client.period, client.budget_given),
        (0, 1000, 1000, false)
    );
    assert!(!client.passive && client.fpu && client.stack_size == 0x2000 && client.cpu == 0);
    let map = &client.maps[0];
    assert!(map.read && map.write && !map.execute && map.cached);
    let irq = &system.pd("server").expect("server").irqs[2];
    let source = IrqSource::IoApic {
        ioapic: 0,
        pin: 4,
        level: true,
        active_low: false,
    };
    assert_eq!((irq.source, irq.setvar_id.as_deref()), (source, None));
    let [_, end] = &system.channels[0].ends;
    assert!(end.notify && !end.pp && end.setvar_id.is_none());
}

#[test]
fn mappings_interrupts_ports_and_capabilities_have_what_is_written() {
    let system = full();
    let server = system.pd("server").expect("server");
    let [registers, file, code] = &server.maps[..] else {
        panic!("three mappings")
    };
    assert_eq!(
        (registers.vaddr, registers.cached),
        (0x200_0000, false),
        "hexadecimal with underscores"
    );
    assert_eq!(registers.setvar_vaddr.as_deref(), Some("registers"));
    assert_eq!((file.read, file.write, file.execute), (true, false, false));
    assert_eq!(
        (file.setvar_size.as_deref(), file.setvar_prefill_size.as_deref()),
        (Some("size"), Some("file_size"))
    );
    assert_eq!((code.read, code.write, code.execute), (true, false, true));

    let irqs: Vec<_> = server
        .irqs
        .iter()
        .map(|irq| (irq.id, irq.vector, irq.source))
        .collect();
    let pin = IrqSource::IoApic {
        ioapic: 0,
        pin: 11,
        level: false,
        active_low: true,
    };
    let message = IrqSource::Msi {
        bus: 255,
        device: 31,
        function: 7,
        handle: 3,
    };
    assert_eq!(irqs[..2], [(0, 107, pin), (1, 0, message)]);
    let port = &server.ioports[0];
    assert_eq!((port.id, port.addr, port.size), (0, 0x3f8, 8));
    assert_eq!(
        (port.setvar_id.as_deref(), port.setvar_addr.as_deref()),
        (Some("port"), Some("port_addr"))
    );
    let setvar = &server.setvars[0];
    assert_eq!(
        (setvar.symbol.as_str(), setvar.region.as_str()),
        ("registers_paddr", "registers")
    );
    let caps: Vec<_> = server
        .cspace
        .iter()
        .map(|cap| (cap.kind, cap.slot, cap.pd.as_str()))
        .collect();
    let expected = [
        (ExtraCapKind::Tcb, 1, "client"),
        (ExtraCapKind::SchedulingContext, 2, "client"),
        (ExtraCapKind::VSpace, 63, "client"),
    ];
    assert_eq!(caps, expected);
}

#[test]
fn regions_have_what_is_written_and_the_pages_of_the_rule() {
    let system = full();
    let region = |name: &str| system.region(name).expect("a region");
    assert_eq!(
        (region("registers").size, region("registers").phys_addr),
        (Some(0x4000), Some(0xfebf_c000))
    );
    assert_eq!(
        (region("file").size, &region("file").prefill),
        (None, &Prefill::File("file.bin".to_owned()))
    );
    assert_eq!(
        region("frequency").prefill,
        Prefill::BootInfo(BootInfo::X86TscFreq)
    );
    // Large only if size and mappings allow it, and the file gives no other size.
    let pages = ["registers", "file", "large", "small", "asked"].map(|name| region(name).page_size);
    assert_eq!(pages, [0x1000, 0x1000, 0x20_0000, 0x1000, 0x1000]);
}

#[test]
fn channels_io_address_spaces_and_domains_have_what_is_written() {
    let system = full();
    let [(own, peer)] = system.ends("client").collect::<Vec<_>>()[..] else {
        panic!("one channel")
    };
    assert_eq!(
        (own.id, own.pp, own.notify, own.setvar_id.as_deref()),
        (0, true, false, Some("server_channel"))
    );
    assert_eq!((peer.pd.as_str(), peer.id), ("server", 61));

    let space = &system.io_address_spaces[0];
    assert_eq!(
        (space.name.as_str(), space.peripheral, space.domain_id),
        ("nic", (0, 2, 0), 5)
    );
    let maps: Vec<_> = space
        .maps
        .iter()
        .map(|m| (m.mr.as_str(), m.iovaddr, m.read, m.write))
        .collect();
    assert_eq!(
        maps,
        [
            ("asked", 0x1000, false, true),
            ("registers", 0x20_1000, true, true)
        ]
    );

    let domains: Vec<_> = system.domains.iter().map(|d| (d.name.as_str(), d.id)).collect();
    assert_eq!(domains, [("day", Some(0)), ("night", None)]);
    let schedule = system.domain_schedule.as_ref().expect("a schedule");
    assert_eq!((schedule.start_index, schedule.index_shift), (1, 2));
    let [
        ScheduleEntry::Run { duration: first, .. },
        ScheduleEntry::Run { duration: second, .. },
        ScheduleEntry::EndMarker,
    ] = &schedule.entries[..]
    else {
        panic!("{:?}", schedule.entries)
    };
    assert_eq!((*first, *second), (Duration::Micros(1000), Duration::Ticks(20)));
}

#[test]
fn one_protection_domain_is_a_system() {
    let text = r#"<system><protection_domain name="app"><program_image path="app.elf"/></protection_domain></system>"#;
    let system = System::parse(text, "small.xml").unwrap_or_else(|e| panic!("{e}"));
    assert!(system.protection_domains.len() == 1 && system.memory_regions.is_empty());
}
