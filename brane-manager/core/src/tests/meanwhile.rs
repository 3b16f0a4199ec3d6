//! Concurrent operators: requests of one while a job of the other is running.
//!
//! The rules of [`crate::testing`] are checked after every event; this file has specific sequences.

use super::*;
use crate::testing::{Manner, World, assign};
use brane_abi::operator::{Addressing, Kind, Mode};
use operator_cli::refusals::Words;

pub(super) fn pair() -> Request {
    Request::AddDevice(DeviceConfig {
        name: "left".into(),
        kind: Kind::Pair("right".into()),
        ..DeviceConfig::default()
    })
}

pub(super) fn delete_device(name: &str) -> Request {
    Request::DeleteDevice(name.into())
}

pub(super) fn remove(name: &str) -> Request {
    Request::Remove(name.into())
}

pub(super) fn delete(name: &str) -> Request {
    Request::Delete {
        name: name.into(),
        deadline_ms: 0,
    }
}

pub(super) fn shutdown(name: &str) -> Request {
    Request::Shutdown {
        name: name.into(),
        deadline_ms: 10,
    }
}

pub(super) fn rename(from: &str, to: &str) -> Request {
    Request::RenameBrane {
        from: from.into(),
        to: to.into(),
    }
}

pub(super) fn rename_device(from: &str, to: &str) -> Request {
    Request::RenameDevice {
        from: from.into(),
        to: to.into(),
    }
}

pub(super) fn limit(name: &str) -> Request {
    Request::Limit {
        device: name.into(),
        mode: Some(Mode::Private),
        allow: None,
        rate_up: Some(5_000),
        rate_down: None,
    }
}

impl World {
    /// Begins a request of operator 0, which waits for a brane. Returns the job.
    fn first(&mut self, request: &Request) -> u32 {
        self.begin_as(0, request).expect_err("it waits")
    }

