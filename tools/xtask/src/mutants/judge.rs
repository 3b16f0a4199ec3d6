//! The judgement: compares the outcomes of cargo-mutants with the sample and with the listed reasons.
//!
//! On the other side: `outcomes.json` of cargo-mutants, and `docs/mutants.md`. Both are checked here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::sample::{Mutant, Written};

/// Maximum share of the viable mutants that may survive, in percent.
pub const MOST_PERCENT: usize = 10;

/// Outcomes of the mutants of one crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Mutants for which a test failed.
    pub caught: usize,
    /// Mutants with which the tests exceeded the time bound. They count as caught.
    pub timed_out: usize,
    /// Mutants that do not compile.
    pub unviable: usize,
    /// Mutants with which all tests passed.
    pub survivors: Vec<Survivor>,
    /// Keys that are listed as survivors but were caught.
    pub caught_though_listed: Vec<String>,
    /// Listed keys below the crate's folder that no mutant has.
    pub listed_in_vain: Vec<String>,
}

/// A mutant that no test caught.
#[derive(Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Name from cargo-mutants, with line and column.
    pub name: String,
    /// Key of the mutant, see [`Mutant::key`].
    pub key: String,
    pub reason: Option<String>,
}

impl Verdict {
    /// Returns the number of mutants that compile.
    pub fn viable(&self) -> usize {
        self.caught + self.timed_out + self.survivors.len()
    }

    /// Returns the share of the survivors among the viable mutants, in percent.
    pub fn percent_missed(&self) -> f64 {
        match self.viable() {
            0 => 0.0,
            viable => 100.0 * self.survivors.len() as f64 / viable as f64,
        }
    }

    /// Returns true if few enough mutants survive and each survivor has a reason.
    pub fn passed(&self) -> bool {
        100 * self.survivors.len() <= MOST_PERCENT * self.viable()
            && self.survivors.iter().all(|survivor| survivor.reason.is_some())
    }
}

