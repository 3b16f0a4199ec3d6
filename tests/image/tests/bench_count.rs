//! The cost of an idle echo and of a connection in instructions of the guest, beside the committed figures
//! (`docs/bench/quick.json`).
//!
//! The guest is idle before and after each request, so a busy host does not change the count
//! (`branes_bench::quick`).

use anyhow::{Context, Result, ensure};
use branes_bench::figures::Figures;
use branes_bench::guest::{Boot, Guest, namespace};
use branes_bench::quick::{self, ROWS};
use branes_bench::table::{self, Measured};
use image_tests::guest::{image_folder, on_sdk, tool};
use std::io::Write;
use std::path::Path;

/// The committed figures.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench/quick.json");

#[test]
fn an_idle_echo_and_a_connection_cost_no_more_than_committed() -> Result<()> {
    if on_sdk() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: the quick count: its committed figures are the registry kernel's"
        );
        return Ok(());
    }
    let committed = Figures::read(Path::new(COMMITTED))?;
    let folder = image_folder("bench", true, false);
    let (kernel, image) = (folder.join("sel4_32.elf"), folder.join("loader.img"));
    let plugin = tool("libbranes_bench_plugin.so")?;
    let boot = Boot {
        kernel: &kernel,
        image: &image,
        arguments: None,
        plugin: &plugin,
        by_domain: None,
    };
    let ns = namespace()?;
    let mut now = Figures::new("quick", String::new(), String::new());
    now.figures = ns.enter(|| {
        let guest = Guest::boot(&boot)?;
        let count = |row: &quick::Quick| Ok((row.id.to_owned(), row.count(&guest)?));
        ROWS.iter()
            .map(count)
            .collect::<Result<_>>()
            .with_context(|| format!("the guest's console said:\n{}", guest.log()))
    })?;
    let table = table::quick(Measured {
        now: &now,
        committed: Some(&committed),
    });
    println!("{table}");
    let counted = now
        .figures
        .iter()
        .map(|(id, figure)| (id.as_str(), figure.instructions));
    let complaints = quick::judge(counted, |id| Some(committed.figures.get(id)?.instructions));
    ensure!(
        complaints.is_empty(),
        "{}; if that is meant, record it by `cargo xtask bench --quick`:\n{table}",
        complaints.join("; ")
    );
    Ok(())
}
