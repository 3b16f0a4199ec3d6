//! Deadlines of the timer's clients. Independent of devices: time is an argument.
//!
//! A client is identified by its channel id, and its requests affect its own deadline only.
#![no_std]

/// Maximum of clients: channel ids 0 to 61.
pub const CLIENTS: usize = 62;

/// One deadline for each client, in nanoseconds of the shared clock.
///
/// A bitmap marks the clients with a deadline. Usually there are few, and the others cost nothing.
#[derive(Debug)]
pub struct Deadlines {
    at: [u64; CLIENTS],
    set: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            at: [0; CLIENTS],
            set: 0,
        }
    }
}

/// Returns the numbers of the set bits, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

impl Deadlines {
    /// Sets the client's deadline and replaces an earlier one. Ignores clients from [`CLIENTS`] on.
    pub fn set(&mut self, client: usize, at_ns: u64) {
        if let Some(at) = self.at.get_mut(client) {
            *at = at_ns;
            self.set |= 1 << client;
        }
    }

    /// Removes the client's deadline.
    pub fn cancel(&mut self, client: usize) {
        if client < CLIENTS {
            self.set &= !(1 << client);
        }
    }

    /// Returns the earliest deadline of all clients.
    pub fn next(&self) -> Option<u64> {
        bits(self.set).map(|client| self.at[client]).min()
    }

    /// Removes all deadlines that have passed and returns their clients, lowest first.
    pub fn take_due(&mut self, now_ns: u64) -> impl Iterator<Item = usize> + use<> {
        let due = bits(self.set)
            .filter(|&client| self.at[client] <= now_ns)
            .fold(0, |due, client| due | 1 << client);
        self.set &= !due;
        bits(due)
    }
}
