//! `create`: creates a brane in a free instance, and starts it on request. If that fails, the instance is free again.

use super::reach_state::ReachState;
use crate::Manager;
use crate::ids::OperatorId;
use crate::instance::DesiredState;
use crate::operation::{Progress, open};
use crate::refusals;
use crate::shell::Context;
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::FamilyConfig;
use brane_abi::operator::{Done, Refusal};

pub(super) fn begin(
    m: &mut Manager,
    operator: OperatorId,
    name: String,
    (families, memory): (Option<Vec<FamilyConfig>>, Option<u32>),
    start: bool,
    cx: &mut Context<'_>,
) -> Result<Progress, Refusal> {
    m.check_brane_name(&name)?;
    if let Some(families) = &families {
        check_families(families)?;
    }
    let Some(instance) = m.instances.free() else {
        return Err(refusals::no_free_instance(&name, m.instances.len()));
    };
    let (desired, done) = match start {
        true => (DesiredState::Running, Done::Started(name.clone())),
        false => (DesiredState::Stopped(0), Done::Created(name.clone())),
    };
    let job = open(m, operator, ReachState { done }, cx)?;
    m.instances
        .create(instance, name, (families, memory), desired, job);
    m.devices.add_loopback(instance);
    Ok(Progress::Pending(job))
}

fn check_families(families: &[FamilyConfig]) -> Result<(), Refusal> {
    for (i, given) in families.iter().enumerate() {
        let family = given.family;
        if families[..i].iter().any(|f| f.family == family) {
            return Err(refusals::family_twice(family));
        }
        for (j, &protocol) in given.protocols.iter().enumerate() {
            if !family.protocols().contains(&protocol) {
                return Err(refusals::not_of_this_family(family, protocol));
            }
            if given.protocols[..j].contains(&protocol) {
                return Err(refusals::protocol_twice(family, protocol));
            }
        }
    }
    Ok(())
}
