//! The driver's work for one brane is bounded, whatever the brane does; the excess waits in the brane's rings.

mod common;

use brane_abi::layout::ports;
use brane_abi::vif::VifCounters;
use common::{Bench, HOST, PLAIN, frame, mac};
use nic_switch::account::{BURST, LONGEST_TURN, PROMPT};
use proptest::prelude::*;
use std::cell::Cell;
use std::rc::Rc;

const MS: u64 = 1_000_000;

fn counters(bench: &Bench, n: u32) -> VifCounters {
    bench.switch.vif_counters(n).unwrap()
}

/// Stores the tail index of a brane's first transmit ring, as the brane itself can.
fn store_tail(bench: &Bench, brane: usize, tail: u32) {
    let word = bench.branes[brane].region.part(ports::tx_indices(0), 4).unwrap();
    // SAFETY: inside the region; the test has one thread.
    unsafe { word.base().cast::<u32>().write_volatile(tail) }
}

#[test]
fn a_replayed_ring_is_found_and_its_author_quarantined() {
    for len in [0, 60, 1500] {
        let mut bench = Bench::new();
        let mut records = 0;
        while bench.branes[0].send(0, &frame(HOST, mac(0), len, 0)[..len], PLAIN) {
            records += 1;
        }
        bench.run();
        let before = counters(&bench, 0);
        assert_eq!(before.tx_frames + before.tx_malformed, records);
        let word = bench.branes[0].region.part(ports::tx_indices(0), 4).unwrap();
        // SAFETY: inside the region; the test has one thread.
        let tail = unsafe { word.base().cast::<u32>().read_volatile() };
        store_tail(&bench, 0, tail.wrapping_add(ports::TX[0].len as u32));
        bench.run();
        let after = counters(&bench, 0);
        assert_eq!(after.peer_errors, 1, "records of {len} bytes");
        assert_eq!(after.tx_frames, before.tx_frames, "no frame is sent twice");
        // The rest of the ring was never written: it reads as records of no bytes.
        let rest = ports::TX[0].len % (16 + len.next_multiple_of(16));
        assert_eq!(after.tx_malformed, before.tx_malformed + rest as u64 / 16);
    }
}

#[test]
fn an_index_beyond_what_was_given_back_is_a_violation() {
    for beyond in [16, 0x1000, 0x8_0000] {
        let mut bench = Bench::new();
        store_tail(&bench, 0, ports::TX[0].len as u32 + beyond);
        bench.run();
        assert_eq!(counters(&bench, 0).peer_errors, 1);
    }
}

/// A machine on which each frame costs the driver `cost` nanoseconds.
struct Machine {
    bench: Bench,
    now: Rc<Cell<u64>>,
    cost: u64,
    /// Time that the driver has worked, in nanoseconds.
    worked: u64,
}

impl Machine {
    fn new(cost: u64) -> Machine {
        let mut bench = Bench::new();
        let now = Rc::new(Cell::new(bench.now + 1000 * MS));
        bench.device.clock = Some((now.clone(), cost));
        Machine {
            bench,
            now,
            cost,
            worked: 0,
        }
    }

    /// Runs one wake by these branes. Returns whether the domain `turn` and the manager must be notified.
    fn wake(&mut self, branes: u64, turn: bool) -> (bool, bool) {
        let start = self.now.get();
        let now = self.now.clone();
        let clock = move || now.get();
        if turn {
            self.bench.switch.turn_came(start);
        }
        self.bench.switch.wake(branes, &clock);
        self.bench.switch.transmit(&mut self.bench.device, &clock);
        self.bench.device.sent.clear();
        let flushed = self.bench.switch.flush();
        self.worked += self.now.get() - start;
        (flushed.turn, flushed.offender)
    }

    fn pass(&self, time: u64) {
        self.now.set(self.now.get() + time);
    }

    fn fill(&mut self, b: usize, len: usize) {
        while self.bench.branes[b].send(0, &frame(HOST, mac(b), len, 0), PLAIN) {}
    }
}

