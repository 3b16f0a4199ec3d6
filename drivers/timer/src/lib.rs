//! Which client is due when. Knows nothing of devices: time is an argument.
#![no_std]

/// Clients at most: channel ids 0 to 61.
pub const CLIENTS: usize = 62;
const NEVER: u64 = u64::MAX;

/// One deadline for each client.
pub struct Deadlines([u64; CLIENTS]);

impl Default for Deadlines {
    fn default() -> Self {
        Self([NEVER; CLIENTS])
    }
}

impl Deadlines {
    /// Sets the client's deadline in nanoseconds of the shared clock, replacing the earlier one.
    pub fn set(&mut self, client: usize, at_ns: u64) {
        if let Some(slot) = self.0.get_mut(client) {
            *slot = at_ns;
        }
    }

    /// Forgets the client's deadline.
    pub fn cancel(&mut self, client: usize) {
        self.set(client, NEVER);
    }

    /// The next deadline of all.
    pub fn next(&self) -> Option<u64> {
        self.0.iter().copied().min().filter(|at| *at != NEVER)
    }

    /// Clients whose deadline has come, lowest first; each is forgotten as it is returned.
    pub fn take_due(&mut self, now_ns: u64) -> impl Iterator<Item = usize> + '_ {
        self.0.iter_mut().enumerate().filter_map(move |(client, at)| {
            (*at != NEVER && *at <= now_ns).then(|| {
                *at = NEVER;
                client
            })
        })
    }
}
