//! What serial works for each line and each log, and what it may ([`work_budget`]). What is above that waits: output in its
//! writer's ring, input in the device.
//!
//! Writers and whoever is at the other end of a line are not trusted; they cannot reach these accounts. A line has one account for
//! both directions, that of the domain which uses it.

use sel4_microkit::Channel;
use sel4_microkit::time::Clock;
use serial_core::ByteCost;
use work_budget::{Budgets, MAX_CALLERS, Terms};

/// What the log of one domain may take: a twentieth of the processor, 10 ms at once.
const LOG: Terms = Terms::new(50, 10_000_000, 5_000_000);
/// What the console's line and the remote line may take each: a person or a program waits for them.
const LINE: Terms = Terms::new(150, 10_000_000, 5_000_000);

/// What bytes cost, and the accounts of those that they are for, by their channels.
pub struct Accounts {
    cost: ByteCost,
    logs: Budgets<MAX_CALLERS>,
    lines: Budgets<MAX_CALLERS>,
    /// Nanoseconds that bytes took so far, in both directions.
    pub spent: u64,
    /// When the next account that held something back allows more.
    pub next: Option<u64>,
}

impl Accounts {
    /// Accounts without debt for the channels whose bits are set.
    pub fn new(bounded: u64) -> Accounts {
        Accounts {
            cost: ByteCost::new(),
            logs: Budgets::new(LOG, bounded),
            lines: Budgets::new(LINE, bounded),
            spent: 0,
            next: None,
        }
    }

    /// Whether an account has nothing left now. Then there is a look when it has.
    fn holds_back(
        next: &mut Option<u64>,
        budgets: &mut Budgets<MAX_CALLERS>,
        channel: Channel,
        now: u64,
    ) -> bool {
        let until = budgets.exhausted(channel.index(), now);
        if let Some(until) = until {
            *next = Some(next.map_or(until, |next| next.min(until)));
        }
        until.is_some()
    }

    /// Whether the log of this writer has to wait.
    pub fn holds_log(&mut self, writer: Channel, now: u64) -> bool {
        Self::holds_back(&mut self.next, &mut self.logs, writer, now)
    }

    /// Whether the line of this domain has to wait.
    pub fn holds_line(&mut self, user: Channel, now: u64) -> bool {
        Self::holds_back(&mut self.next, &mut self.lines, user, now)
    }

    /// Enters bytes that a log put on the screen. Nobody is told: what is above the budget waits in the ring.
    pub fn logged(&mut self, writer: Channel, now: u64, bytes: usize) {
        let _ = self.logs.charge(writer.index(), now, self.cost.of(bytes));
    }

    /// Enters bytes that the user of a line sends.
    pub fn sends(&mut self, user: Channel, now: u64, bytes: usize) {
        let _ = self.lines.charge(user.index(), now, self.cost.of(bytes));
    }

    /// Enters an interrupt of a line that took so many nanoseconds besides the bytes.
    pub fn interrupted(&mut self, user: Channel, now: u64, took: u64) {
        let _ = self.lines.charge(user.index(), now, took);
    }

    /// Enters that so many bytes took so many nanoseconds to send. They were charged before, by what earlier ones took.
    pub fn sent(&mut self, bytes: u64, took: u64) {
        self.spent += took;
        self.cost.sent(bytes, took);
    }
}

/// Charges what is received on a line.
pub struct Meter<'a> {
    user: Channel,
    accounts: &'a mut Accounts,
    clock: &'a Clock,
    begin: u64,
}

impl<'a> Meter<'a> {
    /// For the line of this domain.
    pub fn new(user: Channel, accounts: &'a mut Accounts, clock: &'a Clock) -> Meter<'a> {
        Meter {
            user,
            accounts,
            clock,
            begin: 0,
        }
    }

    /// Whether some bytes may be received now. Their time begins.
    pub fn allows(&mut self) -> bool {
        self.begin = self.clock.now_ns();
        !self.accounts.holds_line(self.user, self.begin)
    }

    /// Charges the time since [`Self::allows`].
    pub fn charge(&mut self) {
        let now = self.clock.now_ns();
        let took = now.saturating_sub(self.begin);
        self.accounts.spent += took;
        let _ = self.accounts.lines.charge(self.user.index(), now, took);
    }
}
