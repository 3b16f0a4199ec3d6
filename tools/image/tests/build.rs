//! Builds whole images from small programs. Checks what the root task finds in them, and the refusals with
//! their texts.

mod common;

use std::path::{Path, PathBuf};

use branes_image::{Error, Report, build, seal};
use branes_system::System;
use common::Elf;
use initialiser_spec::*;
use sel4::registry::badge;

const SYSTEM: &str = r#"<system>
    <memory_region name="dma" size="0x200000" page_size="0x200000" phys_addr="0x8000000" />
    <memory_region name="tsc" size="0x1000" prefill_bootinfo="x86_tsc_freq" />
    <memory_region name="config" size="0x3000" prefill_path="config.bin" />
    <memory_region name="shared" size="0x2000" />
    <protection_domain name="driver" priority="180">
        <program_image path="one.elf" />
        <map mr="dma" vaddr="0x20000000" perms="rw" />
        <map mr="tsc" vaddr="0x20200000" perms="r" />
        <map mr="shared" vaddr="0x20300000" perms="rw" />
        <irq id="61" pin="11" vector="101" trigger="level" />
        <ioport id="3" addr="0x3f8" size="8" />
        <setvar symbol="variable" region_paddr="dma" />
    </protection_domain>
    <protection_domain name="parent" priority="150" stack_size="0x4000">
        <program_image path="one.elf" />
        <map mr="config" vaddr="0x20000000" perms="r" />
        <protection_domain name="child" id="7" priority="100">
            <program_image path="one.elf" />
            <map mr="shared" vaddr="0x20000000" perms="rw" />
        </protection_domain>
    </protection_domain>
    <channel>
        <end pd="parent" id="5" pp="true" />
        <end pd="driver" id="6" />
    </channel>
    <channel>
        <end pd="child" id="1" />
        <end pd="driver" id="2" />
    </channel>
</system>"#;

struct Bench {
    folder: tempfile::TempDir,
    text: String,
}

impl Bench {
    fn new() -> Self {
        let bench = Bench {
            folder: tempfile::tempdir().unwrap(),
            text: SYSTEM.into(),
        };
        bench.put("one.elf", &Elf::pd().bytes());
        bench.put("root.elf", &Elf::root_task().bytes());
        bench.put("config.bin", &[7; 0x2000]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn build(&self) -> Result<Report, Error> {
        let system = System::parse(&self.text, "system.xml").unwrap_or_else(|errors| panic!("{errors}"));
        let folder = self.folder.path();
        build(
            &system,
            folder,
            &[folder.to_path_buf()],
            &self.path("root.elf"),
            &self.path("loader.img"),
        )
    }

    fn refused(&self) -> String {
        let error = self
            .build()
            .unwrap_err()
            .to_string()
            .replace(&self.folder.path().display().to_string(), "DIR");
        assert!(
            !self.path("loader.img").exists(),
            "an image was written in spite of: {error}"
        );
        error
    }
}

/// An image as the root task sees it: memory from the image's start, and the payload's position in it.
struct Image {
    memory: Vec<u8>,
    payload: [u64; 5],
}

impl Image {
    fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let memory = file[4096..].to_vec();
        let words = |i: usize| u64::from_le_bytes(memory[0x80 + 8 * i..][..8].try_into().unwrap());
        let payload = std::array::from_fn(words);
        Image { memory, payload }
    }

    fn spec(&self) -> Spec<'_> {
        let [start, spec_start, spec_len, _, pages] = self.payload;
        Spec::parse(
            &self.memory[(spec_start - start) as usize..][..spec_len as usize],
            pages as usize,
        )
        .unwrap()
    }

    fn page(&self, number: u32) -> &[u8] {
        let at = (self.payload[3] - self.payload[0]) as usize + number as usize * PAGE_SIZE;
        &self.memory[at..at + PAGE_SIZE]
    }

