//! Valid descriptions with invalid programs or prefill files.

use crate::common::Elf;

const SYSTEM: &str = r#"<system>
    <memory_region name="file" size="0x3000" prefill_path="file.bin" />
    <protection_domain name="app">
        <program_image path="one.elf" />
        <map mr="file" vaddr="0x10000000" perms="r" />
    </protection_domain>
</system>"#;

/// A description and its files.
pub struct Case {
    /// Name in the record, without `builder: `.
    pub name: &'static str,
    pub text: String,
    pub files: Vec<(&'static str, Vec<u8>)>,
}

fn case(name: &'static str) -> Case {
    Case {
        name,
        text: SYSTEM.into(),
        files: vec![("one.elf", Elf::pd().bytes()), ("file.bin", vec![7; 0x3000])],
    }
}

impl Case {
    fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{}: {from}", self.name);
        self.text = self.text.replace(from, to);
        self
    }

    fn without(mut self, file: &str) -> Self {
        self.files.retain(|(name, _)| *name != file);
        self
    }

    fn with(self, file: &'static str, content: Vec<u8>) -> Self {
        let mut case = self.without(file);
        case.files.push((file, content));
        case
    }

    fn with_program(self, change: impl FnOnce(&mut Elf)) -> Self {
        let mut elf = Elf::pd();
        change(&mut elf);
        self.with("one.elf", elf.bytes())
    }
}

/// Returns valid cases, for comparison.
pub fn sound() -> Vec<Case> {
    vec![
        case("as it is"),
        case("a file that ends a page before its region").with("file.bin", vec![7; 0x2000]),
        case("a file for all large pages")
            .replace("size=\"0x3000\"", "size=\"0x400000\"")
            .with("file.bin", vec![7; 0x20_0000]),
        case("a region as large as its file")
            .replace(" size=\"0x3000\"", "")
            .with("file.bin", vec![7; 1]),
        case("setvar").replace("perms=", "setvar_size=\"variable\" perms="),
        case("symbols elsewhere")
            .replace("one.elf", "one.elf\" path_for_symbols=\"two.elf")
            .with("two.elf", Elf::pd().bytes())
            .with_program(|elf| elf.symbols.clear()),
        case("a mapping behind the program").replace("0x10000000", "0x207000"),
    ]
}

/// Returns cases that must be refused.
pub fn broken() -> Vec<Case> {
    let patched = "microkit_passive";
    vec![
        case("prefill-missing").without("file.bin"),
        case("prefill-unused").replace(
            "<protection",
            "<memory_region name=\"unused\" size=\"0x1000\" prefill_path=\"none.bin\" /><protection",
        ),
        case("prefill-empty").with("file.bin", Vec::new()),
        case("prefill-long").with("file.bin", vec![7; 0x3001]),
        case("prefill-short").with("file.bin", vec![7; 0x1fff]),
        case("prefill-short-large")
            .replace("size=\"0x3000\"", "size=\"0x400000\"")
            .with("file.bin", vec![7; 0x1f_ffff]),
        case("program-missing").without("one.elf"),
        case("program-text").with("one.elf", b"#!/bin/sh\n".to_vec()),
        case("program-32").with("one.elf", {
            let mut bytes = Elf::pd().bytes();
            bytes[4] = 1;
            bytes
        }),
        case("program-symbol-missing").with_program(|elf| *elf = elf.clone().without(patched)),
        case("program-symbol-outside").with_program(|elf| {
            *elf = elf.clone().without(patched);
            elf.symbol(patched, 0x30_0000, 1);
        }),
        case("program-symbol-twice").with_program(|elf| elf.symbol(patched, 0x20_2041, 1)),
        case("program-shared-page").with_program(|elf| elf.segments[1].vaddr = 0x20_1800),
        case("program-over-stack").with_program(|elf| elf.segment(0x7fff_ffff_c000, vec![1; 16], 16, true)),
        case("program-over-ipc-buffer")
            .with_program(|elf| elf.segment(0x7fff_ffff_e000, vec![1; 16], 16, true)),
        case("program-symbols-missing").replace("one.elf", "one.elf\" path_for_symbols=\"none.elf"),
        case("map-over-program").replace("0x10000000", "0x206000"),
        case("setvar-missing").replace("perms=", "setvar_size=\"nothing\" perms="),
        case("setvar-size").replace("perms=", "setvar_size=\"microkit_passive\" perms="),
    ]
}
