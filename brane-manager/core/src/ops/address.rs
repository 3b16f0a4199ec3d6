//! `address`: changes the addresses of a brane's interface. The brane may refuse (`ADJUST`).

use crate::Manager;
use crate::encode;
use crate::ids::{BraneId, OperatorId};
use crate::instance::Input;
use crate::jobs::Locks;
use crate::operation::{Next, Operation, Progress, Resume, Resumed, open_with_command};
use crate::refusals;
use crate::shell::Context;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{InterfaceConfig, command};
use brane_abi::net::Cidr;
use brane_abi::operator::{Addressing, Answer, Done, Refusal};

/// Maximum number of fixed addresses of an interface.
const MAX_ADDRESSES: usize = 4;

/// State after `ADJUST` was sent to the brane.
#[derive(Debug)]
pub(crate) struct Address {
    pub brane: BraneId,
    pub interface: InterfaceConfig,
}

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    (brane, interface): (&str, &str),
    addressing: Addressing,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let brane = m.unlocked_brane(brane)?;
    let mut interface = m.interface(brane, interface)?.clone();
    set_addressing(&mut interface, addressing)?;
    let payload = encode(&interface);
    let address = Address { brane, interface };
    match m.instances[brane].configured {
        true => open_with_command(m, operator, address, (brane, command::ADJUST, payload), cx),
        false => Ok(Progress::Done(address.apply(m, cx))),
    }
}

impl Operation for Address {
    fn resume(self: Box<Self>, m: &mut Manager, _: Resumed, resume: Resume, cx: &mut Context<'_>) -> Next {
        resume.command_done().map(|()| self.apply(m, cx)).into()
    }

    fn locks(&self) -> Locks {
        Locks {
            branes: Vec::from([self.brane]),
            ..Locks::default()
        }
    }
}

impl Address {
    /// Writes the new addresses to the configuration.
    fn apply(self, m: &mut Manager, cx: &mut Context<'_>) -> Answer {
        let (name, device) = (self.interface.name.clone(), self.interface.device.clone());
        m.instances.replace_interface(self.brane, self.interface);
        let owner = m.instances[self.brane].name().to_string();
        m.event(cx.now, "adjusted", Some(&owner), Some(&device), String::new());
        m.step(self.brane, Input::Reconfigured, cx);
        Answer::Done(Done::Addressed {
            interface: name,
            brane: owner,
        })
    }
}

/// Checks addresses and writes them to an interface.
pub(super) fn set_addressing(interface: &mut InterfaceConfig, to: Addressing) -> Result<(), Refusal> {
    if to.addresses.len() > MAX_ADDRESSES {
        return Err(refusals::too_many_addresses(to.addresses.len(), MAX_ADDRESSES));
    }
    let impossible = |a: &&Cidr| a.prefix > if a.ip.is_ipv4() { 32 } else { 128 };
    if let Some(cidr) = to.addresses.iter().find(impossible) {
        return Err(refusals::impossible_prefix(cidr));
    }
    interface.addresses = to.addresses;
    interface.gateway4 = to.gateway4;
    interface.gateway6 = to.gateway6;
    interface.dhcp4 = to.dhcp4;
    interface.slaac = to.slaac;
    Ok(())
}
