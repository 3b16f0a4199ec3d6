//! Moderation of received frames on a simulated device and timer. Conversations are never delayed, floods are gathered,
//! and no frame waits forever.

use nic_switch::BACKLOG;
use nic_switch::rx_moderation::{Counts, LONGEST, MANY, Rest, RxModeration, SHORTEST, Wake};
use nic_switch::rx_throttle::{BURST, LONGEST_REST};
use proptest::prelude::*;

const MILLISECOND: u64 = 1_000_000;
/// Costs of a wake and of a frame, in nanoseconds.
const WAKE: u64 = 3_000;
const FRAME: u64 = 300;

/// The driver, its device and its timer.
struct Sim {
    moderation: RxModeration,
    counts: Counts,
    now: u64,
    waiting: u64,
    announced: bool,
    alarm: Option<u64>,
    gathers: u64,
    wakes: u64,
}

impl Sim {
    fn new() -> Sim {
        Sim {
            moderation: RxModeration::new(),
            counts: Counts::default(),
            now: MILLISECOND,
            waiting: 0,
            announced: true,
            alarm: None,
            gathers: 0,
            wakes: 0,
        }
    }

    /// Runs one wake as the driver does.
    fn wake(&mut self, interrupted: bool, rang: bool, answers: u64) {
        if rang {
            self.alarm = None;
        }
        if interrupted {
            self.announced = false;
        }
        let start = self.now;
        self.wakes += 1;
        let wake = self.moderation.wake(interrupted, rang, || start);
        self.counts.sent += answers;
        self.now += WAKE;
        match wake {
            Wake::Leave => {}
            Wake::LeaveUntil(until) => {
                assert!(until > start);
                self.set(until);
            }
            Wake::Receive => {
                self.now += self.waiting * FRAME;
                let taken = std::mem::take(&mut self.waiting);
                self.counts.received += taken;
                let announced = !self.moderation.gathers(&self.counts);
                self.counts.buffers += taken;
                self.announced |= announced;
                match self.moderation.after(start, self.now, self.counts) {
                    Some(until) => {
                        let time = until - self.now;
                        match self.moderation.rest() {
                            Rest::Gather => {
                                assert!((SHORTEST..=LONGEST).contains(&time));
                                self.gathers += 1;
                            }
                            Rest::RxThrottle(end) => assert!(end == until && time <= LONGEST_REST),
                            Rest::None => panic!("a deadline for nothing"),
                        }
                        self.announced = false;
                        self.set(until);
                    }
                    None if self.moderation.rest() == Rest::None => self.announced = true,
                    None => {}
                }
            }
        }
        // No frame waits forever: either the device or the timer wakes the driver.
        match self.moderation.rest() {
            Rest::None => assert!(self.announced),
            Rest::Gather | Rest::RxThrottle(_) => assert!(self.alarm.is_some()),
        }
    }

    /// Arms the timer like the runtime's alarm: only a deadline earlier than the armed one has an effect.
    fn set(&mut self, until: u64) {
        self.alarm = Some(self.alarm.map_or(until, |armed| armed.min(until)));
    }

    /// Lets frames arrive now. The device interrupts if its interrupts are on.
    fn come(&mut self, frames: u64, answers: u64) {
        self.waiting += frames;
        if self.announced && frames != 0 {
            self.wake(true, false, answers);
        }
    }

    /// Lets time pass until `until`. The timer rings when its deadline passes.
    fn pass(&mut self, until: u64) {
        while let Some(at) = self.alarm.filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.wake(false, true, 0);
        }
        self.now = self.now.max(until);
    }

    fn settle(&mut self) {
        self.pass(self.now + LONGEST + LONGEST_REST);
        self.pass(self.now + LONGEST + LONGEST_REST);
    }
}

