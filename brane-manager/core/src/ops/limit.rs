//! `limit`: changes mode, allowed addresses and rates of a device. If the driver refuses, they remain unchanged.

use crate::Manager;
use crate::devices::{LimitError, MAX_ALLOW};
use crate::operation::Progress;
use crate::refusals;
use crate::shell::Context;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::net::Cidr;
use brane_abi::operator::{Answer, DeviceConfig, Done, Mode, Refusal};

pub(super) fn run(
    m: &mut Manager,
    name: &str,
    (mode, allow): (Option<Mode>, Option<Vec<Cidr>>),
    (rate_up, rate_down): (Option<u64>, Option<u64>),
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    let device = m.unlocked_device(name)?;
    // A rate of 0 removes the limit.
    let rate = |old, new: Option<u64>| new.map_or(old, |r| (r != 0).then_some(r));
    let change = |c: &mut DeviceConfig| {
        c.mode = mode.unwrap_or(c.mode);
        if let Some(allow) = allow {
            c.allow = allow;
        }
        c.rate_up = rate(c.rate_up, rate_up);
        c.rate_down = rate(c.rate_down, rate_down);
    };
    m.devices
        .limit(device, change, cx.driver)
        .map_err(|why| match why {
            LimitError::TooManyPrefixes(count) => refusals::too_many_prefixes(count, MAX_ALLOW),
            LimitError::Driver(why) => refusals::limits_refused_by_driver(name, why),
        })?;
    m.event(cx.now, "limited", None, Some(name), String::new());
    Ok(Progress::Done(Answer::Done(Done::Limited(name.into()))))
}
