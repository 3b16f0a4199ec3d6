//! Calls to the NIC drivers, which are trusted: vifs, their limits and counters.

use crate::serial;
use crate::wiring::channels;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::log::{Level, Line};
use brane_abi::operator::DriverRefusal;
use brane_abi::vif::{
    self, AddVif, BindVif, DeviceInfo, SetMode, TABLE_PART, VifCounters, VifEntry, VifLimits, VifRef,
    VifTable, VifTableAt,
};
use brane_manager_core::Driver;
use sel4_microkit::{Channel, MessageInfo, heap, with_msg_bytes, with_msg_bytes_mut};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The drivers, by the number of their NIC.
pub const NICS: [Channel; channels::NIC.len()] = {
    let mut nics = [Channel::new(0); channels::NIC.len()];
    let mut k = 0;
    while k < nics.len() {
        nics[k] = Channel::new(channels::NIC[k]);
        k += 1;
    }
    nics
};

/// Maximum number of parts read from a driver's table: more than its vifs need.
const TABLE_PARTS: usize = 64;

fn call<T: IntoBytes + Immutable>(nic: u8, label: u64, argument: &T) -> Result<MessageInfo, DriverRefusal> {
    let channel = NICS.get(usize::from(nic)).ok_or(DriverRefusal::NoSuchNic)?;
    let bytes = argument.as_bytes();
    with_msg_bytes_mut(|message| message[..bytes.len()].copy_from_slice(bytes));
    Ok(channel.pp_call(MessageInfo::new(label, bytes.len().div_ceil(8))))
}

fn answer<T: FromBytes>(reply: MessageInfo) -> Option<T> {
    if reply.label() != vif::OK || reply.count() * 8 < size_of::<T>() {
        return None;
    }
    with_msg_bytes(|bytes| T::read_from_prefix(bytes).ok().map(|(value, _)| value))
}

fn done(reply: MessageInfo) -> Result<(), DriverRefusal> {
    DriverRefusal::from_label(reply.label())
}

/// The drivers, as the core calls them.
pub struct Nics;

impl Driver for Nics {
    fn nics(&self) -> usize {
        NICS.len()
    }

    fn add(&mut self, nic: u8, add: AddVif) -> Result<(), DriverRefusal> {
        done(call(nic, vif::ADD_VIF, &add)?)
    }

    fn remove(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal> {
        done(call(nic, vif::REMOVE_VIF, &VifRef { vif })?)
    }

    fn bind(&mut self, nic: u8, bind: BindVif) -> Result<(), DriverRefusal> {
        done(call(nic, vif::BIND_VIF, &bind)?)
    }

    fn unbind(&mut self, nic: u8, vif: u32) -> Result<(), DriverRefusal> {
        done(call(nic, vif::UNBIND_VIF, &VifRef { vif })?)
    }

    fn limit(&mut self, nic: u8, limits: VifLimits) -> Result<(), DriverRefusal> {
        done(call(nic, vif::SET_LIMITS, &limits)?)
    }

    fn mode(&mut self, nic: u8, vif: u32, mode: u32) -> Result<(), DriverRefusal> {
        done(call(nic, vif::SET_MODE, &SetMode { vif, mode })?)
    }

    fn counters(&mut self, nic: u8, vif: u32) -> Option<VifCounters> {
        answer(call(nic, vif::VIF_COUNTERS, &VifRef { vif }).ok()?)
    }

    fn device(&mut self, nic: u8) -> Option<DeviceInfo> {
        let channel = NICS.get(usize::from(nic))?;
        answer(channel.pp_call(MessageInfo::new(vif::DEVICE_INFO, 0)))
    }

    fn table(&mut self, nic: u8) -> Vec<VifEntry> {
        let mut all = Vec::new();
        for _ in 0..TABLE_PARTS {
            let at = VifTableAt {
                skip: all.len() as u32,
            };
            let Some(part) = call(nic, vif::VIF_TABLE, &at).ok().and_then(answer::<VifTable>) else {
                break;
            };
            let count = (part.count as usize).min(TABLE_PART);
            all.extend_from_slice(&part.entries[..count]);
            if count < TABLE_PART {
                break;
            }
        }
        all
    }

    fn logs(&self) -> Vec<(String, u32)> {
        serial::domains()
    }

    fn set_log_level(&mut self, domain: u32, level: Level) -> bool {
        serial::set_level(domain, level)
    }

    fn log_lines(&mut self, domain: u32, after: u64, line: &mut dyn FnMut(Line<'_>)) {
        serial::read(domain, after, line);
    }

    fn heap_used(&self) -> u64 {
        heap::used() as u64
    }
}
