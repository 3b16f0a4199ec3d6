//! Calls to the NIC driver, which is trusted: vifs and their counters.

use crate::wiring::channels;
use brane_abi::vif::{self, AddVif, BindVif, DeviceInfo, VifCounters, VifRef};
use brane_manager_core::{Driver, VifPlan};
use sel4_microkit::{Channel, MessageInfo, with_msg_bytes, with_msg_bytes_mut};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const NIC: Channel = Channel::new(channels::NIC0);

fn call<T: IntoBytes + Immutable>(label: u64, argument: &T) -> MessageInfo {
    let bytes = argument.as_bytes();
    with_msg_bytes_mut(|message| message[..bytes.len()].copy_from_slice(bytes));
    NIC.pp_call(MessageInfo::new(label, bytes.len().div_ceil(8)))
}

fn answer<T: FromBytes>(reply: MessageInfo) -> Option<T> {
    if reply.label() != vif::OK || reply.length() * 8 < size_of::<T>() {
        return None;
    }
    with_msg_bytes(|bytes| T::read_from_prefix(bytes).ok().map(|(value, _)| value))
}

fn done(reply: MessageInfo) -> Result<(), &'static str> {
    Err(match reply.label() {
        vif::OK => return Ok(()),
        vif::NO_SUCH_VIF => "no vif of that number",
        vif::IN_USE => "number, MAC address or port is taken",
        vif::BAD_MAC => "not the MAC address of a station",
        vif::NO_SUCH_PORT => "no such port",
        vif::BAD_LIMITS => "a rate, a prefix or their number cannot be",
        vif::FULL => "its table is full",
        _ => "it does not know the request",
    })
}

/// Creates a vif, limits it, and binds it to its brane's port: no frame passes before the limits are there.
pub fn set_up(plan: &VifPlan) -> Result<(), &'static str> {
    let add = AddVif {
        vif: plan.vif,
        mode: plan.mode,
        mac: plan.mac,
        vlan: 0,
        peer: 0,
    };
    done(call(vif::ADD_VIF, &add))?;
    done(call(vif::SET_LIMITS, &plan.limits()))?;
    let bind = BindVif {
        vif: plan.vif,
        brane: plan.brane as u32,
        port: plan.port,
    };
    done(call(vif::BIND_VIF, &bind))
}

/// The driver's counters, for the console.
pub struct Counters;

impl Driver for Counters {
    fn vif(&mut self, vif: u32) -> Option<VifCounters> {
        answer(call(vif::VIF_COUNTERS, &VifRef { vif }))
    }

    fn device(&mut self) -> Option<DeviceInfo> {
        answer(NIC.pp_call(MessageInfo::new(vif::DEVICE_INFO, 0)))
    }
}
