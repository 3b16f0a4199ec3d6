//! Owns the accounts of serial's work for each line and each log ([`work_budget`]). Work above a budget waits: output
//! in its writer's ring, input in the device.
//!
//! Writers and the machine at the other end of a line are not trusted; they cannot reach these accounts. A line has one
//! account for both directions. The account belongs to the domain that uses the line.

use sel4_microkit::Channel;
use sel4_microkit::time::Clock;
use serial_core::ByteCost;
use work_budget::{Budgets, MAX_CALLERS, Terms};

/// Budget of one domain's log: a twentieth of the processor, 10 ms at once.
const LOG: Terms = Terms::new(50, 10_000_000, 5_000_000);
/// Budget of the console's line and of the remote line each. It is larger, because a person or a program waits for the bytes.
const LINE: Terms = Terms::new(150, 10_000_000, 5_000_000);

/// The accounts by channel, and the measured cost of a byte.
pub struct Accounts {
    cost: ByteCost,
    logs: Budgets<MAX_CALLERS>,
    lines: Budgets<MAX_CALLERS>,
    /// Nanoseconds charged for bytes so far, in both directions.
    pub spent: u64,
    /// Time at which the first exhausted account allows more work.
    pub next: Option<u64>,
}

impl Accounts {
    /// Creates accounts without debt for the channels whose bits are set.
    pub fn new(bounded: u64) -> Accounts {
        Accounts {
            cost: ByteCost::new(),
            logs: Budgets::new(LOG, bounded),
            lines: Budgets::new(LINE, bounded),
            spent: 0,
            next: None,
        }
    }

    /// Returns true if an account is exhausted. `next` is then at most the time at which it allows work again.
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

    /// Returns true if the log of this writer has to wait.
    pub fn holds_log(&mut self, writer: Channel, now: u64) -> bool {
        Self::holds_back(&mut self.next, &mut self.logs, writer, now)
    }

    /// Returns true if the line of this domain has to wait.
    pub fn holds_line(&mut self, user: Channel, now: u64) -> bool {
        Self::holds_back(&mut self.next, &mut self.lines, user, now)
    }

    /// Charges bytes that a log put on the screen. The manager is not notified, because the rest waits in the ring.
    pub fn logged(&mut self, writer: Channel, now: u64, bytes: usize) {
        let _ = self.logs.charge(writer.index(), now, self.cost.of(bytes));
    }

    /// Charges bytes that the user of a line sends.
    pub fn sends(&mut self, user: Channel, now: u64, bytes: usize) {
        let _ = self.lines.charge(user.index(), now, self.cost.of(bytes));
    }

    /// Charges an interrupt of a line. `took` is its time in nanoseconds without the bytes.
    pub fn interrupted(&mut self, user: Channel, now: u64, took: u64) {
        let _ = self.lines.charge(user.index(), now, took);
    }

    /// Measures that `bytes` took `took` nanoseconds to send. The bytes were charged before, at the cost of earlier ones.
    pub fn sent(&mut self, bytes: u64, took: u64) {
        self.spent += took;
        self.cost.sent(bytes, took);
    }
}

/// Charges the bytes that are received on one line.
pub struct Meter<'a> {
    user: Channel,
    accounts: &'a mut Accounts,
    clock: &'a Clock,
    begin: u64,
}

impl<'a> Meter<'a> {
    /// Creates a meter for the line of this domain.
    pub fn new(user: Channel, accounts: &'a mut Accounts, clock: &'a Clock) -> Meter<'a> {
        Meter {
            user,
            accounts,
            clock,
            begin: 0,
        }
    }

    /// Returns true if bytes may be received now. Their time begins with this call.
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
