//! Interactive use of the console: the commands of `branectl`, completion with Tab, history, Ctrl-C, a shell
//! inside a brane.

use anyhow::{Context, Result, ensure};
use image_tests::guest::{Guest, Net, PROMPT};
use image_tests::lifecycle::{Operator, PATIENCE, boot, well};

const CONFIG: &str = "two-nics";
const UP: &[u8] = b"\x1b[A";
const CTRL_C: &[u8] = b"\x03";

fn started() -> Result<Guest> {
    let mut guest = boot(CONFIG, Net::User, None)?;
    drop(Operator::when_started(&guest)?);
    // From here on the subscribers print nothing that would interrupt typed input.
    guest.wait_for("[subscriber-1] missed after-start blue inet ", PATIENCE)?;
    guest.command("help show")?;
    Ok(guest)
}

/// Sends keys and returns the console's output up to its next prompt.
fn keys(guest: &mut Guest, keys: &[u8], prompt: &str) -> Result<String> {
    guest.type_bytes(keys)?;
    let shown = guest.wait_for(prompt, PATIENCE);
    let shown = shown.with_context(|| format!("{:?}:\n{}", String::from_utf8_lossy(keys), guest.log()))?;
    Ok(shown.replace('\r', ""))
}

#[test]
fn the_commands_are_those_of_branectl() -> Result<()> {
    let mut guest = started()?;
    for (line, want) in [
        ("create green --family inet=icmp,udp", "green is created"),
        (
            "nicctl create vnic g0",
            "g0 is there, with the MAC address 02:77:00:00:",
        ),
        ("assign g0 green 10.0.2.30/24", "net0"),
        ("start green", "green is started"),
        ("branectl rename green/net0 lan0", "lan0"),
        ("in green ifconfig lan0", "10.0.2.30/24"),
        ("limit g0 --up 1M --mode private", "g0 has its new limits"),
        ("show green", "lan0"),
        ("stats g0", "g0"),
        ("subscribers", "subscriber-0"),
        ("hooks", "subscriber-0"),
        ("audit", ""),
        ("remove green/lan0", "g0 is no longer lan0 of green"),
        ("delete green --now", "green"),
        ("nicctl delete g0", "g0"),
        ("show green", "no brane named \"green\""),
        ("creat green", "no verb \"creat\": did you mean create?"),
        ("save x.toml", ""),
    ] {
        let shown = guest.command(line)?;
        ensure!(shown.contains(want), "{line}:\n{shown}");
    }
    // Console and `branectl` must print the same.
    for line in ["list -q", "nicctl list", "in red ifconfig net0 -j", "help limit"] {
        let shown = guest.command(line)?;
        let mut words = vec!["branectl"];
        words.extend(line.split(' '));
        let said = well(&guest, &words)?;
        let facts = |text: &str| -> Vec<String> {
            text.split_whitespace()
                .filter(|word| word.contains(':') && word.contains("02"))
                .map(str::to_owned)
                .collect()
        };
        let head = said.lines().next().unwrap_or_default().trim().to_owned();
        ensure!(
            line.contains("-j") || shown.contains(&head),
            "{line}: {shown}\nand branectl:\n{said}"
        );
        ensure!(
            line.contains("-j") || facts(&shown) == facts(&said),
            "{line}: {shown}\nand branectl:\n{said}"
        );
    }
    guest.untroubled()
}

#[test]
fn tab_completes_verbs_branes_devices_and_interfaces() -> Result<()> {
    let mut guest = started()?;
    guest.command("create green --start")?;
    guest.command("assign vnic3 green 10.0.3.30/24 --as lan0")?;
    for (typed, want) in [
        (&b"aud\t\r"[..], "audit"),
        (b"show gr\t\r", "show green"),
        (b"stats vnic2\t\r", "stats vnic2"),
        (b"address green/l\t 10.0.3.31/24\r", "address green/lan0"),
        (b"in gr\tifc\tlan\t\r", "in green ifconfig lan0"),
        (b"nic\tli\t\r", "nicctl list"),
    ] {
        let shown = keys(&mut guest, typed, PROMPT)?;
        let (line, answer) = shown.split_once('\n').context("no answer")?;
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(line.starts_with(want), "{line:?}, not {want:?}:\n{shown}");
        ensure!(
            !answer.contains("no verb") && !answer.contains("no brane") && !answer.contains("missing"),
            "{want}: {answer}"
        );
    }
    // Ambiguous: both candidates are shown.
    guest.type_bytes(b"sh\t\t")?;
    guest.wait_for("show", PATIENCE)?;
    guest.wait_for("shutdown", PATIENCE)?;
    keys(&mut guest, CTRL_C, PROMPT)?;
    guest.untroubled()
}