    /// Returns the initial byte of a protection domain at an address.
    fn byte(&self, pd: usize, vaddr: u64) -> Option<u8> {
        let spec = self.spec();
        spec.mappings[spec.pds[pd].mappings.range()]
            .iter()
            .find_map(|mapping| {
                let region = spec.regions[mapping.region.get() as usize];
                let offset = vaddr.checked_sub(mapping.vaddr.get())?;
                if offset >= u64::from(mapping.pages.count.get()) << region.page_bits {
                    return None;
                }
                if region.source != Source::Image as u8 {
                    return Some(0);
                }
                Some(self.page(region.first.get() + (offset / 4096) as u32)[offset as usize % 4096])
            })
    }

    fn word(&self, pd: usize, vaddr: u64) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.byte(pd, vaddr + i as u64).unwrap()))
    }
}

fn caps<'a>(spec: &Spec<'a>, pd: usize) -> impl Iterator<Item = (u32, u8, u8, u32, u64)> + use<'a> {
    let caps = &spec.caps[spec.pds[pd].caps.range()];
    caps.iter().map(|cap| {
        (
            cap.slot.get(),
            cap.kind,
            cap.rights,
            cap.target.get(),
            cap.data.get(),
        )
    })
}

#[test]
fn the_image_holds_the_system() {
    let bench = Bench::new();
    let report = bench.build().unwrap();
    assert_eq!(report.pds, 3);
    assert_eq!(report.warning, None);
    assert_eq!(report.fixed_ram, [(0x800_0000, 0x820_0000, "dma".to_owned())]);
    let image = Image::read(&bench.path("loader.img"));
    let spec = image.spec();
    let names: Vec<_> = spec.pds.iter().map(|pd| spec.text(pd.name)).collect();
    assert_eq!(names, ["driver", "parent", "child"]);

    // Patched words, code, data and zeroed data: each domain has its own.
    for (pd, name) in names.iter().enumerate() {
        for (i, letter) in name.bytes().chain([0]).enumerate() {
            assert_eq!(image.byte(pd, 0x20_2000 + i as u64), Some(letter));
        }
        assert_eq!(image.byte(pd, 0x20_0000), Some(0xf4));
        assert_eq!(image.byte(pd, 0x20_4001), Some(2));
        assert_eq!(image.byte(pd, 0x20_6000), Some(0));
        assert_eq!(image.byte(pd, 0x20_7000), None);
    }
    assert_eq!(image.word(0, 0x20_2048), 1 << 61, "microkit_irqs");
    assert_eq!(
        image.word(0, 0x20_2050),
        1 << 6 | 1 << 2,
        "microkit_notifications"
    );
    assert_eq!(image.word(1, 0x20_2058), 1 << 5, "microkit_pps");
    assert_eq!(image.word(0, 0x20_2060), 1 << 3, "microkit_ioports");
    assert_eq!(image.word(0, 0x20_2068), 0x800_0000, "setvar region_paddr");
    assert_eq!(image.word(1, 0x20_2068), 0, "no setvar here");

    // Stack and IPC buffer are between unmapped pages.
    for (pd, stack) in [(0, 0x2000u64), (1, 0x4000)] {
        assert_eq!(image.byte(pd, 0x7fff_ffff_e000), Some(0));
        assert_eq!(image.byte(pd, 0x7fff_ffff_d000), None);
        assert_eq!(image.byte(pd, 0x7fff_ffff_d000 - stack), Some(0));
        assert_eq!(image.byte(pd, 0x7fff_ffff_d000 - stack - 1), None);
    }

    // A prefilled region contains the file, then zeros.
    for (len, last) in [(0x2000, 0x2000_1fff), (0x2001, 0x2000_2000)] {
        bench.put("config.bin", &vec![7; len]);
        bench.build().unwrap();
        let image = Image::read(&bench.path("loader.img"));
        assert_eq!(image.byte(1, last), Some(7));
        assert_eq!(image.byte(1, last + 1), Some(0));
        assert_eq!(image.byte(1, 0x2000_2fff), Some(0));
        assert_eq!(image.byte(1, 0x2000_3000), None);
    }
}

