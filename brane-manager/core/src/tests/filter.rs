//! Rules of a brane's packet filter.

use super::meanwhile::{delete, rename};
use super::*;
use crate::staging::LISTS;
use crate::testing::{Manner, World};
use brane_abi::filter::{Action as Verdict, Edit, End, MAX_FILTER, MAX_RULES, PortRange, Rule};
use brane_abi::query::{self, Query};

/// Returns a rule that drops TCP segments to this port.
pub(super) fn rule(port: u16) -> Rule {
    Rule {
        action: Verdict::Drop,
        protocol: Some(6),
        to: End {
            ports: vec![PortRange {
                first: port,
                last: port,
            }],
            ..End::default()
        },
        ..Rule::default()
    }
}

/// Returns a rule that needs more than 200 bytes.
fn long_rule(port: u16) -> Rule {
    let ports = |first: u16| (0..8).map(move |n| first + 1000 * n).collect::<Vec<u16>>();
    let ranges = |first: u16| {
        let all = ports(first).into_iter();
        all.map(|first| PortRange {
            first,
            last: first + 1,
        })
    };
    Rule {
        from: End {
            ports: ranges(2000).collect(),
            ..End::default()
        },
        to: End {
            ports: ranges(port).collect(),
            ..End::default()
        },
        ..rule(port)
    }
}

fn edit(brane: &str, edit: Edit) -> Request {
    Request::Filter {
        brane: brane.into(),
        edit,
    }
}

pub(super) fn add_rule(brane: &str, port: u16) -> Request {
    insert(brane, None, rule(port))
}

pub(super) fn insert(brane: &str, at: Option<u16>, rule: Rule) -> Request {
    edit(brane, Edit::Add { at, rule })
}

pub(super) fn delete_rule(brane: &str, number: u16) -> Request {
    edit(brane, Edit::Delete(number))
}

pub(super) fn flush(brane: &str) -> Request {
    edit(brane, Edit::Flush)
}

/// Returns the request that begins a collection of these rules.
pub(super) fn stage(brane: &str, ports: &[u16]) -> Request {
    let rules = ports.iter().map(|&port| rule(port)).collect();
    edit(brane, Edit::Stage { first: true, rules })
}

/// Returns the request that continues a collection.
fn stage_more(brane: &str, ports: &[u16]) -> Request {
    let rules = ports.iter().map(|&port| rule(port)).collect();
    edit(brane, Edit::Stage { first: false, rules })
}

pub(super) fn replace(brane: &str) -> Request {
    edit(brane, Edit::Replace)
}

fn ports(rules: &[Rule]) -> Vec<u16> {
    rules.iter().map(|rule| rule.to.ports[0].first).collect()
}

impl World {
    /// Returns the ports of a brane's rules: those in force, which must be those of the manager.
    pub(super) fn ports(&self, brane: usize) -> Vec<u16> {
        let kept = ports(self.manager.instances.filter(BraneId::new(brane)));
        let config = self.branes[brane].config.as_ref().expect("it is configured");
        assert_eq!(ports(&config.filter), kept);
        kept
    }

    /// Adds rules to `red` with these ports.
    fn filtered(&mut self, ports: &[u16]) {
        for &port in ports {
            self.done(add_rule("red", port));
        }
    }

    /// Lets an operator collect rules, without events between.
    fn stages(&mut self, operator: usize, request: &Request) -> Result<Answer, Refusal> {
        self.begin_as(operator, request).expect("it is done at once")
    }
}

#[test]
fn rules_are_added_inserted_deleted_and_flushed() {
    let mut w = World::new();
    assert_eq!(w.done(add_rule("red", 1)), "the filter of red has 1 rule");
    assert_eq!(w.done(add_rule("red", 2)), "the filter of red has 2 rules");
    w.done(insert("red", Some(1), rule(3)));
    assert_eq!(w.ports(1), [3, 1, 2]);
    w.done(insert("red", Some(4), rule(4)));
    assert_eq!(w.ports(1), [3, 1, 2, 4], "behind the last rule");
    w.done(delete_rule("red", 2));
    w.done(delete_rule("red", 3));
    assert_eq!(w.ports(1), [3, 2]);
    w.done(flush("red"));
    assert_eq!(w.ports(1), [0; 0]);
    assert_eq!(w.done(flush("red")), "the filter of red has no rules");
    assert_eq!(w.ports(0), [0; 0], "no other brane has changed");
    let events = w.events(0);
    let filtered = events.iter().filter(|e| *e == "filtered red").count();
    assert_eq!(filtered, 8);
    w.clean();
}

