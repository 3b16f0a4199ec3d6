//! Owns the captures under way, and the programs that operators collect for their next ones. A request cannot hold a whole program.
//!
//! Operators are not trusted. There are at most [`MAX_CAPTURES`] captures, each is the job of its operator, and each operator
//! collects one program for each link type. [`crate::ops`] checks them and sends the branes their commands.

use crate::devices::Devices;
use crate::ids::{BraneId, DeviceId, JobId, OperatorId};
use crate::instance::{DesiredState, Instance, Instances, LifecycleState};
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::capture::{CaptureConfig, End, Link, MAX_CAPTURES, Stage};
use brane_abi::filter::Instruction;

/// What a capture shows, by the identifiers of the owners. Renames do not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    All,
    Brane(BraneId),
    /// One interface of a brane; without a device, it is `lo0`.
    Interface(BraneId, Option<DeviceId>),
}

impl Target {
    /// Returns true if the brane of an instance takes part.
    pub(crate) fn concerns(self, id: BraneId) -> bool {
        match self {
            Target::All => true,
            Target::Brane(brane) | Target::Interface(brane, _) => brane == id,
        }
    }
}

/// A capture under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub operator: OperatorId,
    pub job: JobId,
    pub target: Target,
    pub config: CaptureConfig,
    /// Name of the brane and of the device at the beginning, for events.
    pub names: (Option<String>, Option<String>),
    /// The brane's number since the manager's start, and its restarts. Another brane can get the instance.
    pub incarnation: (u64, u32),
    /// The brane has been started.
    pub started: bool,
    /// Why it ends. New configurations do not name it.
    pub end: Option<End>,
}

/// The collected programs of an operator.
#[derive(Debug)]
struct Staged {
    operator: OperatorId,
    /// By link type.
    programs: [Vec<Instruction>; 2],
}

/// All captures.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    running: Vec<Running>,
    staged: Vec<Staged>,
}

impl Captures {
    /// Returns true if no capture is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.running.len() >= MAX_CAPTURES
    }

    pub(crate) fn running(&self) -> &[Running] {
        &self.running
    }

    pub(crate) fn add(&mut self, capture: Running) {
        self.running.push(capture);
    }

    pub(crate) fn find(&self, tag: u32) -> Option<&Running> {
        self.running.iter().find(|capture| capture.config.tag == tag)
    }

    pub(crate) fn remove(&mut self, tag: u32) -> Option<Running> {
        let at = self.running.iter().position(|c| c.config.tag == tag)?;
        Some(self.running.remove(at))
    }

    /// Returns the configurations of the captures that the brane of an instance takes part in.
    pub(crate) fn of(&self, id: BraneId) -> impl Iterator<Item = &CaptureConfig> {
        let live = self.running.iter().filter(|capture| capture.end.is_none());
        live.filter(move |c| c.target.concerns(id))
            .map(|capture| &capture.config)
    }

    /// Ends an operator's capture. Returns false if the operator has none of this tag.
    pub(crate) fn stop(&mut self, operator: OperatorId, tag: u32, end: End) -> bool {
        let own = |c: &&mut Running| c.operator == operator && c.config.tag == tag;
        let Some(capture) = self.running.iter_mut().find(own) else {
            return false;
        };
        capture.end.get_or_insert(end);
        true
    }

    /// Ends the captures whose brane or interface has gone.
    pub(crate) fn observe(&mut self, instances: &Instances, devices: &Devices) {
        for capture in &mut self.running {
            let (brane, device) = match capture.target {
                Target::All => continue,
                Target::Brane(brane) => (brane, None),
                Target::Interface(brane, device) => (brane, Some(device)),
            };
            let end = match instances.get(brane) {
                Some(b) => capture.end_by(b, device, devices),
                None => Some(End::BraneGone),
            };
            capture.end = capture.end.or(end);
        }
    }

    /// Appends to an operator's programs. Returns the numbers of their instructions, or `None` if there is nothing to append to.
    pub(crate) fn stage(&mut self, operator: OperatorId, stage: Stage) -> Option<[usize; 2]> {
        if stage.first {
            self.forget_operator(operator);
            self.staged.push(Staged {
                operator,
                programs: Default::default(),
            });
        }
        let staged = self.staged.iter_mut().find(|s| s.operator == operator)?;
        staged.programs[stage.link as usize].extend(stage.program);
        Some([Link::Ethernet, Link::Raw].map(|link| staged.programs[link as usize].len()))
    }

    /// Removes and returns an operator's programs for Ethernet and for `lo0`.
    pub(crate) fn take_staged(&mut self, operator: OperatorId) -> Option<[Vec<Instruction>; 2]> {
        let at = self.staged.iter().position(|s| s.operator == operator)?;
        Some(self.staged.remove(at).programs)
    }

    /// Forgets the programs of an operator.
    pub(crate) fn forget_operator(&mut self, operator: OperatorId) {
        self.staged.retain(|s| s.operator != operator);
    }
}

impl Running {
    /// Returns why the state of its brane ends the capture. `device` is that of its only interface; the inner `None` is `lo0`.
    fn end_by(&mut self, b: &Instance, device: Option<Option<DeviceId>>, devices: &Devices) -> Option<End> {
        let (identity, restarts) = self.incarnation;
        let absent = matches!(
            b.state,
            LifecycleState::Destroying | LifecycleState::Recycling | LifecycleState::Idle
        );
        if b.identity != identity || absent {
            return Some(End::BraneGone);
        }
        self.started |= b.state == LifecycleState::Started;
        let stopped = b.state == LifecycleState::Created && b.desired != DesiredState::Running;
        if self.started && stopped {
            return Some(End::BraneGone);
        }
        let device = device?;
        if b.restarts != restarts || b.state == LifecycleState::Failed {
            return Some(End::BraneFailed);
        }
        let owner = devices.get(device?).and_then(|d| d.owner);
        (owner.map(|owner| owner.brane) != Some(b.id())).then_some(End::Moved)
    }
}