#[test]
fn capabilities_are_those_of_the_description() {
    let bench = Bench::new();
    bench.build().unwrap();
    let image = Image::read(&bench.path("loader.img"));
    let spec = image.spec();
    let all = READ | WRITE | GRANT;
    let call = WRITE | GRANT;
    let (notification, endpoint) = (CapKind::Notification as u8, CapKind::Endpoint as u8);
    assert_eq!(
        caps(&spec, 0).collect::<Vec<_>>(),
        [
            (1, endpoint, READ, 0, 0),
            (2, CapKind::Monitor as u8, call, NONE, 1),
            (3, CapKind::VSpace as u8, all, 0, 0),
            (16, notification, WRITE, 1, badge::notification(5)),
            (12, notification, WRITE, 2, badge::notification(1)),
            (397, CapKind::IoPorts as u8, all, NONE, 0x3f8 << 16 | 0x3ff),
        ]
    );
    assert_eq!(
        caps(&spec, 1).collect::<Vec<_>>(),
        [
            (1, endpoint, READ, 1, 0),
            (2, CapKind::Monitor as u8, call, NONE, 2),
            (3, CapKind::VSpace as u8, all, 1, 0),
            (15, notification, WRITE, 0, badge::notification(6)),
            (79, endpoint, call, 0, badge::call(6)),
            (209, CapKind::Tcb as u8, all, 2, 0),
        ]
    );
    assert_eq!(
        caps(&spec, 2).collect::<Vec<_>>(),
        [
            (1, notification, READ, 2, 0),
            (2, endpoint, call, 1, badge::fault(7)),
            (3, CapKind::VSpace as u8, all, 2, 0),
            (11, notification, WRITE, 0, badge::notification(2)),
        ]
    );
    let [irq] = spec.irqs else {
        panic!("{} interrupts", spec.irqs.len())
    };
    assert_eq!(
        (irq.pd.get(), irq.slot.get(), irq.vector.get(), irq.msi.get()),
        (0, 199, 101, 0)
    );
    assert_eq!(irq.source.map(|word| word.get()), [0, 11, 1, 0]);
    assert_eq!(irq.badge.get(), badge::notification(61));
}

#[test]
fn code_is_stored_once_and_originals_are_mapped_once() {
    let bench = Bench::new();
    bench.build().unwrap();
    let image = Image::read(&bench.path("loader.img"));
    let spec = image.spec();
    let code = |pd: &Pd| {
        let mappings = &spec.mappings[pd.mappings.range()];
        mappings
            .iter()
            .find(|mapping| mapping.vaddr.get() == 0x20_0000)
            .unwrap()
            .region
            .get()
    };
    assert_eq!(code(&spec.pds[0]), code(&spec.pds[1]));
    // Every page outside the image is mapped exactly once through its original capability.
    for (index, region) in spec.regions.iter().enumerate() {
        let users = spec
            .mappings
            .iter()
            .filter(|mapping| mapping.region.get() as usize == index);
        let originals = users.filter(|mapping| mapping.copy == 0).count();
        assert_eq!(
            originals,
            usize::from(region.source != Source::Image as u8),
            "{}",
            spec.text(region.name)
        );
    }
    // No two objects share a slot.
    let mut taken = std::collections::HashSet::new();
    for batch in spec.batches {
        assert!(batch.slots.range().all(|slot| taken.insert(slot)));
    }
    for region in spec
        .regions
        .iter()
        .filter(|region| region.source == Source::Fixed as u8)
    {
        assert!(taken.insert(region.first.get() as usize));
    }
    assert_eq!(taken.len(), spec.header.slots.get() as usize);
}

