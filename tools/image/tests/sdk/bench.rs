//! Compares our own checks of descriptions with the Microkit SDK's tool.
//!
//! Owns the folder that both read. On the other side: the tool of the user's SDK, which is only run.

use std::collections::BTreeSet;

use branes_image::{Error, measure};
use branes_kernel::Flavour;
use branes_kernel::sdk::{ImageCall, Sdk, VARIABLE};
use branes_system::System;

use crate::common::Elf;

/// Address of the symbols for setvar attributes in a program, and their maximum number.
const SYMBOLS: (u64, u64) = (0x20_2070, 18);

/// Programs and prefill files in a folder, and the tool if there is one.
pub struct Bench {
    sdk: Option<Sdk>,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Makes an empty folder.
    pub fn new() -> Self {
        let sdk = std::env::var_os(VARIABLE).map(|_| Sdk::find("x86_64_generic", Flavour::Debug));
        Bench {
            sdk: sdk.transpose().unwrap_or_else(|e| panic!("{e}")),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns true if there is a tool. Otherwise prints that it is missing.
    pub fn has_tool(&self) -> bool {
        if self.sdk.is_none() {
            eprintln!("skipped: {VARIABLE} is not set, so the tool of the Microkit SDK is not asked");
        }
        self.sdk.is_some()
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path().join(name), content).unwrap();
    }

    /// Makes every file that a description names. A text that is no XML names none.
    pub fn prepare(&self, text: &str) {
        let Ok(document) = roxmltree::Document::parse(text) else {
            return;
        };
        let attributes = || {
            let nodes = document.descendants();
            nodes.flat_map(|node| node.attributes().map(move |attribute| (node, attribute)))
        };
        let mut program = Elf::pd().without("variable");
        let symbols: BTreeSet<&str> = attributes()
            .filter(|(_, a)| a.name().starts_with("setvar") || a.name() == "symbol")
            .map(|(_, a)| a.value())
            .collect();
        for (place, symbol) in (0..SYMBOLS.1).zip(symbols) {
            program.symbol(symbol, SYMBOLS.0 + 8 * place, 8);
        }
        let program = program.bytes();
        for (node, attribute) in attributes() {
            let content = match attribute.name() {
                "path" | "path_for_symbols" => program.clone(),
                "prefill_path" => {
                    let size = node.attribute("size").and_then(|size| size.strip_prefix("0x"));
                    let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                    vec![7; size.unwrap_or(0x1000)]
                }
                _ => continue,
            };
            if !attribute.value().is_empty() {
                self.put(attribute.value(), &content);
            }
        }
    }

    /// Returns the result of our parser, rules and image builder: nothing, or the reason for the refusal. A
    /// feature that our kernel cannot provide is no reason.
    pub fn ours(&self, text: &str) -> Result<(), String> {
        let system = System::parse(text, "system.xml").map_err(|errors| errors.to_string())?;
        let folder = self.folder.path();
        match measure(&system, folder, &[folder.to_path_buf()]) {
            Ok(_) | Err(Error::Unsupported { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns the result of the SDK's tool: its output if it accepts, otherwise the reason.
    pub fn theirs(&self, text: &str) -> Result<String, String> {
        let sdk = self.sdk.as_ref().expect("asked only where there is a tool");
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        std::fs::write(at("system.xml"), text).unwrap();
        let said = sdk.image(&ImageCall {
            description: &at("system.xml"),
            search: &[self.folder.path().to_path_buf()],
            image: &at("loader.img"),
            report: &at("report.txt"),
            capdl: &at("capdl.json"),
        });
        said.map_err(|error| error.to_string())
    }
}
