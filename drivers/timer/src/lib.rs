//! Which client is due when. Knows nothing of devices: time is an argument.
//!
//! Clients are known by their channel id alone; whatever time one asks for touches nobody's deadline but its own.
#![no_std]

/// Clients at most: channel ids 0 to 61.
pub const CLIENTS: usize = 62;

/// One deadline for each client, in nanoseconds of the shared clock.
///
/// A bit for each client that has one: few have at a time, and the others cost nothing.
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

/// The numbers of the bits that are set, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

impl Deadlines {
    /// Sets the client's deadline, replacing the earlier one. There is no client from [`CLIENTS`] on.
    pub fn set(&mut self, client: usize, at_ns: u64) {
        if let Some(at) = self.at.get_mut(client) {
            *at = at_ns;
            self.set |= 1 << client;
        }
    }

    /// Forgets the client's deadline.
    pub fn cancel(&mut self, client: usize) {
        if client < CLIENTS {
            self.set &= !(1 << client);
        }
    }

    /// The next deadline of all.
    pub fn next(&self) -> Option<u64> {
        bits(self.set).map(|client| self.at[client]).min()
    }

    /// Clients whose deadline has come, lowest first. Each is forgotten at once.
    pub fn take_due(&mut self, now_ns: u64) -> impl Iterator<Item = usize> + use<> {
        let due = bits(self.set)
            .filter(|&client| self.at[client] <= now_ns)
            .fold(0, |due, client| due | 1 << client);
        self.set &= !due;
        bits(due)
    }
}