#[test]
fn refuses_in_words() {
    let mut bench = Bench::new();
    bench.put("one.elf", &Elf::pd().without("microkit_pps").bytes());
    assert_eq!(
        bench.refused(),
        "protection domain 'driver': symbol 'microkit_pps' in DIR/one.elf: missing: link the program with the PD \
         runtime, and do not strip it"
    );
    let mut elf = Elf::pd().without("variable");
    elf.symbol("variable", 0x20_2068, 4);
    bench.put("one.elf", &elf.bytes());
    assert_eq!(
        bench.refused(),
        "protection domain 'driver': symbol 'variable' in DIR/one.elf: has 4 bytes; 8 is right"
    );
    let mut elf = Elf::pd().without("variable");
    elf.symbol("variable", 0x20_20fc, 8);
    bench.put("one.elf", &elf.bytes());
    assert_eq!(
        bench.refused(),
        "protection domain 'driver': symbol 'variable' in DIR/one.elf: at 0x2020fc, which is not within one loadable \
         segment"
    );
    let mut elf = Elf::pd();
    elf.symbol("variable", 0x20_2070, 8);
    bench.put("one.elf", &elf.bytes());
    assert!(bench.refused().ends_with("defined 2 times; once is right"));

    bench.put("one.elf", b"#!/bin/sh\n");
    assert!(
        bench.refused().starts_with("DIR/one.elf: "),
        "{}",
        bench.refused()
    );
    let mut elf = Elf::pd();
    elf.segments[1].vaddr = 0x20_4800;
    bench.put("one.elf", &elf.bytes());
    assert!(
        bench.refused().contains("share the page at 0x204000"),
        "{}",
        bench.refused()
    );
    let mut elf = Elf::pd();
    elf.segments[1].vaddr = 0x20_1800;
    bench.put("one.elf", &elf.bytes());
    assert!(
        bench.refused().contains("share the page at 0x201000"),
        "{}",
        bench.refused()
    );
    let mut elf = Elf::pd();
    elf.segments[1].vaddr = u64::MAX - 0xfff;
    bench.put("one.elf", &elf.bytes());
    assert!(
        bench.refused().contains("outside user addresses"),
        "{}",
        bench.refused()
    );
    let mut elf = Elf::pd();
    elf.entry = 0x10;
    bench.put("one.elf", &elf.bytes());
    assert!(
        bench.refused().contains("entry point 0x10 is in no segment"),
        "{}",
        bench.refused()
    );
    std::fs::remove_file(bench.path("one.elf")).unwrap();
    assert_eq!(
        bench.refused(),
        "protection domain 'driver' needs the file 'one.elf', which is in none of: DIR"
    );

    bench.put("one.elf", &Elf::pd().bytes());
    bench.put("config.bin", &[7; 0x3001]);
    assert_eq!(
        bench.refused(),
        "memory region 'config' has 0x3000 bytes, its prefill file DIR/config.bin has 0x3001: make the region larger"
    );
    bench.put("config.bin", &[7; 0x1fff]);
    assert_eq!(
        bench.refused(),
        "memory region 'config' has 0x3000 bytes, its prefill file DIR/config.bin has 0x1fff: it ends more than one page \
         (0x1000 bytes) before the region does: make the region smaller, or append zeros to the file"
    );
    bench.put("config.bin", &[]);
    assert_eq!(
        bench.refused(),
        "memory region 'config' has 0x3000 bytes, its prefill file DIR/config.bin has 0x0: it is empty: write something \
         into it, or delete prefill_path"
    );
    bench.put("config.bin", &[7; 0x2000]);
    bench.text = SYSTEM.replace(
        "</system>",
        "<memory_region name=\"x\" prefill_path=\"x.bin\" /></system>",
    );
    assert_eq!(
        bench.refused(),
        "memory region 'x' needs the file 'x.bin', which is in none of: DIR"
    );
    bench.text = SYSTEM.replace(
        "mr=\"shared\" vaddr=\"0x20300000\"",
        "mr=\"shared\" vaddr=\"0x205000\"",
    );
    assert_eq!(
        bench.refused(),
        "protection domain 'driver': a segment of one.elf (0x204000..0x207000) overlaps the map of memory region \
         'shared' (0x205000..0x207000)"
    );
    bench.text = SYSTEM.replace("x86_tsc_freq", "x86_acpi_rsdp");
    assert_eq!(
        bench.refused(),
        "memory region 'tsc': of the kernel's boot information only x86_tsc_freq is available"
    );
}

