//! The throttle of receiving on a simulated processor. One driver runs above all other domains, the device has as many
//! buffers as the real one, and frames arrive at any rate.

use nic_switch::BACKLOG;
use nic_switch::rx_throttle::{BURST, FRAME_COST, LONGEST_REST, RxThrottle, WAKE_COST};
use proptest::prelude::*;

const MILLISECOND: u64 = 1_000_000;

/// Costs of wakes and frames, and the gap between frames, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Load {
    wake: u64,
    frame: u64,
    gap: u64,
}

/// Results of a simulation.
#[derive(Default)]
struct Seen {
    /// Start and end of each wake.
    wakes: Vec<(u64, u64)>,
    rests: u64,
    taken: u64,
    lost: u64,
    /// Longest time between the arrival of a frame and its delivery.
    slowest: u64,
}

/// Simulates a frame every `gap` from 0 until `last`, and observes until `until`. Uses `throttle` if there is one.
fn run(load: Load, last: u64, until: u64, mut throttle: Option<RxThrottle>) -> Seen {
    let mut seen = Seen::default();
    // Arrival times of the waiting frames, and of the next one.
    let mut waiting = std::collections::VecDeque::new();
    let (mut now, mut next) = (0, 0);
    let mut rest = None;
    // Buffers that the device has. They are given back at the end of a wake.
    let mut buffers = BACKLOG as usize;
    let mut come = |now: u64, waiting: &mut std::collections::VecDeque<u64>, buffers: &mut usize| {
        let mut lost = 0;
        while next <= now && next < last {
            if *buffers == 0 {
                lost += 1;
            } else {
                *buffers -= 1;
                waiting.push_back(next);
            }
            next += load.gap;
        }
        (lost, next)
    };
    while now < until {
        let (lost, next) = come(now, &mut waiting, &mut buffers);
        seen.lost += lost;
        // The other domains run until the interrupt or the end of the pause.
        let wake = match rest.take() {
            Some(rest) => rest,
            None if !waiting.is_empty() => now,
            None if next < last => next,
            None => break,
        };
        now = now.max(wake);
        seen.lost += come(now, &mut waiting, &mut buffers).0;
        let start = now;
        now += load.wake;
        let before = seen.taken;
        while let Some(came) = waiting.pop_front() {
            now += load.frame;
            seen.taken += 1;
            seen.slowest = seen.slowest.max(now - came);
            seen.lost += come(now, &mut waiting, &mut buffers).0;
        }
        buffers = BACKLOG as usize;
        seen.wakes.push((start, now));
        if let Some(throttle) = &mut throttle {
            rest = throttle.after(start, now, seen.taken - before);
            seen.rests += u64::from(rest.is_some());
            assert!(rest.is_none_or(|rest| rest > now && rest - now <= LONGEST_REST));
        }
    }
    seen
}

/// Returns the time of the wakes between `from` and `to`.
fn taken(seen: &Seen, from: u64, to: u64) -> u64 {
    let part = |&(start, end): &(u64, u64)| end.min(to).saturating_sub(start.max(from));
    seen.wakes.iter().map(part).sum()
}

#[test]
fn without_a_pace_a_flood_takes_everything() {
    let flood = Load {
        wake: 5_000,
        frame: 2_000,
        gap: 500,
    };
    let seen = run(flood, u64::MAX, 100 * MILLISECOND, None);
    assert!(taken(&seen, 0, 100 * MILLISECOND) > 99 * MILLISECOND);
    // With the throttle, frames are lost only at the device, and the other domains have half of the time.
    let seen = run(flood, u64::MAX, 100 * MILLISECOND, Some(RxThrottle::new()));
    let time = taken(&seen, 0, 100 * MILLISECOND);
    assert!((45..=52).contains(&(time / MILLISECOND)), "{time}");
    assert!(seen.lost > seen.taken, "{} of {}", seen.taken, seen.lost);
}

#[test]
fn small_wakes_one_after_another_are_a_flood_too() {
    // Only a few frames in each wake, but always another interrupt at its end.
    let load = Load {
        wake: 5_000,
        frame: 500,
        gap: 2_500,
    };
    let without = run(load, u64::MAX, 100 * MILLISECOND, None);
    assert!(taken(&without, 0, 100 * MILLISECOND) > 80 * MILLISECOND);
    let seen = run(load, u64::MAX, 100 * MILLISECOND, Some(RxThrottle::new()));
    let time = taken(&seen, 10 * MILLISECOND, 100 * MILLISECOND);
    assert!(time < 47 * MILLISECOND, "{time}");
    // The frames are received in fewer and longer wakes, and none is lost.
    assert_eq!(seen.lost, 0);
    assert!(seen.slowest < 2 * MILLISECOND, "{}", seen.slowest);
}

