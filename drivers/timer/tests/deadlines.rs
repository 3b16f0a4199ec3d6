//! Tests the timer's decisions on the host.

use proptest::prelude::*;
use std::collections::BTreeMap;
use timer_core::{CLIENTS, Deadlines};

#[test]
fn each_client_is_due_once_and_in_time() {
    let mut deadlines = Deadlines::default();
    assert_eq!(deadlines.next(), None);
    deadlines.set(3, 100);
    deadlines.set(5, 50);
    deadlines.set(3, 70);
    deadlines.set(CLIENTS, 1);
    deadlines.set(usize::MAX, 1);
    assert_eq!(deadlines.next(), Some(50));
    assert_eq!(deadlines.take_due(49).count(), 0);
    assert_eq!(deadlines.take_due(80).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(
        (deadlines.next(), deadlines.take_due(u64::MAX).count()),
        (None, 0)
    );
    deadlines.set(1, 10);
    deadlines.cancel(1);
    deadlines.cancel(usize::MAX);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn the_last_of_times_is_a_time_like_others() {
    let mut deadlines = Deadlines::default();
    deadlines.set(61, u64::MAX);
    assert_eq!(deadlines.next(), Some(u64::MAX));
    assert_eq!(deadlines.take_due(u64::MAX - 1).count(), 0);
    assert_eq!(deadlines.take_due(u64::MAX).collect::<Vec<_>>(), [61]);
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, u64),
    Cancel(usize),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..CLIENTS + 2, 0..1000u64).prop_map(|(client, at)| Step::Set(client, at)),
        (0..CLIENTS + 2).prop_map(Step::Cancel),
        (0..100u64).prop_map(Step::Advance),
    ]
}

proptest! {
    #[test]
    fn as_a_map_would_have_it(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut deadlines, mut model, mut now) = (Deadlines::default(), BTreeMap::new(), 0);
        for step in steps {
            match step {
                Step::Set(client, at) => {
                    deadlines.set(client, at);
                    if client < CLIENTS {
                        model.insert(client, at);
                    }
                }
                Step::Cancel(client) => {
                    deadlines.cancel(client);
                    model.remove(&client);
                }
                Step::Advance(by) => {
                    now += by;
                    let due: Vec<_> = model.iter().filter(|(_, at)| **at <= now).map(|(client, _)| *client).collect();
                    model.retain(|_, at| *at > now);
                    prop_assert_eq!(deadlines.take_due(now).collect::<Vec<_>>(), due);
                }
            }
            prop_assert_eq!(deadlines.next(), model.values().min().copied());
        }
    }
}