#[test]
fn a_truncated_program_is_an_error_and_never_a_panic() {
    let bench = Bench::new();
    let whole = Elf::pd().bytes();
    for len in (0..whole.len()).step_by(61) {
        bench.put("one.elf", &whole[..len]);
        bench.refused();
    }
}

#[test]
fn budgets_are_one_warning() {
    let mut bench = Bench::new();
    bench.text = SYSTEM.replace(
        "priority=\"180\"",
        "priority=\"180\" budget=\"100\" period=\"400\"",
    );
    let warning = bench.build().unwrap().warning.unwrap();
    assert_eq!(warning, "the registry kernel does not honour: CPU budgets");
}

#[test]
fn sealing_copies_the_data() {
    let bench = Bench::new();
    let path = bench.path("one.elf");
    seal(&path).unwrap();
    bench.build().unwrap();
    let image = Image::read(&bench.path("loader.img"));
    for offset in 0..0x40 {
        assert_eq!(image.byte(2, 0x20_3000 + offset), Some(offset as u8 + 1));
    }
    let sealed = std::fs::read(&path).unwrap();
    seal(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), sealed);

    bench.put("one.elf", &Elf::pd().without("__pristine_start").bytes());
    let error = seal(&path).unwrap_err().to_string();
    assert!(
        error
            .ends_with("symbol '__pristine_start' is missing: link with the linker script of the PD runtime"),
        "{error}"
    );
    let mut elf = Elf::pd().without("__data_end");
    elf.symbol("__data_end", 0x20_4041, 0);
    bench.put("one.elf", &elf.bytes());
    let error = seal(&path).unwrap_err().to_string();
    assert!(
        error.contains("has room for 0x40 bytes, .data has 0x41"),
        "{error}"
    );
    let mut elf = Elf::pd();
    elf.segments[2].data.clear();
    bench.put("one.elf", &elf.bytes());
    let error = seal(&path).unwrap_err().to_string();
    assert!(
        error.contains("the pristine copy at 0x203000 has no bytes in the file"),
        "{error}"
    );
}

#[test]
fn the_whole_default_system_fits() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let bench = Bench::new();
    for name in ["default", "bench"] {
        let config = branes_system::configs::Config::load(&root, name).unwrap();
        let system = System::parse(&config.xml, name).unwrap_or_else(|errors| panic!("{errors}"));
        for pd in &system.protection_domains {
            let mut program = Elf::pd();
            for (n, setvar) in pd.setvars.iter().enumerate() {
                program.symbol(&setvar.symbol, 0x20_2070 + 8 * n as u64, 8);
            }
            bench.put(&pd.program, &program.bytes());
        }
        bench.put("boot-config.cbor", &[0xa0; 0x8000]);
        let folder = bench.folder.path();
        let out = bench.path("loader.img");
        let report = build(
            &system,
            folder,
            &[folder.to_path_buf()],
            &bench.path("root.elf"),
            &out,
        )
        .unwrap();
        report.check_memory(256).unwrap();
        // The kernel's configuration has 65536 slots. 138 and one for each page of the image are in use at
        // boot.
        assert!(
            report.slots + report.image_bytes / 4096 + 256 < 65536,
            "{}",
            report.slots
        );
        Image::read(&out).spec();
    }
}