#[test]
fn numbers_that_no_rule_has_are_refused() {
    let mut w = World::new();
    let none = |number: u32, rules| Refusal::NoSuchRule {
        brane: "red".into(),
        number,
        rules,
    };
    assert_eq!(w.call(delete_rule("red", 1)), Err(none(1, 0)));
    assert_eq!(w.call(insert("red", Some(2), rule(1))), Err(none(2, 0)));
    w.filtered(&[1, 2]);
    for number in [0, 3, u16::MAX] {
        assert_eq!(w.call(delete_rule("red", number)), Err(none(number.into(), 2)));
    }
    for number in [0, 4] {
        assert_eq!(
            w.call(insert("red", Some(number), rule(3))),
            Err(none(number.into(), 2))
        );
    }
    assert_eq!(w.ports(1), [1, 2]);
    assert!(w.refused(flush("rde")).starts_with("no brane named \"rde\""));
}

#[test]
fn a_filter_has_bounds() {
    let mut w = World::new();
    let ports: Vec<u16> = (1..=MAX_RULES as u16).collect();
    w.filtered(&ports);
    let too_many = Refusal::TooManyRules {
        rules: MAX_RULES as u32 + 1,
        most: MAX_RULES as u32,
    };
    assert_eq!(w.call(add_rule("red", 100)), Err(too_many.clone()));
    assert_eq!(w.ports(1), ports);
    // A collection has the same bounds.
    w.stages(1, &stage("red", &[])).unwrap();
    for part in ports.chunks(20) {
        w.stages(1, &stage_more("red", part)).unwrap();
    }
    assert_eq!(w.stages(1, &stage_more("red", &[100])), Err(too_many));
    assert_eq!(
        w.stages(1, &replace("red")),
        Err(Refusal::NothingStaged("red".into())),
        "a refused collection is forgotten"
    );

    w.done(flush("red"));
    let mut bytes = 0;
    for n in 1.. {
        let before = w.manager.instances.filter(BraneId::new(1)).to_vec();
        match w.call(insert("red", None, long_rule(n))) {
            Ok(_) => {
                bytes = minicbor::to_vec(w.manager.instances.filter(BraneId::new(1)))
                    .unwrap()
                    .len()
            }
            Err(why) => {
                let mut all = before.clone();
                all.push(long_rule(n));
                let bytes = minicbor::to_vec(&all).unwrap().len();
                assert!(bytes > MAX_FILTER, "{bytes}");
                assert_eq!(
                    why,
                    Refusal::FilterTooLong {
                        bytes: bytes as u32,
                        most: MAX_FILTER as u32
                    }
                );
                assert_eq!(w.manager.instances.filter(BraneId::new(1)), before);
                break;
            }
        }
    }
    assert!(bytes > MAX_FILTER - 300, "{bytes}");
    // The longest filter fits into the configuration of the next incarnation.
    w.faults(1);
    w.run();
    assert_eq!(w.state("red"), "started");
    w.clean();
}

#[test]
fn impossible_rules_are_refused_with_their_number() {
    let mut w = World::new();
    // Ports of a protocol without ports.
    let bad = Rule {
        protocol: Some(1),
        ..rule(1)
    };
    let why = branes_pfil::check(&bad).unwrap_err().to_string();
    let refusal = |number| Refusal::BadRule {
        number,
        why: why.clone(),
    };
    w.filtered(&[1, 2]);
    assert_eq!(w.call(insert("red", None, bad.clone())), Err(refusal(3)));
    assert_eq!(w.call(insert("red", Some(1), bad.clone())), Err(refusal(1)));
    w.stages(1, &stage("red", &[7])).unwrap();
    let more = Edit::Stage {
        first: false,
        rules: vec![rule(8), bad],
    };
    assert_eq!(w.stages(1, &edit("red", more)), Err(refusal(3)));
    assert_eq!(w.ports(1), [1, 2]);
}