#[test]
fn a_brane_at_full_rate_waits_for_its_turn_and_then_goes_on() {
    let mut machine = Machine::new(2_000);
    machine.fill(0, 60);
    let (turn, offender) = machine.wake(1, false);
    assert!(turn && !offender, "asked for once its account is exhausted");
    let most = BURST + LONGEST_TURN + 64 * machine.cost;
    assert!(machine.worked <= most, "{} ns of work", machine.worked);
    assert!(machine.worked > BURST / 2);
    let sent = counters(&machine.bench, 0).tx_frames;
    assert!(sent > 100 && counters(&machine.bench, 0).tx_waits == 1);
    // The other brane does not wait.
    assert!(machine.bench.branes[1].send(0, &frame(HOST, mac(1), 60, 0), PLAIN));
    assert_eq!(machine.wake(0b10, false), (false, false), "asked for already");
    assert_eq!(counters(&machine.bench, 1).tx_frames, 1);
    assert_eq!(
        counters(&machine.bench, 0).tx_frames,
        sent,
        "what it has in its ring waits"
    );
    machine.wake(0, true);
    assert!(counters(&machine.bench, 0).tx_frames > sent);
    // Turn by turn, the brane sends all its frames.
    let mut turns = 0;
    while machine.wake(0, true).0 {
        turns += 1;
        assert!(turns < 1000);
    }
    assert_eq!(counters(&machine.bench, 0).peer_errors, 0);
    assert!(
        machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN),
        "there is room again"
    );
}

#[test]
fn a_brane_that_notifies_while_it_waits_is_reported_once_until_it_is_fetched() {
    let mut machine = Machine::new(2_000);
    machine.fill(0, 60);
    assert!(machine.wake(1, false).0);
    // A notification that was under way is no offence.
    assert_eq!(machine.wake(1, false), (false, false));
    assert_eq!(machine.bench.switch.take_offender(machine.now.get()), None);
    let reports = (0..1000).filter(|_| machine.wake(1, false).1).count();
    assert_eq!(reports, 1);
    let (brane, until) = machine.bench.switch.take_offender(machine.now.get()).unwrap();
    assert_eq!(brane, 0);
    assert!(until > machine.now.get() + MS);
    assert_eq!(machine.bench.switch.take_offender(machine.now.get()), None);
    assert!(machine.wake(1, false).1, "it goes on and is reported again");
    // Later the offence is forgiven.
    machine.pass(10_000 * MS);
    assert_eq!(machine.bench.switch.take_offender(machine.now.get()), None);
}

#[test]
fn notifications_with_nothing_in_the_rings_exhaust_the_account_too() {
    let mut machine = Machine::new(0);
    let waits = (0..2000).position(|_| machine.wake(1, false).0);
    let waits = waits.expect("it has to wait at last");
    assert!((10..100).contains(&waits), "after {waits} notifications");
}

#[test]
fn little_work_now_and_then_never_waits() {
    let mut machine = Machine::new(1000);
    for _ in 0..10_000 {
        assert!(machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN));
        assert_eq!(machine.wake(1, false), (false, false));
        machine.pass(400_000);
    }
    assert_eq!(counters(&machine.bench, 0).tx_frames, 10_000);
}

/// Checks the charge for a kick of an emulated device, which can block the driver. The time is charged to the brane
/// that sent many frames, and one turn pays back one burst of it.
#[test]
fn the_time_to_tell_the_device_is_charged_to_who_sent_much() {
    let mut machine = Machine::new(0);
    machine.bench.device.kick_cost = BURST * 3 / 4;
    let (begun, mut turns) = (machine.now.get(), 0);
    for _ in 0..100 {
        for _ in 0..50 {
            machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN);
        }
        machine.bench.branes[1].send(0, &frame(HOST, mac(1), 60, 0), PLAIN);
        let (mut turn, _) = machine.wake(0b11, false);
        while turn {
            // Other domains have their turns.
            machine.pass(PROMPT);
            turns += 1;
            turn = machine.wake(0, true).0;
        }
    }
    let waits = [0, 1].map(|n| counters(&machine.bench, n).tx_waits);
    assert!(waits[0] >= 20 && waits[1] == 0, "{waits:?}");
    let time = machine.now.get() - begun;
    let most = (turns + 1) * BURST + time / 10;
    assert!(machine.worked <= most, "{} > {most}", machine.worked);
}

