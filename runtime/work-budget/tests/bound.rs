//! Tests the account's bound on the host.

use proptest::prelude::*;
use work_budget::{Budget, Budgets, Terms};

const MS: u64 = 1_000_000;
/// A fiftieth of the processor, bursts of 1 ms, operations of 100 µs.
const TERMS: Terms = Terms::new(20, MS, MS / 10);

#[test]
fn a_caller_below_its_share_is_never_exhausted() {
    let mut budget = Budget::new(TERMS);
    for i in 1..10_000 {
        budget.charge(i * MS, 20_000);
        assert_eq!(budget.exhausted(i * MS), None);
    }
}

#[test]
fn an_exhausted_caller_waits_until_all_is_paid_back() {
    let mut budget = Budget::new(TERMS);
    let mut count = 0;
    while budget.exhausted(5 * MS).is_none() {
        budget.charge(5 * MS, MS / 10);
        count += 1;
    }
    // Ten operations make the burst, and one more exceeds it.
    assert_eq!(count, 11);
    let until = 5 * MS + 50 * 11 * MS / 10;
    assert_eq!(budget.exhausted(5 * MS), Some(until));
    assert_eq!(budget.exhausted(until - 1), Some(until));
    // An operation that could not be prevented must be paid back as well.
    budget.charge(until - 1, MS / 10);
    let until = until + 50 * MS / 10;
    assert_eq!(budget.exhausted(until - 1), Some(until));
    assert_eq!(budget.exhausted(until), None);
    budget.charge(until, MS / 10);
    assert_eq!(budget.exhausted(until), None);
}

#[test]
fn a_debt_that_was_paid_back_unnoticed_is_forgotten() {
    let mut budget = Budget::new(TERMS);
    (0..11).for_each(|_| budget.charge(0, MS / 10));
    assert!(budget.exhausted(0).is_some());
    // The account is not queried in between.
    budget.charge(10_000 * MS, 1);
    assert_eq!(budget.exhausted(10_000 * MS), None);
}

#[test]
fn an_operation_is_charged_for_no_more_than_the_longest() {
    let mut budget = Budget::new(TERMS);
    budget.charge(0, u64::MAX);
    assert_eq!(budget.exhausted(0), None);
    let mut whole = Budget::new(Terms::new(1000, u64::MAX, u64::MAX));
    (0..4).for_each(|_| whole.charge(u64::MAX, u64::MAX));
    assert_eq!(whole.exhausted(u64::MAX), None);
}

#[test]
fn a_clock_that_goes_backwards_pays_nothing_back() {
    let (mut budget, mut still) = (Budget::new(TERMS), Budget::new(TERMS));
    for i in 0..11 {
        budget.charge(if i % 2 == 0 { 100 * MS } else { 0 }, MS / 10);
        still.charge(100 * MS, MS / 10);
        assert_eq!(budget.exhausted(0), still.exhausted(100 * MS));
    }
    assert!(still.exhausted(100 * MS).is_some());
}

#[test]
fn each_offender_is_reported_until_it_is_fetched_and_then_anew() {
    let mut budgets = Budgets::<4>::new(TERMS, 0b0110);
    let spend =
        |budgets: &mut Budgets<4>, caller| (0..11).filter(|_| budgets.charge(caller, 0, MS / 10)).count();
    assert_eq!(spend(&mut budgets, 1), 1, "reported once");
    assert_eq!(spend(&mut budgets, 2), 1);
    assert_eq!(spend(&mut budgets, 3), 0, "is trusted");
    assert_eq!(spend(&mut budgets, 4), 0, "there is no such caller");
    assert_eq!(budgets.exhausted(3, 0), None);
    let until = 50 * 11 * MS / 10;
    assert_eq!(budgets.take_offender(0), Some((1, until)));
    // It continues before it is stopped.
    assert!(budgets.charge(1, 0, 0));
    assert_eq!(budgets.take_offender(0), Some((1, until)));
    // The other caller has paid back before the report was fetched.
    assert_eq!(budgets.take_offender(until), None);
    assert_eq!(budgets.exhaustions(), 3);
}

#[test]
fn a_caller_can_have_terms_of_its_own() {
    let mut budgets = Budgets::<3>::new(TERMS, 0b111)
        .with_terms(1, Terms::new(20, 2 * MS, MS))
        .with_terms(3, TERMS);
    for _ in 0..11 {
        let _ = [0, 1].map(|caller| budgets.charge(caller, 0, MS / 10));
    }
    assert_eq!(
        [0, 1, 2].map(|caller| budgets.exhausted(caller, 0).is_some()),
        [true, false, false]
    );
}

/// Work that was done: begin and end in nanoseconds.
type Done = Vec<(u64, u64)>;

/// Serves a caller that always has work, with the given pauses and costs. Returns the work done. Costs above the
/// longest are a service's error and not generated.
fn served(terms: Terms, steps: &[(u64, u64)]) -> Done {
    let (mut budget, mut now, mut done) = (Budget::new(terms), 0, Vec::new());
    for &(pause, cost) in steps {
        now += pause;
        if budget.exhausted(now).is_none() {
            let begin = now;
            now += cost;
            budget.charge(now, cost);
            done.push((begin, now));
        }
    }
    done
}

proptest! {
    #[test]
    fn no_interval_holds_more_than_burst_share_and_one_operation(
        share in 1u64..=1000,
        burst in 0u64..2_000_000,
        longest in 1u64..200_000,
        steps in proptest::collection::vec((prop_oneof![Just(0), 0u64..1000, 0u64..3_000_000], 0.0f64..=1.0), 1..200),
    ) {
        let steps: Vec<_> = steps.iter().map(|&(pause, part)| (pause, (part * longest as f64) as u64)).collect();
        let done = served(Terms::new(share, burst, longest), &steps);
        for first in 0..done.len() {
            let mut work = 0;
            for &(begin, end) in &done[first..] {
                work += end - begin;
                let t = end - done[first].0;
                prop_assert!(work <= burst + longest + t * share / 1000 + 1, "{work} in {t}");
            }
        }
    }

    #[test]
    fn a_caller_that_waits_is_served_again(
        share in 1u64..=1000,
        costs in proptest::collection::vec(0u64..200_000, 1..200),
    ) {
        let mut budget = Budget::new(Terms::new(share, MS, 200_000));
        let mut now = 0;
        for cost in costs {
            if let Some(until) = budget.exhausted(now) {
                prop_assert!(until > now);
                now = until;
                prop_assert_eq!(budget.exhausted(now), None);
            }
            budget.charge(now, cost);
        }
    }
}
