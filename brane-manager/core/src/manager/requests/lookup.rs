//! Names in requests: each kind is looked up in one place, which says what there is instead.

use super::*;

impl Manager {
    /// The one place where a name becomes a brane.
    pub(crate) fn brane(&self, name: &str) -> Result<usize, Refusal> {
        let found = self
            .branes
            .iter()
            .position(|b| b.config.is_some() && b.name() == name);
        found.ok_or_else(|| {
            let names = self.branes.iter().map(Brane::name).filter(|n| !n.is_empty());
            refusal(
                format!("no brane named \"{}\"", printable(name)),
                listed("branes", names),
            )
        })
    }

    /// The one place where a name becomes an interface of a brane; its device.
    pub(super) fn interface(&self, brane: usize, name: &str) -> Result<&InterfaceConfig, Refusal> {
        let b = &self.branes[brane];
        let found = b.interfaces().iter().find(|i| i.name == name);
        found.ok_or_else(|| match name {
            "lo0" => refusal(
                "lo0 is part of every brane as it is",
                "other interfaces can be changed",
            ),
            _ => refusal(
                format!(
                    "brane \"{}\" has no interface named \"{}\"",
                    b.name(),
                    printable(name)
                ),
                listed("interfaces", b.interfaces().iter().map(|i| i.name.as_str())),
            ),
        })
    }

    /// A brane that nobody is changing.
    pub(super) fn settled(&self, name: &str) -> Result<usize, Refusal> {
        let brane = self.brane(name)?;
        match self.branes[brane].moving() || self.desk.locked(brane) {
            true => Err(refusal(
                format!(
                    "brane \"{name}\" is being changed ({})",
                    self.branes[brane].state.word()
                ),
                "try again in a moment",
            )),
            false => Ok(brane),
        }
    }

    pub(super) fn running_brane(&self, name: &str, what: &str) -> Result<usize, Refusal> {
        let brane = self.brane(name)?;
        match self.branes[brane].state {
            State::Started => Ok(brane),
            state => Err(refusal(
                format!("brane \"{name}\" is {}, it cannot be {what} now", state.word()),
                "`list` shows when it is started",
            )),
        }
    }

    /// Looks up a device that no job is changing. A job on one end of a pair locks both, because the ends are deleted together.
    pub(super) fn unlocked_device(&self, name: &str) -> Result<usize, Refusal> {
        let device = self.registry.resolve(name)?;
        let locked = |&end: &usize| {
            let end = self.registry.get(end);
            end.is_some_and(|d| self.desk.vif_locked(d.vif))
        };
        match self.registry.ends(device).iter().any(locked) {
            true => Err(refusal(
                format!("device \"{name}\" is being changed"),
                "try again in a moment",
            )),
            false => Ok(device),
        }
    }

    /// Checks that a brane can have this name: no brane has it, and no brane is being renamed to it.
    pub(super) fn free_brane(&self, name: &str) -> Result<(), Refusal> {
        names::check(name)?;
        let has = |b: &Brane| b.config.is_some() && b.name() == name;
        match self.branes.iter().any(has) || self.desk.renames_to(name) {
            true => Err(refusal(
                format!("the name \"{name}\" is taken by a brane"),
                "choose another one",
            )),
            false => Ok(()),
        }
    }
}