/// Checks that a brane is charged less while no other domain is ready to run. The driver infers that from prompt
/// answers of `turn`.
#[test]
fn a_brane_that_nobody_waits_behind_is_asked_about_less_often() {
    let turns = |late: u64| {
        let mut machine = Machine::new(2_000);
        let (mut turns, mut begun) = (0, 0);
        for round in 0..400 {
            if round == 100 {
                (turns, begun) = (0, machine.worked);
            }
            machine.fill(0, 60);
            let mut turn = machine.wake(1, false).0;
            while turn {
                machine.pass(late);
                turns += 1;
                turn = machine.wake(0, true).0;
            }
        }
        turns * BURST * 100 / (machine.worked - begun)
    };
    let (alone, crowded) = (turns(PROMPT / 2), turns(PROMPT));
    assert!((60..=120).contains(&crowded), "{crowded} % of the work");
    assert!(
        alone * 3 < crowded,
        "{alone} % of the work alone, {crowded} % among others"
    );
}

/// Checks that the clock is read once for many short records. Records before the first reading are charged by estimate.
#[test]
fn long_turns_of_short_records_look_at_the_clock_now_and_then() {
    let mut machine = Machine::new(0);
    let looks = Cell::new(0);
    let now = machine.now.clone();
    let clock = || {
        looks.set(looks.get() + 1);
        now.get()
    };
    let mut wakes = 0;
    while counters(&machine.bench, 0).tx_waits == 0 {
        for _ in 0..100 {
            machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN);
        }
        looks.set(0);
        machine.bench.switch.wake(1, &clock);
        machine.bench.switch.transmit(&mut machine.bench.device, &clock);
        machine.bench.switch.flush();
        // One reading for 16 records, and a few for the turn, its account and the kick.
        assert!(looks.get() <= 100 / 15 + 5, "{} looks", looks.get());
        wakes += 1;
        assert!(wakes < 100);
    }
    // A wake, a turn, the buffers of a hundred records, and the first sixteen records by estimate: 88 us.
    assert!((9..=14).contains(&wakes), "{wakes} wakes");
}

/// Checks that a turn that leaves a brane exhausted releases no brane, neither that one nor its neighbour.
#[test]
fn a_turn_that_does_not_pay_all_back_releases_nobody() {
    let mut machine = Machine::new(0);
    machine.bench.device.kick_cost = BURST;
    let mut turn = false;
    while !turn {
        for _ in 0..50 {
            machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN);
        }
        turn = machine.wake(1, false).0;
    }
    machine.bench.branes[0].send(0, &frame(HOST, mac(0), 60, 0), PLAIN);
    machine.bench.branes[1].send(0, &frame(HOST, mac(1), 60, 0), PLAIN);
    let sent = counters(&machine.bench, 0).tx_frames;
    assert!(machine.wake(0, true).0, "it waits for the next turn");
    let after = [0, 1].map(|n| counters(&machine.bench, n).tx_frames);
    assert_eq!(after, [sent, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Checks the bound between two turns, whatever one brane sends and however often it notifies. The driver works for
    /// it the burst, a tenth of the time, and a turn.
    #[test]
    fn the_work_for_one_brane_between_two_turns_is_bounded(
        steps in proptest::collection::vec((prop_oneof![Just(0usize), Just(60), Just(1500)], 0u64..3 * MS, 1usize..40), 1..30),
        cost in 1_000u64..4_000,
    ) {
        let mut machine = Machine::new(cost);
        let begun = machine.now.get();
        for (len, pause, times) in steps {
            for _ in 0..times {
                if len != 0 {
                    machine.fill(0, len);
                }
                machine.wake(1, false);
                machine.pass(pause / times as u64);
            }
        }
        let time = machine.now.get() - begun;
        // The first records of a turn are estimated, and a turn ends some records after its time.
        let estimates = BURST / 10 + 64 * cost;
        prop_assert!(machine.worked <= BURST + time / 10 + LONGEST_TURN + estimates, "{}", machine.worked);
    }
}
