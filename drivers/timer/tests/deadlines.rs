//! The timer's decisions, on the host.

use timer_core::Deadlines;

#[test]
fn each_client_is_due_once_and_in_time() {
    let mut deadlines = Deadlines::default();
    assert_eq!(deadlines.next(), None);
    deadlines.set(3, 100);
    deadlines.set(5, 50);
    deadlines.set(3, 70);
    deadlines.set(99, 1);
    assert_eq!(deadlines.next(), Some(50));
    assert_eq!(deadlines.take_due(49).count(), 0);
    assert_eq!(deadlines.take_due(80).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(
        (deadlines.next(), deadlines.take_due(u64::MAX).count()),
        (None, 0)
    );
    deadlines.set(1, 10);
    deadlines.cancel(1);
    assert_eq!(deadlines.next(), None);
}