#[test]
fn a_replacement_has_exactly_the_rules_that_were_collected() {
    let mut w = World::new();
    w.filtered(&[1, 2]);
    let staged = w.stages(1, &stage("red", &[5, 6])).unwrap();
    assert_eq!(staged, Answer::Done(operator::Done::Staged(2)));
    assert_eq!(w.ports(1), [1, 2], "nothing has changed");
    w.stages(1, &stage_more("red", &[7])).unwrap();
    w.call_as(1, replace("red")).unwrap();
    assert_eq!(w.ports(1), [5, 6, 7]);
    // The collection is used up.
    let nothing = Err(Refusal::NothingStaged("red".into()));
    assert_eq!(w.call_as(1, replace("red")), nothing);
    assert_eq!(w.stages(1, &stage_more("red", &[8])), nothing);
    // A collection without rules, which was begun, makes a filter without rules.
    w.stages(1, &stage("red", &[])).unwrap();
    w.call_as(1, replace("red")).unwrap();
    assert_eq!(w.ports(1), [0; 0]);
    // The first part of another collection forgets the one before.
    w.stages(1, &stage("red", &[8])).unwrap();
    w.stages(1, &stage("red", &[9])).unwrap();
    w.call_as(1, replace("red")).unwrap();
    assert_eq!(w.ports(1), [9]);
    w.clean();
}

#[test]
fn two_operators_collect_on_their_own_and_for_each_brane() {
    let mut w = World::new();
    w.stages(0, &stage("red", &[1])).unwrap();
    w.stages(1, &stage("red", &[2])).unwrap();
    w.stages(1, &stage("blue", &[3])).unwrap();
    w.stages(0, &stage_more("red", &[4])).unwrap();
    assert_eq!(
        w.call_as(0, replace("blue")),
        Err(Refusal::NothingStaged("blue".into()))
    );
    w.call_as(1, replace("red")).unwrap();
    assert_eq!(w.ports(1), [2]);
    w.call_as(0, replace("red")).unwrap();
    assert_eq!(w.ports(1), [1, 4]);
    w.call_as(1, replace("blue")).unwrap();
    assert_eq!(w.ports(2), [3]);
    // An operator that fails has collected nothing in its next incarnation.
    w.stages(0, &stage("red", &[5])).unwrap();
    w.stages(1, &stage("red", &[6])).unwrap();
    w.event(Event::Fault {
        child: Child::Operator(OperatorId::new(0)),
        what: "invalid instruction",
    });
    assert_eq!(
        w.call_as(0, replace("red")),
        Err(Refusal::NothingStaged("red".into()))
    );
    w.call_as(1, replace("red")).unwrap();
    assert_eq!(w.ports(1), [6]);
    w.clean();
}

#[test]
fn the_collections_of_an_operator_are_bounded() {
    let mut w = World::with(many_branes(LISTS + 1), LISTS + 1, 1);
    let name = |n: usize| format!("b{n}");
    for n in 0..=LISTS {
        w.stages(1, &stage(&name(n), &[n as u16 + 1])).unwrap();
        w.stages(0, &stage(&name(0), &[77])).unwrap();
    }
    let nothing = Err(Refusal::NothingStaged(name(0)));
    assert_eq!(
        w.call_as(1, replace(&name(0))),
        nothing,
        "the oldest is displaced"
    );
    for n in 1..=LISTS {
        w.call_as(1, replace(&name(n))).unwrap();
        assert_eq!(w.ports(n), [n as u16 + 1]);
    }
    w.call_as(0, replace(&name(0))).unwrap();
    assert_eq!(w.ports(0), [77], "the other operator's list stays");
}

/// The heap of the manager in `system.xml` counts 32 KiB for each filter. An instruction of 5 bytes of CBOR needs 8 bytes of
/// memory, and all other parts need less. A list that grows has up to twice the memory of its entries.
#[test]
fn the_longest_filter_needs_32_kib() {
    let contents = 2 * MAX_FILTER * 8 / 5;
    assert!(MAX_RULES * size_of::<Rule>() + contents <= 32 << 10);
}