#[test]
fn a_flood_is_gathered_and_a_lone_frame_after_it_is_not_late() {
    let mut sim = Sim::new();
    // 100,000 frames in a second, in bursts of 32.
    for _ in 0..1000 {
        sim.come(32, 0);
        sim.pass(sim.now + 320_000);
    }
    assert!(sim.gathers > 500, "gathered {} times", sim.gathers);
    assert!(sim.wakes <= 1100, "{} wakes for 1000 bursts", sim.wakes);
    sim.settle();
    assert_eq!((sim.moderation.rest(), sim.waiting), (Rest::None, 0));
    sim.come(1, 0);
    assert_eq!(sim.waiting, 0);
}

#[test]
fn peers_that_wait_for_their_answers_are_never_late() {
    for peers in 1..=200 {
        let mut sim = Sim::new();
        for _ in 0..100 {
            sim.come(peers, 0);
            assert_eq!(sim.waiting, 0, "{peers} peers");
            // The brane answers them all.
            sim.wake(false, false, peers);
            sim.now += 50_000;
            if sim.moderation.rest() != Rest::None {
                // So many frames at once look like a flood until they are answered.
                assert!(peers >= MANY);
                sim.settle();
            }
        }
    }
}

#[test]
fn the_devices_buffers_last_at_any_steady_rate() {
    for rate in [10_000, 100_000, 500_000, 1_000_000_u64] {
        let mut sim = Sim::new();
        let mut most = 0;
        for n in 0..5_000 {
            let frames = 50_000 * rate / 1_000_000_000;
            sim.come(frames.max(1), 0);
            // The rate is not known at the first times.
            if n > 20 && sim.moderation.rest() == Rest::Gather {
                most = most.max(sim.waiting);
            }
            sim.pass(sim.now + frames.max(1) * 1_000_000_000 / rate);
        }
        assert!(most <= u64::from(BACKLOG), "{most} wait at {rate}/s");
    }
}

#[test]
fn a_timer_that_rings_before_the_rest_is_over_is_set_again() {
    let mut moderation = RxModeration::new();
    let counts = |received| Counts {
        received,
        sent: 0,
        buffers: received,
    };
    let at = 10 * MILLISECOND;
    let gather = moderation.after(at, at + 1000, counts(MANY)).unwrap();
    assert_eq!(moderation.rest(), Rest::Gather);
    // A brane wakes the driver, and the received frames of that wake are too many.
    assert_eq!(moderation.wake(false, false, || unreachable!()), Wake::Receive);
    let start = at + 2000;
    let rest = moderation
        .after(start, start + 2 * BURST, counts(1000 + MANY))
        .unwrap();
    assert_eq!(moderation.rest(), Rest::RxThrottle(rest));
    assert!(gather < rest);
    assert_eq!(moderation.wake(true, false, || unreachable!()), Wake::Leave);
    assert_eq!(moderation.wake(false, true, || gather), Wake::LeaveUntil(rest));
    assert_eq!(moderation.wake(false, true, || rest), Wake::Receive);
}

proptest! {
    /// Checks that no frame waits forever, whatever arrives and whatever wakes the driver. `Sim::wake` checks the
    /// state.
    #[test]
    fn nothing_is_forgotten(
        steps in prop::collection::vec((0u64..400, 0u64..400, 0u64..2_000_000, any::<bool>()), 1..200),
    ) {
        let mut sim = Sim::new();
        for (frames, answers, time, brane) in steps {
            sim.come(frames, 0);
            if brane {
                sim.wake(false, false, answers);
            }
            sim.pass(sim.now + time);
        }
        sim.settle();
        prop_assert_eq!((sim.moderation.rest(), sim.waiting), (Rest::None, 0));
    }
}

/// Checks that only the frames of the wake itself are charged, however many came before.
#[test]
fn a_machine_that_stands_still_is_not_made_up_for() {
    let mut moderation = RxModeration::new();
    let mut counts = Counts {
        received: 100_000,
        sent: 100_000,
        buffers: 100_000,
    };
    moderation.after(MILLISECOND, MILLISECOND + 1000, counts);
    (counts.received, counts.sent, counts.buffers) = (100_001, 100_001, 100_001);
    let (start, end) = (10_000 * MILLISECOND, 11_000 * MILLISECOND);
    assert_eq!(moderation.after(start, end, counts), None);
}
