//! Interfaces at the second NIC: each wire carries only the frames of its own NIC, and a brane can have a NIC
//! itself.

use anyhow::{Context, Result, ensure};
use brane_abi::net::MacAddr;
use brane_abi::operator::{DeviceConfig, Request};
use image_tests::guest::{Guest, Net};
use image_tests::lifecycle::{Operator, assign, boot, vnic};
use image_tests::wire::{self, Mac, Socket, Wire};
use image_tests::{BRANES, PATIENCE};
use operator_cli::refusals::Words;
use std::net::Ipv4Addr;
use std::time::Duration;

const CONFIG: &str = "two-nics";
const SECOND: Duration = Duration::from_secs(1);
/// An address at the second NIC.
const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 40);
const THERE_WITH: &str = "10.0.2.40/24";
/// MAC addresses of QEMU's NICs.
const NIC0_MAC: Mac = [0x02, 0x77, 0xf0, 0, 0, 0];
const NIC1_MAC: Mac = [0x02, 0x77, 0x01, 0, 0, 0];

fn two_wires() -> Result<(Wire, Wire, Guest, Operator)> {
    let (first, second) = (Socket::new()?, Socket::new()?);
    let guest = boot(
        CONFIG,
        Net::Wire(first.address()?),
        Some(Net::Wire(second.address()?)),
    )?;
    let (first, second) = (first.accept()?, second.accept()?);
    let operator = Operator::when_started(&guest)?;
    Ok((first, second, guest, operator))
}

fn on_nic1(name: &str) -> DeviceConfig {
    DeviceConfig { nic: 1, ..vnic(name) }
}

/// Checks that nothing on this wire has the address, and that no frame with that MAC address leaves on it.
fn not_here(wire: &mut Wire, ip: Ipv4Addr, mac: Mac) -> Result<()> {
    ensure!(
        wire.resolve(ip, SECOND).is_err(),
        "{ip} answers on the other wire"
    );
    wire.send(&wire::echo_request(mac, ip, 9))?;
    let heard = wire.listen(SECOND / 2)?;
    ensure!(
        !heard.iter().any(|frame| wire::source(frame) == Some(mac)),
        "frames of {mac:02x?} on the other wire"
    );
    Ok(())
}

fn here(wire: &mut Wire, ip: Ipv4Addr, mac: Mac) -> Result<()> {
    let found = wire.resolve(ip, PATIENCE)?;
    ensure!(found == mac, "{ip} is at {found:02x?}, not {mac:02x?}");
    ensure!(wire.ping(mac, ip, 1, PATIENCE)?, "{ip} does not answer");
    Ok(())
}

#[test]
fn a_vnic_at_the_second_nic_answers_on_that_wire_alone() -> Result<()> {
    let (mut first, mut second, guest, mut operator) = two_wires()?;
    let MacAddr(mac) = operator.device(on_nic1("far0"))?;
    operator.create("green", true)?;
    operator.assign("far0", "green", &[THERE_WITH])?;
    here(&mut second, THERE, mac)?;
    not_here(&mut first, THERE, mac)?;
    for brane in &BRANES {
        let mac = first.resolve(brane.v4, PATIENCE)?;
        here(&mut first, brane.v4, mac)?;
        not_here(&mut second, brane.v4, mac)?;
    }
    operator.clean()?;
    guest.untroubled()
}

#[test]
fn a_brane_with_interfaces_at_both_nics_answers_at_both() -> Result<()> {
    let (mut first, mut second, guest, mut operator) = two_wires()?;
    let near = first.resolve(BRANES[1].v4, PATIENCE)?;
    let MacAddr(far) = operator.device(on_nic1("far0"))?;
    let MacAddr(farther) = operator.device(on_nic1("far1"))?;
    operator.assign("far0", "red", &["10.0.7.40/24"])?;
    operator.assign("far1", "red", &["10.0.8.40/24"])?;
    here(&mut first, BRANES[1].v4, near)?;
    for (ip, mac) in [([10, 0, 7, 40], far), ([10, 0, 8, 40], farther)] {
        here(&mut second, ip.into(), mac)?;
        not_here(&mut first, ip.into(), mac)?;
    }
    operator.device(on_nic1("far2"))?;
    let refusal = operator.refused(&assign("far2", "red", None))?;
    ensure!(
        refusal.words().what == "brane \"red\" has no free port at nic1: 2 are in use",
        "{refusal:?}"
    );
    // It stays at its NIC when it moves between branes.
    let there = Ipv4Addr::new(10, 0, 9, 40);
    operator.assign("far0", "blue", &["10.0.9.40/24"])?;
    here(&mut second, there, far)?;
    not_here(&mut first, there, far)?;
    operator.clean()?;
    guest.untroubled()
}

#[test]
fn a_nic_itself_can_be_an_interface_with_its_own_address() -> Result<()> {
    let (mut first, mut second, guest, mut operator) = two_wires()?;
    let devices = operator.devices()?;
    let phys = devices
        .iter()
        .find(|d| d.config.name == "nic1")
        .context("nic1 is no device")?;
    ensure!(
        phys.config.kind.word() == "phys" && phys.config.mac == Some(MacAddr(NIC1_MAC)),
        "{phys:?}"
    );
    operator.create("green", true)?;
    operator.assign("nic1", "green", &[THERE_WITH])?;
    here(&mut second, THERE, NIC1_MAC)?;
    not_here(&mut first, THERE, NIC1_MAC)?;
    operator.clean()?;
    // Vnics continue to work beside it.
    let MacAddr(mac) = operator.device(on_nic1("far0"))?;
    operator.assign("far0", "green", &["10.0.9.40/24"])?;
    here(&mut second, Ipv4Addr::new(10, 0, 9, 40), mac)?;
    let refusal = operator.refused(&Request::DeleteDevice("nic1".to_owned()))?;
    ensure!(
        refusal.words().what == "\"nic1\" is the NIC itself",
        "{refusal:?}"
    );
    let receipt = operator.delete("green")?;
    ensure!(receipt.released.contains(&"nic1".to_owned()), "{receipt:?}");
    ensure!(
        second.resolve(THERE, SECOND).is_err(),
        "the device answers although it is unassigned"
    );
    operator.clean()?;
    guest.untroubled()
}

#[test]
fn the_nic_that_all_share_can_be_one_branes_interface_too() -> Result<()> {
    let (mut first, mut second, guest, mut operator) = two_wires()?;
    operator.create("green", true)?;
    operator.assign("nic0", "green", &[THERE_WITH])?;
    here(&mut first, THERE, NIC0_MAC)?;
    not_here(&mut second, THERE, NIC0_MAC)?;
    for brane in &BRANES {
        let mac = first.resolve(brane.v4, PATIENCE)?;
        ensure!(mac != NIC0_MAC, "{} has the NIC's own address", brane.name);
        here(&mut first, brane.v4, mac)?;
    }
    operator.clean()?;
    operator.done(&Request::Remove("nic0".to_owned()))?;
    ensure!(
        first.resolve(THERE, SECOND).is_err(),
        "the device answers although it is unassigned"
    );
    let red = first.resolve(BRANES[1].v4, PATIENCE)?;
    here(&mut first, BRANES[1].v4, red)?;
    operator.clean()?;
    guest.untroubled()
}
