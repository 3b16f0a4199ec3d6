//! A small system with one of everything, its programs, and the differences found in its images.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../image/tests/common/mod.rs"]
mod programs;

use std::path::{Path, PathBuf};

use branes_audit::compare::{Difference, compare};
use branes_audit::{Authority, Kernel, model};
use branes_system::System;
use tempfile::TempDir;

/// Description of the small system.
pub const SYSTEM: &str = include_str!("../small/system.xml");

pub fn system() -> System {
    System::parse(SYSTEM, "small/system.xml").unwrap_or_else(|e| panic!("{e}"))
}

pub fn model(kernel: Kernel) -> Authority {
    model::authority(&system(), kernel).unwrap()
}

/// Returns one line for each difference.
pub fn differences(kernel: Kernel, found: Authority) -> Vec<String> {
    let all: Vec<Difference> = compare(&system(), &model(kernel), found);
    all.iter().map(Difference::to_string).collect()
}

/// Checks that one of the lines contains all words. Shows all lines otherwise.
pub fn named(lines: &[String], words: &[&str]) {
    let found = lines
        .iter()
        .any(|line| words.iter().all(|word| line.contains(word)));
    assert!(found, "no difference with {words:?} among:\n{}", lines.join("\n"));
}

/// Makes a folder with all that either builder needs.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("system.xml", SYSTEM.as_bytes());
    put("one.elf", &programs::Elf::pd().bytes());
    put("root.elf", &programs::Elf::root_task().bytes());
    put("config.bin", &[7; 0x3000]);
    folder
}

/// Builds the image with our builder.
pub fn image(folder: &Path) -> PathBuf {
    let out = folder.join("loader.img");
    let search = [folder.to_path_buf()];
    branes_image::build(&system(), folder, &search, &folder.join("root.elf"), &out).unwrap();
    out
}
