//! Counts the resources that can be exhausted.

use crate::Manager;
use crate::driver::Driver;
use crate::instance::LifecycleState;
use brane_abi::operator::Free;

/// Counts the free and used resources of the whole system.
pub(crate) fn free(m: &Manager, driver: &mut dyn Driver) -> Free {
    let interfaces: usize = m.instances.branes().map(|b| b.interfaces().len()).sum();
    let branes = m.instances.branes().count();
    let idle = m.instances.iter().filter(|b| b.state == LifecycleState::Idle);
    let owned = m.devices.iter().filter(|d| d.owner.is_some()).count();
    let nics = m.devices.nics();
    let ports = m.instances.len() * m.devices.ports_per_nic() * m.devices.nics().count();
    let vifs: usize = nics.map(|n| driver.table(n).len()).sum();
    Free {
        slots: idle.count() as u32,
        ports: ports.saturating_sub(owned) as u32,
        names: (branes + interfaces + m.devices.len()) as u32,
        macs: m.devices.iter().filter(|d| d.config.mac.is_some()).count() as u32,
        vifs: vifs as u32,
        bytes: driver.heap_used(),
    }
}