/// Returns a system of branes without interfaces.
fn many_branes(count: usize) -> BootConfig {
    let branes = (0..count).map(|n| BraneBoot {
        name: format!("b{n}"),
        primary: n == 0,
        ..BraneBoot::default()
    });
    BootConfig {
        branes: branes.collect(),
        ..BootConfig::default()
    }
}

#[test]
fn a_brane_that_refuses_keeps_its_rules() {
    for change in [
        add_rule("red", 3),
        delete_rule("red", 1),
        flush("red"),
        replace("red"),
    ] {
        let mut w = World::new();
        w.filtered(&[1, 2]);
        w.stages(1, &stage("red", &[9])).unwrap();
        w.branes[1].manner = Manner::Refuses(command::FILTER);
        let why = w.call_as(1, change.clone()).unwrap_err();
        assert_eq!(why, Refusal::RefusedByBrane("I do not want to".into()));
        assert_eq!(w.ports(1), [1, 2], "{change:?}");
        w.branes[1].manner = Manner::Honest;
        if change == replace("red") {
            // The collection is used up all the same.
            let nothing = Err(Refusal::NothingStaged("red".into()));
            assert_eq!(w.call_as(1, replace("red")), nothing);
        }
        w.done(add_rule("red", 4));
        assert_eq!(w.ports(1), [1, 2, 4]);
    }
}

#[test]
fn a_brane_that_fails_during_a_change_restarts_with_its_old_rules() {
    for manner in [Manner::Dies(command::FILTER), Manner::Deaf(command::FILTER)] {
        let mut w = World::new();
        w.filtered(&[1, 2]);
        w.branes[1].manner = manner;
        let job = w.begin_as(1, &add_rule("red", 3)).unwrap_err();
        // The brane is locked until the command has ended.
        let meanwhile = w.begin_as(0, &add_rule("red", 4)).unwrap().unwrap_err();
        assert!(
            matches!(meanwhile, Refusal::BraneIsChanging { .. }),
            "{meanwhile:?}"
        );
        w.run();
        while w.poll_as(1, job).map(|end| end.unwrap_err()) != Some(Refusal::BraneFailed) {
            w.tick();
        }
        w.branes[1].manner = Manner::Honest;
        w.until_started("red");
        assert_eq!(w.manager.instances[BraneId::new(1)].restarts, 1);
        assert_eq!(w.ports(1), [1, 2], "they are part of CONFIGURE");
        w.clean();
    }
}

#[test]
fn rules_are_in_force_after_a_restart_and_before_a_start() {
    let mut w = World::new();
    w.filtered(&[1, 2]);
    w.done(Request::Crash("red".into()));
    w.run();
    w.until_started("red");
    assert_eq!(w.ports(1), [1, 2]);
    // A brane that is created but not started has a filter too.
    w.done(Request::Create {
        name: "green".into(),
        families: None,
        start: false,
        memory: None,
    });
    w.done(add_rule("green", 7));
    assert_eq!(w.ports(3), [7]);
    assert!(!w.branes[3].started);
    w.done(Request::Start("green".into()));
    assert_eq!(w.ports(3), [7]);
    // The rules move with a new name.
    w.done(rename("red", "rot"));
    assert_eq!(w.ports(1), [1, 2]);
    w.done(add_rule("rot", 3));
    w.faults(1);
    w.run();
    w.until_started("rot");
    assert_eq!(w.ports(1), [1, 2, 3]);
    w.clean();
}

#[test]
fn rules_can_be_changed_while_a_brane_restarts() {
    let mut w = World::new();
    w.filtered(&[1]);
    w.faults(1);
    w.step();
    // The next incarnation has no configuration yet: the change is stored, and is part of it.
    assert_eq!(w.state("red"), "restarting");
    assert!(!w.manager.instances[BraneId::new(1)].configured);
    let done = w.begin_as(1, &add_rule("red", 3)).expect("it is done at once");
    assert_eq!(
        done,
        Ok(Answer::Done(operator::Done::Filtered {
            brane: "red".into(),
            rules: 2
        }))
    );
    w.run();
    w.until_started("red");
    assert_eq!(w.ports(1), [1, 3]);
    w.clean();
}