#[test]
fn a_lone_frame_and_a_burst_are_never_late() {
    let cost = Load {
        wake: 5_000,
        frame: 2_000,
        gap: 100_000,
    };
    // A ping-pong with ten thousand rounds in a second.
    let seen = run(cost, u64::MAX, 1000 * MILLISECOND, Some(RxThrottle::new()));
    assert_eq!((seen.rests, seen.slowest), (0, 7_000));
    // 100 frames at once every 1.5 ms: the last of them waits only for the others.
    let mut throttle = RxThrottle::new();
    for n in 0..1000 {
        let start = n * 1_500_000;
        assert_eq!(throttle.after(start, start + 100 * 2_000 + 5_000, 100), None);
    }
}

#[test]
fn after_a_flood_interrupts_are_back_within_a_rest() {
    let flood = Load {
        wake: 5_000,
        frame: 2_000,
        gap: 100,
    };
    let mut throttle = RxThrottle::new();
    let mut now = 0;
    let mut rest = None;
    for _ in 0..1000 {
        now = rest.unwrap_or(now);
        rest = throttle.after(now, now + u64::from(BACKLOG) * flood.frame, BACKLOG.into());
        now += u64::from(BACKLOG) * flood.frame;
    }
    // The last wake receives the gathered frames; the wake at the deadline finds none.
    now = rest.unwrap_or(now);
    assert_eq!(throttle.after(now, now + 1_000, 0), None);
}

#[test]
fn a_machine_that_stood_still_is_not_made_up_for() {
    let mut throttle = RxThrottle::new();
    // A wake of ten frames lasts a second. Only the highest charge for such a wake counts, about a tenth of a
    // millisecond.
    assert_eq!(throttle.after(1_000, 1000 * MILLISECOND, 10), None);
    // As many frames as the device has are charged, but the pause is at most the longest one.
    let mut throttle = RxThrottle::new();
    let rest = throttle
        .after(1_000, 3600 * 1000 * MILLISECOND, 1_000_000)
        .unwrap();
    assert_eq!(rest, 3600 * 1000 * MILLISECOND + LONGEST_REST);
    assert_eq!(throttle.after(rest, rest + 1_000, 1), None);
    // A clock that steps back does not cause a panic, nor does any other time.
    assert_eq!(throttle.after(5, 3, 0), None);
    let _ = throttle.after(0, u64::MAX, u64::MAX);
    let _ = throttle.after(u64::MAX, 0, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Checks that in each window the other domains have half of the time, except for the burst and one wake, whatever
    /// arrives. If a frame costs more than its highest charge, the excess comes on top.
    #[test]
    fn nobody_starves(
        wake in 100u64..WAKE_COST, frame in 50u64..30_000, gap in prop_oneof![20u64..2_000, 2_000u64..100_000],
        window in 2u64..50, from in 0u64..60,
    ) {
        let load = Load { wake, frame, gap };
        let seen = run(load, u64::MAX, 120 * MILLISECOND, Some(RxThrottle::new()));
        let longest = seen.wakes.iter().map(|(start, end)| end - start).max().unwrap();
        let (from, window) = (from * MILLISECOND, window * MILLISECOND);
        let time = taken(&seen, from, from + window);
        let believed = frame.min(FRAME_COST);
        let share = window * frame / (frame + believed);
        let burst = BURST * frame / believed;
        prop_assert!(time <= share + burst + longest, "{time} of {window}, a wake takes up to {longest}");
    }

    /// Checks that the throttle has no effect if the load is below half of the processor.
    #[test]
    fn moderate_load_is_not_held_back(
        wake in 100u64..20_000, frame in 50u64..20_000, slack in 0u64..200_000,
    ) {
        let load = Load { wake, frame, gap: 2 * (wake + frame) + slack };
        let seen = run(load, u64::MAX, 50 * MILLISECOND, Some(RxThrottle::new()));
        prop_assert_eq!((seen.rests, seen.lost, seen.slowest), (0, 0, wake + frame));
    }
}