/// The necessary part of `outcomes.json`.
#[derive(Deserialize)]
struct Outcomes {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant(Written),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum Summary {
    Success,
    CaughtMutant,
    MissedMutant,
    Unviable,
    Failure,
    Timeout,
}

/// Judges a run from the folder of the crate, all its mutants, the `chosen` ones, `outcomes.json`, and the
/// listed reasons by key.
///
/// # Errors
/// The file is not readable, or it lacks a chosen mutant because the run stopped early.
pub fn judge(
    folder: &str,
    all: &[Mutant],
    chosen: &[Mutant],
    outcomes: &[u8],
    reasons: &BTreeMap<String, String>,
) -> Result<Verdict> {
    let outcomes: Outcomes = serde_json::from_slice(outcomes).context("reading outcomes.json")?;
    let mut ended = BTreeMap::new();
    for outcome in &outcomes.outcomes {
        if let Scenario::Mutant(mutant) = &outcome.scenario {
            ended.insert(mutant.name.as_str(), outcome.summary);
        }
    }
    let mut verdict = Verdict::default();
    for mutant in chosen {
        let Some(summary) = ended.get(mutant.name.as_str()) else {
            bail!("the run stopped before {}", mutant.name);
        };
        let reason = reasons.get(&mutant.key);
        match summary {
            Summary::CaughtMutant => verdict.caught += 1,
            Summary::Timeout => verdict.timed_out += 1,
            Summary::Unviable => verdict.unviable += 1,
            Summary::MissedMutant => verdict.survivors.push(Survivor {
                name: mutant.name.clone(),
                key: mutant.key.clone(),
                reason: reason.cloned(),
            }),
            Summary::Success | Summary::Failure => {
                bail!("{summary:?} is no outcome of a mutant: {}", mutant.name)
            }
        }
        if reason.is_some() && *summary == Summary::CaughtMutant {
            verdict.caught_though_listed.push(mutant.key.clone());
        }
    }
    let keys: BTreeSet<&str> = all.iter().map(|m| m.key.as_str()).collect();
    verdict.listed_in_vain = reasons
        .keys()
        .filter(|key| key.starts_with(folder) && !keys.contains(key.as_str()))
        .cloned()
        .collect();
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::{reasons, sample};
    use super::*;

    /// Returns an output of cargo-mutants 27.1.0, reduced to the entries of the scenarios.
    fn outcomes(mutants: &[Mutant], summaries: &[&str]) -> Vec<u8> {
        let phase = serde_json::json!({ "phase": "Test", "duration": 0.5, "process_status": "Success", "argv": ["cargo"] });
        let mut list = vec![serde_json::json!({
            "scenario": "Baseline", "summary": "Success", "log_path": "log/baseline.log", "diff_path": null,
            "phase_results": [phase],
        })];
        for (mutant, summary) in mutants.iter().zip(summaries) {
            list.push(serde_json::json!({
                "scenario": { "Mutant": {
                    "name": mutant.name, "package": "a", "file": "a/src/b.rs", "function": null,
                    "span": { "start": { "line": 1, "column": 1 }, "end": { "line": 1, "column": 2 } },
                    "replacement": "<=", "genre": "BinaryOperator",
                } },
                "summary": summary, "log_path": "log/x.log", "diff_path": "diff/x.diff", "phase_results": [phase],
            }));
        }
        let end = serde_json::json!({ "outcomes": list, "total_mutants": mutants.len(), "cargo_mutants_version": "27.1.0" });
        serde_json::to_vec(&end).unwrap()
    }

    fn mutants(count: u32) -> Vec<Mutant> {
        let list: Vec<_> = (1..=count)
            .map(|line| {
                serde_json::json!({
                    "name": format!("a/src/b.rs:{line}:9: replace f{line} -> bool with true"),
                    "file": "a/src/b.rs",
                    "span": { "start": { "line": line, "column": 9 } },
                })
            })
            .collect();
        sample::read(&serde_json::to_vec(&list).unwrap()).unwrap()
    }

    fn listed(mutants: &[Mutant]) -> BTreeMap<String, String> {
        let lines: Vec<String> = mutants
            .iter()
            .map(|m| reasons::line(&m.key, "no input tells"))
            .collect();
        reasons::read(&lines.join("\n")).unwrap()
    }

    #[test]
    fn each_outcome_counts_as_what_it_is() {
        let all = mutants(8);
        let said = [
            "CaughtMutant",
            "MissedMutant",
            "Timeout",
            "Unviable",
            "CaughtMutant",
        ];
        let verdict = judge("a/", &all, &all[..5], &outcomes(&all, &said), &listed(&all[1..2])).unwrap();
        assert_eq!((verdict.caught, verdict.timed_out, verdict.unviable), (2, 1, 1));
        assert_eq!(verdict.viable(), 4);
        assert_eq!(verdict.percent_missed(), 25.0);
        let [survivor] = verdict.survivors.as_slice() else {
            panic!("{verdict:?}")
        };
        assert_eq!(survivor.name, "a/src/b.rs:2:9: replace f2 -> bool with true");
        assert_eq!(survivor.reason.as_deref(), Some("no input tells"));
        assert!(!verdict.passed(), "a quarter survives");
    }

    #[test]
    fn a_tenth_of_the_viable_may_survive_and_no_more() {
        let all = mutants(30);
        let verdict = |missed: usize| {
            let mut said = vec!["Unviable"; 10];
            said.extend(vec!["CaughtMutant"; 20 - missed]);
            said.extend(vec!["MissedMutant"; missed]);
            judge("a/", &all, &all, &outcomes(&all, &said), &listed(&all)).unwrap()
        };
        assert!(verdict(0).passed() && verdict(2).passed());
        assert!(!verdict(3).passed(), "unviable mutants do not count");
    }

    #[test]
    fn a_survivor_that_is_not_listed_is_refused() {
        let all = mutants(20);
        let mut said = vec!["CaughtMutant"; 19];
        said.push("MissedMutant");
        let outcomes = outcomes(&all, &said);
        assert!(
            judge("a/", &all, &all, &outcomes, &listed(&all[19..]))
                .unwrap()
                .passed()
        );
        let verdict = judge("a/", &all, &all, &outcomes, &listed(&all[..1])).unwrap();
        assert!(!verdict.passed());
        assert_eq!(verdict.survivors[0].reason, None);
        assert_eq!(verdict.caught_though_listed, [all[0].key.clone()]);
    }

    #[test]
    fn a_run_that_stopped_early_is_no_success() {
        let all = mutants(3);
        let error = judge(
            "a/",
            &all,
            &all,
            &outcomes(&all, &["CaughtMutant"; 2]),
            &BTreeMap::new(),
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("stopped before a/src/b.rs:3:9"),
            "{error}"
        );
        assert!(judge("a/", &all, &all, b"{}", &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_listed_mutant_that_is_gone_is_named() {
        let all = mutants(3);
        let reasons = listed(&all);
        let outcomes = outcomes(&all, &["CaughtMutant"; 3]);
        let verdict = judge("a/", &all[..2], &all[..2], &outcomes, &reasons).unwrap();
        assert_eq!(verdict.listed_in_vain, [all[2].key.clone()]);
        let other = judge("other/", &all[..2], &all[..2], &outcomes, &reasons).unwrap();
        assert!(other.listed_in_vain.is_empty());
    }
}
