//! The manager against a model: random steps, and all short sequences of steps.
//!
//! The rules after each step: one owner for each device, unique names, interfaces and devices one to one, no leak, a
//! primary brane, and only valid transitions of each brane. The model of branes and devices is independent of the
//! manager: two maps.

use super::filter::{delete_rule, flush, insert, rule};
use super::*;
use crate::testing::{World, assign};
use brane_abi::filter::MAX_RULES;
use brane_abi::operator::{Answer, Free, Request};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Length of the sequences that are all tried.
const DEPTH: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Create(usize),
    Delete(usize),
    Shutdown(usize),
    Start(usize),
    Crash(usize),
    Add(usize),
    DeleteDevice(usize),
    Assign(usize, usize),
    Remove(usize),
    Rename(usize, usize),
    /// Inserts a rule at a number, for this port.
    InsertRule(usize, u16, u16),
    DeleteRule(usize, u16),
    Flush(usize),
}

const BRANES: [&str; 5] = ["main", "red", "blue", "green", "gold"];
const DEVICES: [&str; 4] = ["vnic1", "vif8", "vif9", "vnic2"];

/// Expected state: branes with their state, devices with their owners.
#[derive(Clone, Debug)]
struct Model {
    branes: BTreeMap<&'static str, bool>,
    devices: BTreeMap<&'static str, Option<&'static str>>,
    /// The ports of each brane's rules.
    filters: BTreeMap<&'static str, Vec<u16>>,
}

impl Model {
    fn ports(&self, brane: &str) -> usize {
        // main's own device is in no step.
        let own = usize::from(brane == "main");
        own + self
            .devices
            .values()
            .filter(|owner| **owner == Some(brane))
            .count()
    }

    /// Returns true if a step must succeed, and makes the change in the model.
    fn take(&mut self, step: Step) -> bool {
        match step {
            Step::Create(b) => {
                let new = !self.branes.contains_key(BRANES[b]);
                self.branes.entry(BRANES[b]).or_insert(true);
                self.filters.entry(BRANES[b]).or_default();
                new
            }
            Step::Delete(b) => {
                let there = b != 0 && self.branes.remove(BRANES[b]).is_some();
                if there {
                    self.filters.remove(BRANES[b]);
                    for owner in self.devices.values_mut().filter(|o| **o == Some(BRANES[b])) {
                        *owner = None;
                    }
                }
                there
            }
            Step::Shutdown(b) => self.branes.get_mut(BRANES[b]).is_some_and(|s| {
                *s = false;
                true
            }),
            Step::Start(b) => self.branes.get_mut(BRANES[b]).is_some_and(|s| {
                *s = true;
                true
            }),
            Step::Crash(b) => self.branes.get(BRANES[b]) == Some(&true),
            Step::Add(d) => {
                let new = !self.devices.contains_key(DEVICES[d]);
                self.devices.entry(DEVICES[d]).or_insert(None);
                new
            }
            Step::DeleteDevice(d) => {
                let home = self.devices.get(DEVICES[d]) == Some(&None);
                if home {
                    self.devices.remove(DEVICES[d]);
                }
                home
            }
            Step::Assign(d, b) => {
                let fits = self.branes.contains_key(BRANES[b]) && self.ports(BRANES[b]) < 2;
                match self.devices.get_mut(DEVICES[d]) {
                    Some(owner) if fits && *owner != Some(BRANES[b]) => {
                        *owner = Some(BRANES[b]);
                        true
                    }
                    _ => false,
                }
            }
            Step::Remove(d) => self
                .devices
                .get_mut(DEVICES[d])
                .is_some_and(|o| o.take().is_some()),
            // The model knows branes only by their first names, so they are renamed and renamed back.
            Step::Rename(b, to) => {
                self.branes.contains_key(BRANES[b]) && b != to && !self.branes.contains_key(BRANES[to])
            }
            Step::InsertRule(b, at, port) => self.filters.get_mut(BRANES[b]).is_some_and(|rules| {
                let fits = (1..=rules.len() + 1).contains(&at.into()) && rules.len() < MAX_RULES;
                if fits {
                    rules.insert(usize::from(at) - 1, port);
                }
                fits
            }),
            Step::DeleteRule(b, number) => self.filters.get_mut(BRANES[b]).is_some_and(|rules| {
                let exists = (1..=rules.len()).contains(&number.into());
                if exists {
                    rules.remove(usize::from(number) - 1);
                }
                exists
            }),
            Step::Flush(b) => self.filters.get_mut(BRANES[b]).is_some_and(|rules| {
                rules.clear();
                true
            }),
        }
    }
}

fn request(step: Step) -> Request {
    let brane = |b: usize| BRANES[b].to_string();
    let device = |d: usize| DEVICES[d].to_string();
    match step {
        Step::Create(b) => Request::Create {
            name: brane(b),
            families: None,
            start: true,
            memory: None,
        },
        Step::Delete(b) => Request::Delete {
            name: brane(b),
            deadline_ms: 10,
        },
        Step::Shutdown(b) => Request::Shutdown {
            name: brane(b),
            deadline_ms: 10,
        },
        Step::Start(b) => Request::Start(brane(b)),
        Step::Crash(b) => Request::Crash(brane(b)),
        Step::Add(d) => Request::AddDevice(DeviceConfig {
            name: device(d),
            ..DeviceConfig::default()
        }),
        Step::DeleteDevice(d) => Request::DeleteDevice(device(d)),
        Step::Assign(d, b) => assign(DEVICES[d], BRANES[b]),
        Step::Remove(d) => Request::Remove(device(d)),
        Step::Rename(b, to) => Request::RenameBrane {
            from: brane(b),
            to: brane(to),
        },
        Step::InsertRule(b, at, port) => insert(BRANES[b], Some(at), rule(port)),
        Step::DeleteRule(b, number) => delete_rule(BRANES[b], number),
        Step::Flush(b) => flush(BRANES[b]),
    }
}

