//! Requests about branes: create, go to a goal, rename.

use super::*;

impl Manager {
    /// Gives a brane a goal and a job that waits for it.
    pub(super) fn go(
        &mut self,
        operator: usize,
        brane: usize,
        goal: Goal,
        work: Work,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        let begun = self.begin(operator, work, Locks::default(), cx)?;
        let Later(job) = begun else { return Ok(begun) };
        let b = &mut self.branes[brane];
        b.goal = goal;
        b.job = Some(job);
        b.cut = 0;
        if b.state == State::Refused && goal == Goal::Started {
            self.stop(brane, "it is to be tried again", cx);
        }
        Ok(begun)
    }

    pub(super) fn create(
        &mut self,
        operator: usize,
        name: String,
        families: Option<Vec<FamilyConfig>>,
        start: bool,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        self.free_brane(&name)?;
        if let Some(families) = &families {
            check_families(families)?;
        }
        let free = |b: &Brane| b.state == State::Idle && b.job.is_none();
        // One whose domain is up already comes first.
        let up = self.branes.iter().position(|b| free(b) && b.linked);
        let Some(brane) = up.or_else(|| self.branes.iter().position(free)) else {
            let have = self.branes.len();
            return Err(refusal(
                format!("no free instance for \"{name}\": all {have} are in use"),
                "delete a brane, or raise `instances` in configs.toml and build the image anew",
            ));
        };
        let goal = if start { Goal::Started } else { Goal::Held(0) };
        let said = match start {
            true => format!("{name} is started"),
            false => format!("{name} is created; `branectl start {name}` starts it"),
        };
        let work = Work::Goal(said);
        let begun = self.begin(operator, work, Locks::default(), cx)?;
        let Later(job) = begun else { return Ok(begun) };
        let b = &mut self.branes[brane];
        b.config = Some(BraneConfig {
            id: brane as u32,
            name,
            families,
            ..BraneConfig::default()
        });
        b.state = State::Starting;
        b.goal = goal;
        b.new = true;
        b.job = Some(job);
        b.restarts = 0;
        b.last_fault = String::new();
        b.cut = 0;
        if b.step == Some(Step::Delay) {
            b.failed_at = None;
        }
        Ok(begun)
    }

    pub(super) fn rename(
        &mut self,
        operator: usize,
        brane: usize,
        interface: Option<String>,
        to: String,
        cx: &mut Cx<'_>,
    ) -> Result<Begun, Refusal> {
        if !self.takes_orders(brane) {
            return Ok(Now(self.renamed(brane, interface, to, cx)));
        }
        let payload = encode(&Rename {
            interface: interface.clone(),
            to: to.clone(),
        });
        let locks = Locks {
            branes: Vec::from([brane]),
            vif: None,
        };
        let begun = self.begin(operator, Work::Rename { brane, interface, to }, locks, cx)?;
        self.send_for(begun, brane, command::RENAME, payload, false, cx)
    }
}

fn check_families(families: &[FamilyConfig]) -> Result<(), Refusal> {
    for (i, given) in families.iter().enumerate() {
        let name = given.family.name();
        if families[..i].iter().any(|f| f.family == given.family) {
            return Err(refusal(format!("family {name} is named twice"), "name it once"));
        }
        for (j, protocol) in given.protocols.iter().enumerate() {
            if !given.family.protocols().contains(protocol) {
                let can = given.family.protocols().iter().map(|p| p.name());
                return Err(refusal(
                    format!("family {name} has no protocol {}", protocol.name()),
                    listed("protocols", can),
                ));
            }
            if given.protocols[..j].contains(protocol) {
                return Err(refusal(
                    format!("protocol {} of {name} is named twice", protocol.name()),
                    "name it once",
                ));
            }
        }
    }
    Ok(())
}
