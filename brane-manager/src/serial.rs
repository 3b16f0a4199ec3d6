//! Calls to serial: log levels, and the stored lines of each domain. Serial is trusted with the screen. The text that
//! it writes into the region `kept-lines` is copied and checked.

use crate::wiring::{channels, regions};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::hook::FILTER_NAMES;
use brane_abi::layout::NIC_NAMES;
use brane_abi::log::{self, Level, Line};
use sel4_microkit::{Channel, MessageInfo, get_mr, set_mr};

const SERIAL: Channel = Channel::new(channels::SERIAL);

/// Returns the names of the domains that have a log, each with its number: its id at the manager and at serial.
pub fn domains() -> Vec<(String, u32)> {
    let family = |base: &'static str, ids: &'static [usize]| {
        let named = ids.iter().enumerate();
        named.map(move |(n, &id)| (format!("{base}-{n}"), id as u32))
    };
    let mut all: Vec<(String, u32)> = family("brane", &crate::children::BRANE).collect();
    all.extend(family("services", &crate::children::SERVICES));
    all.extend(family("subscriber", &crate::children::SUBSCRIBER));
    let nics = NIC_NAMES.into_iter().zip(channels::NIC);
    all.extend(nics.map(|(name, id)| (name.into(), id as u32)));
    let filters = FILTER_NAMES.into_iter().zip(channels::FILTER);
    all.extend(filters.map(|(name, id)| (name.into(), id as u32)));
    all.push(("console".into(), crate::children::CONSOLE as u32));
    all.push(("remote".into(), crate::children::REMOTE as u32));
    all.push(("line".into(), crate::children::LINE as u32));
    all.push(("manager".into(), log::OWN));
    all
}

/// Sets the level of a domain. Returns false if serial does not know it.
pub fn set_level(number: u32, level: Level) -> bool {
    set_mr(0, number.into());
    set_mr(1, level.to_byte().into());
    SERIAL.pp_call(MessageInfo::new(log::SET_LEVEL, 2)).label() == log::OK
}

/// Reads the stored lines of a domain with numbers above `after`, the oldest first.
pub fn read(number: u32, after: u64, line: &mut dyn FnMut(Line<'_>)) {
    set_mr(0, number.into());
    set_mr(1, after);
    if SERIAL.pp_call(MessageInfo::new(log::READ, 2)).label() != log::OK {
        return;
    }
    let region = regions::KEPT_LINES;
    let len = usize::try_from(get_mr(0)).map_or(0, |len| len.min(region.size));
    let mut copy = Vec::with_capacity(len);
    // SAFETY: `len` bytes lie in the region, which is mapped readable for this domain's life. Serial writes it only in
    // a call of this domain. If it wrote now, the copy would have other bytes, which are checked like any bytes.
    unsafe {
        core::ptr::copy_nonoverlapping(region.as_ptr(), copy.as_mut_ptr(), len);
        copy.set_len(len);
    }
    log::lines(&copy).for_each(line);
}