struct Run {
    world: World,
    model: Model,
    start: Free,
}

impl Run {
    fn new() -> Run {
        let mut world = World::new();
        let start = world.free();
        Run {
            world,
            model: Model {
                branes: [("main", true), ("red", true), ("blue", true)].into(),
                devices: [("vnic1", Some("red")), ("vnic2", Some("blue"))].into(),
                filters: ["main", "red", "blue"].map(|name| (name, vec![])).into(),
            },
            start,
        }
    }

    fn step(&mut self, step: Step) {
        let wanted = self.model.take(step);
        let result = self.world.call(request(step));
        assert_eq!(result.is_ok(), wanted, "{step:?}: {result:?} in {:?}", self.model);
        if let Step::Rename(b, to) = step
            && wanted
        {
            self.world.call(request(Step::Rename(to, b))).unwrap();
        }
        // A crashed brane comes back. This test does not check the delay.
        for _ in 0..100 {
            let down = |b: &crate::instance::Instance| {
                matches!(b.state, LifecycleState::Failed | LifecycleState::Restarting)
            };
            if !self.world.manager.instances.iter().any(down) {
                break;
            }
            self.world.tick();
        }
        self.agree(step);
    }

    fn agree(&mut self, step: Step) {
        let audit = self.world.clean();
        assert_eq!(audit.silent, [""; 0]);
        let (model, world) = (self.model.clone(), &mut self.world);
        for name in BRANES {
            let wanted = match model.branes.get(name) {
                None => "gone",
                Some(true) => "started",
                Some(false) => "created",
            };
            assert_eq!(world.state(name), wanted, "{name} after {step:?}");
        }
        for (name, rules) in &model.filters {
            let brane = world.manager.instances.find(name).expect("it exists").id();
            assert_eq!(
                world.ports(brane.index()),
                *rules,
                "the filter of {name} after {step:?}"
            );
        }
        assert_eq!(
            world.manager.instances[BraneId::new(0)].name(),
            "main",
            "the primary brane stays"
        );
        let Ok(Answer::Devices(all)) = world.call(Request::Devices) else {
            panic!()
        };
        for name in DEVICES {
            let found = all.iter().find(|d| d.config.name == name);
            let owner = found.map(|d| d.ifnet.owner().map(|o| o.brane.as_str()));
            assert_eq!(owner, model.devices.get(name).copied(), "{name} after {step:?}");
        }
    }

    /// Deletes all branes and devices, and checks that everything is free again.
    fn end(mut self) {
        for name in &BRANES[1..] {
            self.world.delete(name).ok();
        }
        for name in DEVICES {
            self.world.call(Request::Remove(name.into())).ok();
            self.world.call(Request::DeleteDevice(name.into())).ok();
        }
        let end = self.world.free();
        let start = self.start;
        // red and blue, each with an interface on a device, existed at the start and do not exist now.
        assert_eq!((end.slots, end.ports), (start.slots + 2, start.ports + 2));
        assert_eq!(
            (end.names, end.macs, end.vifs),
            (start.names - 6, start.macs - 2, start.vifs - 2)
        );
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let (b, d) = (0usize..5, 0usize..4);
    prop_oneof![
        3 => b.clone().prop_map(Step::Create),
        3 => b.clone().prop_map(Step::Delete),
        1 => b.clone().prop_map(Step::Shutdown),
        1 => b.clone().prop_map(Step::Start),
        2 => b.clone().prop_map(Step::Crash),
        2 => d.clone().prop_map(Step::Add),
        1 => d.clone().prop_map(Step::DeleteDevice),
        5 => (d.clone(), b.clone()).prop_map(|(d, b)| Step::Assign(d, b)),
        2 => d.prop_map(Step::Remove),
        1 => (b.clone(), b.clone()).prop_map(|(b, to)| Step::Rename(b, to)),
        4 => (b.clone(), 0u16..6, 1u16..9).prop_map(|(b, at, port)| Step::InsertRule(b, at, port)),
        2 => (b.clone(), 0u16..6).prop_map(|(b, number)| Step::DeleteRule(b, number)),
        1 => b.prop_map(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn whatever_operators_do_who_has_what_is_clear(steps in proptest::collection::vec(steps(), 1..60)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.end();
    }
}

#[test]
fn ten_thousand_random_steps_leave_nothing() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut run = Run::new();
    for _ in 0..10_000 {
        run.step(steps().new_tree(&mut runner).unwrap().current());
    }
    run.end();
}

#[test]
fn all_sequences_of_steps_to_a_depth_keep_the_rules() {
    // Two branes and two devices are enough for all ways in which steps can meet.
    let alphabet = [
        Step::Create(3),
        Step::Delete(3),
        Step::Delete(1),
        Step::Shutdown(3),
        Step::Start(3),
        Step::Crash(3),
        Step::Add(1),
        Step::DeleteDevice(1),
        Step::Assign(1, 3),
        Step::Assign(0, 3),
        Step::Assign(0, 2),
        Step::Remove(0),
    ];
    let mut sequences = 0;
    for n in 0..alphabet.len().pow(DEPTH as u32) {
        let mut run = Run::new();
        let mut n = n;
        for _ in 0..DEPTH {
            run.step(alphabet[n % alphabet.len()]);
            n /= alphabet.len();
        }
        sequences += 1;
    }
    assert_eq!(sequences, 20_736);
}