#[test]
fn a_refused_configuration_is_tried_again_with_other_rules() {
    let mut w = World::new();
    w.filtered(&[1]);
    w.branes[1].manner = Manner::Refuses(command::CONFIGURE);
    w.done(Request::Crash("red".into()));
    w.run();
    let state = w.manager.instances[BraneId::new(1)].state;
    assert_eq!(state, LifecycleState::Refused);
    w.branes[1].manner = Manner::Honest;
    w.done(flush("red"));
    w.until_started("red");
    assert_eq!(w.ports(1), [0; 0]);
    w.clean();
}

#[test]
fn a_deleted_brane_leaves_no_rules_to_the_next_one() {
    let mut w = World::new();
    w.filtered(&[1, 2]);
    w.stages(1, &stage("red", &[9])).unwrap();
    w.stages(1, &stage("blue", &[8])).unwrap();
    w.call(delete("red")).unwrap();
    w.create("red").unwrap();
    let red = w.manager.instances.find("red").unwrap().id().index();
    assert_eq!(w.ports(red), [0; 0]);
    assert_eq!(
        w.call_as(1, replace("red")),
        Err(Refusal::NothingStaged("red".into()))
    );
    // Also in the instance of the deleted brane.
    for n in 0.. {
        if w.create(&format!("x{n}")).is_err() {
            break;
        }
    }
    let old = w.manager.instances[BraneId::new(1)].name().to_string();
    assert!(!old.is_empty() && w.ports(1).is_empty());
    assert_eq!(
        w.call_as(1, replace(&old)),
        Err(Refusal::NothingStaged(old.clone()))
    );
    w.call_as(1, replace("blue")).unwrap();
    assert_eq!(w.ports(2), [8]);
    w.clean();
}

#[test]
fn a_boot_configuration_has_rules_and_is_saved_with_them() {
    let mut config = boot();
    config.branes[1].filter = vec![rule(1), rule(2)];
    let mut w = World::with(config, 5, 2);
    assert_eq!(w.ports(1), [1, 2]);
    w.done(insert("red", Some(1), rule(3)));
    w.done(add_rule("blue", 4));
    let Ok(Answer::Saved(bytes)) = w.call(Request::Save) else {
        panic!()
    };
    let saved = BootConfig::from_bytes(&bytes).unwrap();
    assert_eq!(saved.check(5, 2), Ok(()));
    let rules: Vec<_> = saved.branes.iter().map(|b| ports(&b.filter)).collect();
    assert_eq!(rules, [vec![], vec![3, 1, 2], vec![4]]);
}

#[test]
fn the_rules_of_a_boot_configuration_are_checked() {
    let with = |rules: Vec<Rule>| {
        let mut config = boot();
        config.branes[1].filter = rules;
        config.check(5, 2).map_err(|e| e.to_string())
    };
    assert_eq!(with((1..=MAX_RULES as u16).map(rule).collect()), Ok(()));
    assert_eq!(
        with((0..=MAX_RULES as u16).map(rule).collect()),
        Err("the filter of brane `red`: 65 rules, a filter takes 64".into())
    );
    let long = with((1..=MAX_RULES as u16).map(long_rule).collect()).unwrap_err();
    assert!(long.ends_with("bytes, 6144 fit"), "{long}");
    let bad = Rule {
        protocol: Some(1),
        ..rule(1)
    };
    let why = with(vec![rule(1), bad]).unwrap_err();
    assert!(why.starts_with("the filter of brane `red`: rule 2: "), "{why}");
}

#[test]
fn a_list_of_rules_comes_from_the_brane() {
    let mut w = World::new();
    let query = |skip| Request::Query {
        brane: "red".into(),
        query: Query::Filter { skip },
    };
    w.filtered(&(1..=12).collect::<Vec<_>>());
    let mut page = |skip| match w.call(query(skip)) {
        Ok(Answer::Query(query::Answer::Filter(rules, more))) => {
            let all = rules.iter().map(|s| (s.rule.to.ports[0].first, s.packets));
            (all.collect::<Vec<_>>(), more)
        }
        other => panic!("{other:?}"),
    };
    let (first, more) = page(0);
    assert_eq!((first.len(), first[0], more), (10, (1, 1), true));
    assert_eq!(page(10), (vec![(11, 11), (12, 12)], false));
}