#[test]
fn lines_are_edited_and_recalled_and_ctrl_c_ends_what_runs() -> Result<()> {
    let mut guest = started()?;
    let first = guest.command("show red")?;
    ensure!(first.contains("vnic1"), "{first}");
    guest.command("show blue")?;
    // Up once selects blue, twice selects red.
    let shown = keys(&mut guest, &[UP, b"\r"].concat(), PROMPT)?;
    ensure!(shown.contains("vnic2") && !shown.contains("vnic1"), "{shown}");
    let shown = keys(&mut guest, &[UP, UP, b"\r"].concat(), PROMPT)?;
    ensure!(shown.contains("vnic1") && !shown.contains("vnic2"), "{shown}");
    // Backspace and cursor left.
    let shown = keys(&mut guest, b"show blux\x7fe\r", PROMPT)?;
    ensure!(shown.contains("vnic2"), "{shown}");
    let shown = keys(&mut guest, b"show bue\x1b[D\x1b[Dl\r", PROMPT)?;
    ensure!(shown.contains("vnic2"), "{shown}");
    // Ctrl-C discards a line, and ends a command that never ends by itself.
    let shown = keys(&mut guest, b"delete red\x03", PROMPT)?;
    ensure!(shown.contains("^C"), "{shown}");
    guest.type_line("in red ping 127.0.0.1")?;
    guest.wait_for("bytes from 127.0.0.1", PATIENCE)?;
    guest.wait_for("bytes from 127.0.0.1", PATIENCE)?;
    let shown = keys(&mut guest, CTRL_C, PROMPT)?;
    ensure!(shown.contains(" sent, ") && shown.contains("0% lost"), "{shown}");
    guest.type_line("events")?;
    guest.wait_for("started", PATIENCE)?;
    keys(&mut guest, CTRL_C, PROMPT)?;
    ensure!(guest.command("list")?.contains("red"), "red is gone");
    guest.untroubled()
}

#[test]
fn enter_goes_into_a_brane_and_exit_leaves_it() -> Result<()> {
    let mut guest = started()?;
    let inside = "red# ";
    keys(&mut guest, b"enter red\r", inside)?;
    let shown = keys(&mut guest, b"ifconfig\r", inside)?;
    ensure!(
        shown.contains("lo0") && shown.contains("10.0.2.16") && !shown.contains("10.0.2.15"),
        "{shown}"
    );
    let shown = keys(&mut guest, b"ifconfig net0 inet 10.0.2.66/24 alias\r", inside)?;
    ensure!(shown.contains("net0 of red has its new addresses"), "{shown}");
    let shown = keys(&mut guest, b"ping -c 1 10.0.2.66\r", inside)?;
    ensure!(shown.contains("1 received"), "{shown}");
    let shown = keys(&mut guest, b"netst\t-i\r", inside)?;
    ensure!(shown.contains("net0"), "{shown}");
    let shown = keys(&mut guest, b"ifconfig net1\r", inside)?;
    ensure!(shown.contains("no interface named \"net1\""), "{shown}");
    keys(&mut guest, b"exit\r", PROMPT)?;
    ensure!(
        guest
            .command("enter purple")?
            .contains("no brane named \"purple\""),
        "entered what is not there"
    );
    // If the brane is deleted meanwhile, the shell reports it.
    guest.command("create green --start")?;
    keys(&mut guest, b"enter green\r", "green# ")?;
    keys(&mut guest, b"exit\r", PROMPT)?;
    guest.untroubled()
}
