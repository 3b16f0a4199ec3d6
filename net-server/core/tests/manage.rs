//! What the manager asks of a brane besides its configuration: signs of life, and to fail.

mod common;

use brane_abi::control::{command, report};
use common::*;
use net_server_core::{Failure, Peer};

fn host() -> Host {
    let mut host = Host::new(interface(1, &["10.0.2.15/24"]), 0);
    host.settle();
    while host.manager.report().is_some() {}
    host
}

/// One turn of the brane: who is notified of it, and how it is to fail.
fn turn(host: &mut Host) -> (Vec<Peer>, Option<Failure>) {
    let mut notified = Vec::new();
    let turn = host.brane.turn(host.now(), |peer| notified.push(peer));
    (notified, turn.fail)
}

#[test]
fn a_heartbeat_is_answered_at_once_and_wakes_nobody() {
    let mut host = host();
    for token in [7, u32::MAX, 0] {
        host.manager.sleep();
        host.manager.command(command::HEARTBEAT, token, &[]);
        assert_eq!(turn(&mut host), (vec![], None));
        assert_eq!(host.manager.report(), Some((report::ALIVE, token, vec![])));
        assert_eq!(host.manager.report(), None);
    }
    // With a report that the manager waits for, it is woken as ever.
    host.manager.sleep();
    host.manager.command(command::HEARTBEAT, 1, &[]);
    host.manager.command(command::REPORT, 2, &[]);
    assert_eq!(turn(&mut host), (vec![Peer::Manager], None));
    assert_eq!(host.manager.report(), Some((report::ALIVE, 1, vec![])));
    assert!(matches!(host.manager.report(), Some((report::STATUS, 2, _))));
}

#[test]
fn a_brane_fails_in_the_way_that_it_is_told() {
    for (kind, how) in [(command::CRASH, Failure::Fault), (command::HANG, Failure::Hang)] {
        let mut host = host();
        host.manager.command(kind, 1, &[]);
        assert_eq!(turn(&mut host).1, Some(how));
        assert_eq!(turn(&mut host).1, None);
    }
}
