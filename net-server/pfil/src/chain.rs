//! The pfil head: the hooks that packets pass at one point of a brane, in the order of their ranks.
//!
//! Owns the order. A hook is known by its key, which identifies the subscriber that the caller runs. Subscribers are not trusted
//! with the order: names and keys are unique, and the number of hooks is limited.

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::operator::MAX_NAME;

/// Hooks of a head, at most.
pub const MAX_HOOKS: usize = 16;

/// Result of a hook, or of a filter, for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on.
    Pass,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped, and its sender gets a TCP reset or an ICMP error.
    Reject,
    /// The packet goes on, and its content has changed.
    Modified,
    /// The hook has taken the packet.
    Absorb,
}

impl Verdict {
    /// Returns true if the packet goes on.
    pub const fn goes_on(self) -> bool {
        matches!(self, Verdict::Pass | Verdict::Modified)
    }
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook<K> {
    /// Hooks with a lower rank run first. Hooks of one rank run in the order in which they got it.
    pub rank: u16,
    /// Unique name.
    pub name: String,
    /// Unique key.
    pub key: K,
}

/// Reason for which a hook is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The name is empty, or longer than [`MAX_NAME`].
    Name,
    /// A hook has this name already.
    NameInUse,
    /// A hook has this key already.
    KeyInUse,
    /// The head has [`MAX_HOOKS`] hooks.
    Full,
}

/// The hooks of one point.
#[derive(Clone, Debug)]
pub struct Head<K> {
    /// Ordered by rank.
    hooks: Vec<Hook<K>>,
}

impl<K> Default for Head<K> {
    fn default() -> Head<K> {
        Head { hooks: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Head<K> {
    /// Creates a head without hooks.
    pub const fn new() -> Head<K> {
        Head { hooks: Vec::new() }
    }

    /// Returns true if the head has no hooks.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Returns the hooks in the order in which they run.
    pub fn hooks(&self) -> &[Hook<K>] {
        &self.hooks
    }

    /// Attaches a hook behind those with its rank.
    pub fn attach(&mut self, rank: u16, name: &str, key: K) -> Result<(), Refused> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Refused::Name);
        }
        if self.hooks.iter().any(|hook| hook.name == name) {
            return Err(Refused::NameInUse);
        }
        if self.hooks.iter().any(|hook| hook.key == key) {
            return Err(Refused::KeyInUse);
        }
        if self.hooks.len() >= MAX_HOOKS {
            return Err(Refused::Full);
        }
        let name = name.into();
        self.insert(Hook { rank, name, key });
        Ok(())
    }

    /// Detaches a hook. Returns false if no hook has the key.
    pub fn detach(&mut self, key: K) -> bool {
        self.take(key).is_some()
    }

    /// Gives a hook another rank, behind the hooks with that rank. Returns false if no hook has the key.
    pub fn order(&mut self, key: K, rank: u16) -> bool {
        let Some(hook) = self.take(key) else {
            return false;
        };
        self.insert(Hook { rank, ..hook });
        true
    }

    /// Calls `hook` with the key of each hook, until one drops, rejects or absorbs the packet. Returns the result for the packet.
    #[inline]
    pub fn run(&self, hook: impl FnMut(K) -> Verdict) -> Verdict {
        run(&self.hooks, hook)
    }

    /// Does what [`Self::run`] does, for the hooks behind one with this rank and key. If no hook has the key any more, runs the hooks
    /// with a higher rank.
    pub fn run_behind(&self, rank: u16, key: K, hook: impl FnMut(K) -> Verdict) -> Verdict {
        let at = self.hooks.iter().position(|hook| hook.key == key);
        let first = at.map_or_else(
            || self.hooks.partition_point(|other| other.rank <= rank),
            |at| at + 1,
        );
        run(&self.hooks[first..], hook)
    }

    fn insert(&mut self, hook: Hook<K>) {
        let at = self.hooks.partition_point(|other| other.rank <= hook.rank);
        self.hooks.insert(at, hook);
    }

    fn take(&mut self, key: K) -> Option<Hook<K>> {
        let at = self.hooks.iter().position(|hook| hook.key == key)?;
        Some(self.hooks.remove(at))
    }
}

#[inline]
fn run<K: Copy>(hooks: &[Hook<K>], mut hook: impl FnMut(K) -> Verdict) -> Verdict {
    let mut result = Verdict::Pass;
    for each in hooks {
        match hook(each.key) {
            Verdict::Pass => {}
            Verdict::Modified => result = Verdict::Modified,
            end => return end,
        }
    }
    result
}
