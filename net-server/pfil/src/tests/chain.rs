//! The chain of hooks, against a list that is sorted each time.

use super::*;
use crate::chain::*;

#[derive(Clone, Debug)]
enum Step {
    Attach(u16, String, u8),
    Detach(u8),
    Order(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let rank = || 0u16..4;
    prop_oneof![
        4 => (rank(), "[a-t]?", 0u8..20).prop_map(|(rank, name, key)| Step::Attach(rank, name, key)),
        1 => (0u8..20).prop_map(Step::Detach),
        1 => (0u8..20, rank()).prop_map(|(key, rank)| Step::Order(key, rank)),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    use Verdict::*;
    prop_oneof![6 => Just(Pass), 2 => Just(Modified), 1 => Just(Drop), 1 => Just(Reject), 1 => Just(Absorb)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn behaves_as_a_sorted_list(steps in vec(step(), 0..80), verdicts in vec(verdict(), 20)) {
        let mut head = Head::new();
        // Rank, time at which the hook got it, name, key.
        let mut model: Vec<(u16, usize, String, u8)> = Vec::new();
        for (time, step) in steps.into_iter().enumerate() {
            match step {
                Step::Attach(rank, name, key) => {
                    let expected = if name.is_empty() {
                        Err(Refused::Name)
                    } else if model.iter().any(|hook| hook.2 == name) {
                        Err(Refused::NameInUse)
                    } else if model.iter().any(|hook| hook.3 == key) {
                        Err(Refused::KeyInUse)
                    } else if model.len() == 16 {
                        Err(Refused::Full)
                    } else {
                        model.push((rank, time, name.clone(), key));
                        Ok(())
                    };
                    prop_assert_eq!(head.attach(rank, &name, key), expected);
                }
                Step::Detach(key) => {
                    let before = model.len();
                    model.retain(|hook| hook.3 != key);
                    prop_assert_eq!(head.detach(key), model.len() < before);
                }
                Step::Order(key, rank) => {
                    let found = model.iter_mut().find(|hook| hook.3 == key);
                    prop_assert_eq!(head.order(key, rank), found.is_some());
                    if let Some(hook) = found {
                        (hook.0, hook.1) = (rank, time);
                    }
                }
            }
            model.sort();
            let hooks: Vec<_> = head.hooks().iter().map(|hook| (hook.rank, hook.name.clone(), hook.key)).collect();
            let wanted: Vec<_> = model.iter().map(|hook| (hook.0, hook.2.clone(), hook.3)).collect();
            prop_assert_eq!(hooks, wanted);
            prop_assert_eq!(head.is_empty(), model.is_empty());

            let mut called = Vec::new();
            let result = head.run(|key| {
                called.push(key);
                verdicts[usize::from(key)]
            });
            let end = model.iter().position(|hook| !verdicts[usize::from(hook.3)].goes_on());
            let run: Vec<u8> = model.iter().take(end.map_or(model.len(), |end| end + 1)).map(|hook| hook.3).collect();
            let modified = run.iter().any(|key| verdicts[usize::from(*key)] == Verdict::Modified);
            let expected = match end {
                Some(end) => verdicts[usize::from(model[end].3)],
                None if modified => Verdict::Modified,
                None => Verdict::Pass,
            };
            prop_assert_eq!(called, run);
            prop_assert_eq!(result, expected);
        }
    }
}

#[test]
fn names_have_a_length() {
    let mut head = Head::new();
    assert_eq!(head.attach(0, &"x".repeat(32), 1), Err(Refused::Name));
    assert_eq!(head.attach(0, &"x".repeat(31), 1), Ok(()));
    assert_eq!(Head::<u8>::default().run(|_| Verdict::Drop), Verdict::Pass);
}