    /// Begins a request of operator 1, which must be refused at once. Returns the reason.
    fn meets(&mut self, request: &Request) -> String {
        match self.begin_as(1, request) {
            Ok(Err(why)) => why.words().what,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// Runs the system until operator 0's job ends. Returns the result.
    fn end(&mut self, job: u32) -> Result<Answer, Refusal> {
        for _ in 0..500 {
            self.run();
            if let Some(end) = self.poll_as(0, job) {
                return end;
            }
            self.tick();
        }
        panic!("job {job} does not end");
    }
}

#[test]
fn deleting_the_other_end_of_a_pair_during_an_assign_leaves_no_interface_behind() {
    let mut w = World::new();
    w.done(pair());
    let job = w.first(&assign("left", "red"));
    let being_changed = |name: &str| format!("device \"{name}\" is being changed");
    assert_eq!(w.meets(&delete_device("right")), being_changed("right"));
    assert_eq!(w.meets(&delete_device("left")), being_changed("left"));
    w.end(job).unwrap();
    assert_eq!(w.owner("left"), "red/net1");
    let red = w.branes[1].config.as_ref().unwrap();
    let ports: Vec<_> = red.interfaces.iter().map(|i| i.port).collect();
    assert_eq!(ports, [0, 1]);
    w.clean();
    // After the job, the lock is free.
    w.done(remove("left"));
    w.call(delete_device("right")).unwrap();
    w.clean();
}

#[test]
fn both_ends_of_a_pair_are_locked_while_one_is_changed() {
    for waits in [assign("right", "blue"), assign("left", "blue"), remove("left")] {
        let mut w = World::new();
        w.done(pair());
        w.done(assign("left", "red"));
        let job = w.first(&waits);
        for end in ["left", "right"] {
            for request in [
                delete_device(end),
                rename_device(end, "other"),
                limit(end),
                assign(end, "main"),
                remove(end),
            ] {
                let what = w.meets(&request);
                assert_eq!(what, format!("device \"{end}\" is being changed"), "{request:?}");
            }
        }
        let _ = w.end(job);
        w.clean();
    }
}

#[test]
fn a_device_is_not_assigned_while_its_old_owner_is_being_changed() {
    for change in [
        rename("red", "rot"),
        shutdown("red"),
        Request::Delete {
            name: "red".into(),
            deadline_ms: 100,
        },
        Request::Adjust {
            brane: "red".into(),
            interface: "net0".into(),
            addressing: Addressing::default(),
        },
    ] {
        let mut w = World::new();
        let job = w.first(&change);
        let what = w.meets(&assign("vnic1", "blue"));
        assert!(what.starts_with("brane \"red\" is being changed"), "{what}");
        assert!(
            w.meets(&remove("vnic1"))
                .starts_with("brane \"red\" is being changed")
        );
        w.end(job).unwrap();
        w.clean();
    }
}

#[test]
fn neither_owner_is_changed_while_a_device_moves() {
    let mut w = World::new();
    let job = w.first(&assign("vnic1", "blue"));
    for brane in ["red", "blue"] {
        for request in [
            delete(brane),
            shutdown(brane),
            rename(brane, "rot"),
            Request::Start(brane.into()),
            assign("vnic0", brane),
            Request::RenameInterface {
                brane: brane.into(),
                from: "net0".into(),
                to: "wan".into(),
            },
        ] {
            let what = w.meets(&request);
            assert!(
                what.starts_with(&format!("brane \"{brane}\" is being changed")),
                "{what}"
            );
        }
    }
    w.end(job).unwrap();
    assert_eq!(w.owner("vnic1"), "blue/net1");
    w.clean();
}

#[test]
fn a_port_is_free_again_only_when_the_brane_has_given_its_interface_up() {
    let mut w = World::new();
    w.done(pair());
    // The brane adds the interface, the driver refuses to bind it, and the brane does not answer the `DETACH`.
    w.branes[1].manner = Manner::Deaf(command::DETACH);
    let job = w.first(&assign("left", "red"));
    w.nics.refuse_after = Some(0);
    w.step();
    assert!(w.nics.refused);
    assert_eq!(w.branes[1].config.as_ref().unwrap().interfaces.len(), 2);
    let what = w.meets(&assign("vnic2", "red"));
    assert_eq!(what, "brane \"red\" is being changed (started)");
    assert_eq!(w.poll_as(0, job), None);
    w.branes[1].manner = Manner::Honest;
    let why = w.end(job).unwrap_err();
    assert_eq!(
        why.words().what,
        "the NIC driver refuses `left`: its table is full"
    );
    assert_eq!(
        (w.owner("left"), w.manager.instances[BraneId::new(1)].restarts),
        ("unattached".into(), 1)
    );
    w.until_started("red");
    w.done(assign("vnic2", "red"));
    w.clean();
}

#[test]
fn two_branes_cannot_be_renamed_to_one_name_at_the_same_time() {
    let mut w = World::new();
    let job = w.first(&rename("red", "rot"));
    for request in [
        rename("blue", "rot"),
        Request::Create {
            name: "rot".into(),
            families: None,
            start: true,
            memory: None,
        },
    ] {
        assert_eq!(w.meets(&request), "the name \"rot\" is taken by a brane");
    }
    // The brane keeps its old name until the job ends. Then the name is free.
    assert!(w.meets(&rename("blue", "red")).contains("taken by a brane"));
    w.end(job).unwrap();
    w.done(rename("blue", "red"));
    w.clean();
}

#[test]
fn a_shutdown_that_takes_longer_than_its_job_is_not_turned_round_halfway() {
    use brane_abi::subscription::{Subscription, Transition};
    let mut w = World::new();
    // A subscriber with many notifications. It acknowledges each just in time.
    let wants = Subscription {
        brane: None,
        family: None,
        transitions: Transition::ALL.to_vec(),
        protocols: vec![],
    };
    w.subscribers[0].hangs = true;
    for _ in 0..12 {
        w.subscribe(0, &wants);
    }
    w.notifications(0);
    let job = w.first(&shutdown("red"));
    let mut end = None;
    for _ in 0..130 {
        assert!(w.answers(0), "it is asked one after the other");
        w.pass(490);
        end = end.or_else(|| w.poll_as(0, job));
    }
    assert_eq!(
        end.unwrap().unwrap_err().words().what,
        "it takes longer than 60 s and continues"
    );
    assert_eq!(w.state("red"), "stopping");
    let what = w.meets(&Request::Start("red".into()));
    assert_eq!(what, "brane \"red\" is being changed (stopping)");
    w.subscribers[0].hangs = false;
    w.answers(0);
    w.run();
    assert_eq!(w.state("red"), "created");
    w.done(Request::Start("red".into()));
    w.clean();
}

#[test]
fn a_brane_that_is_deleted_while_it_starts_carries_no_frame_until_it_is_gone() {
    use brane_abi::subscription::{Subscription, Transition};
    let mut w = World::new();
    w.subscribe(
        0,
        &Subscription {
            brane: Some("red".into()),
            transitions: vec![Transition::AfterCreate, Transition::BeforeDestroy],
            ..Subscription::all()
        },
    );
    // The brane is bound for a start that it never confirms.
    w.branes[1].manner = Manner::Deaf(command::START);
    w.done(Request::Crash("red".into()));
    let bound = |w: &mut World| w.nics.table(0).iter().filter(|v| v.brane == 2).count();
    assert_eq!((w.state("red"), bound(&mut w)), ("created", 1));
    w.subscribers[0].hangs = true;
    let job = w.first(&delete("red"));
    assert_eq!((w.state("red"), bound(&mut w)), ("deleting", 0));
    w.end(job).unwrap();
    // A brane that is bound for a configuration without an answer carries no frame either.
    w.branes[2].manner = Manner::Deaf(command::CONFIGURE);
    w.done(Request::Crash("blue".into()));
    let bound = |w: &mut World| w.nics.table(0).iter().filter(|v| v.brane == 3).count();
    assert_eq!((w.state("blue"), bound(&mut w)), ("restarting", 1));
    let job = w.first(&delete("blue"));
    assert_eq!(bound(&mut w), 0);
    w.end(job).unwrap();
    w.clean();
}

#[test]
fn one_operator_neither_ends_nor_fetches_the_jobs_of_another() {
    let mut w = World::new();
    let no_job = |job: u32| format!("there is no job {job}");
    // A job that runs.
    let last = w.events(0).len() as u64;
    let job = w.first(&Request::Events {
        after: last + 1,
        wait: true,
    });
    w.cancel_as(1, job);
    assert_eq!(w.poll_as(1, job).unwrap().unwrap_err().words().what, no_job(job));
    assert_eq!(w.poll_as(0, job), None, "it goes on");
    // A job that has ended and is not fetched.
    w.done(rename("red", "rot"));
    w.done(rename("blue", "blau"));
    w.cancel_as(1, job);
    assert_eq!(w.poll_as(1, job).unwrap().unwrap_err().words().what, no_job(job));
    let Some(Ok(Answer::Events(events))) = w.poll_as(0, job) else {
        panic!()
    };
    assert_eq!(events[0].number, last + 2);
    // A batch of the other operator continues to its last request.
    let parts = [rename("rot", "red"), rename("blau", "blue")];
    let job = w.first(&Request::batch(&parts));
    w.cancel_as(1, job);
    let Ok(Answer::Batch(outcomes)) = w.end(job) else {
        panic!()
    };
    assert_eq!(outcomes.len(), 2);
    assert_eq!((w.state("red"), w.state("blue")), ("started", "started"));
}
