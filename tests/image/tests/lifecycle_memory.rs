//! A brane whose tables do not fit into its memory is not created, whichever table it is, and leaves nothing behind.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, boot, run, well};
use image_tests::netns::NetNs;
use image_tests::ping::{Pinger, Train};
use image_tests::{BRANES, PATIENCE};
use std::net::IpAddr;
use std::time::Duration;

/// The steps of a creation that can fail, in their order.
const STEPS: [&str; 8] = [
    "inet",
    "inet icmp",
    "inet udp",
    "inet tcp",
    "inet6",
    "inet6 icmp6",
    "inet6 udp",
    "inet6 tcp",
];

/// A refusal for want of memory.
struct Shortage {
    step: String,
    wanted: u32,
    left: u32,
}

/// Creates a brane with so many bytes of memory. Returns the refusal, or `None` if the brane was created.
fn create(guest: &Guest, bytes: u32) -> Result<Option<Shortage>> {
    let said = run(
        guest,
        &["branectl", "create", "green", "--memory", &bytes.to_string()],
    )?;
    if said.status == 0 {
        return Ok(None);
    }
    let shortage = || {
        let (before, after) = said.err.split_once(": no memory: ")?;
        let (wanted, after) = after.split_once(" bytes wanted, ")?;
        let (left, _) = after.split_once(" left")?;
        let step = before.rsplit(": ").next()?;
        Some(Shortage {
            step: step.to_owned(),
            wanted: wanted.parse().ok()?,
            left: left.parse().ok()?,
        })
    };
    Ok(Some(
        shortage().with_context(|| format!("another refusal: {said:?}"))?,
    ))
}

#[test]
fn a_creation_fails_for_want_of_memory_at_each_step_and_leaves_nothing() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot("default", Net::Tap(&ns), None)?;
    drop(Operator::when_started(&guest)?);
    let red = IpAddr::V4(BRANES[1].v4);
    let train = ns.enter(|| -> Result<Train> {
        ensure!(
            Pinger::new(red)?.until_answer(PATIENCE)?.is_some(),
            "red does not answer"
        );
        Ok(Train::start(red, Duration::from_millis(20))?)
    })?;
    let list = || well(&guest, &["branectl", "list"]);
    let before = list()?;
    let (mut bytes, mut steps) = (0, Vec::new());
    while let Some(shortage) = create(&guest, bytes)? {
        // The next attempt gets exactly what this step lacked, so it fails at the next step.
        ensure!(
            shortage.wanted > shortage.left,
            "{} bytes would do",
            shortage.left
        );
        bytes += shortage.wanted - shortage.left;
        ensure!(list()? == before, "something is left of the brane:\n{}", list()?);
        if steps.last() != Some(&shortage.step) {
            steps.push(shortage.step);
        }
        ensure!(steps.len() <= STEPS.len(), "{steps:?}");
    }
    ensure!(steps == STEPS, "{steps:?}");
    // The brane that fits is a whole one, and `save` remembers its memory.
    let saved = well(&guest, &["branectl", "save"])?;
    ensure!(saved.contains(&format!("memory = {bytes}")), "{saved}");
    well(&guest, &["branectl", "start", "green"])?;
    well(&guest, &["branectl", "delete", "green", "--now"])?;
    ensure!(list()? == before, "something is left of the brane:\n{}", list()?);
    let said = run(&guest, &["branectl", "create", "green", "--memory", "much"])?;
    ensure!(said.status != 0 && said.err.contains("much"), "{said:?}");
    train.stop_unharmed("red")
}
