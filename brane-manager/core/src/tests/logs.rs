//! Log levels, and the lines that serial stores.

use super::*;
use brane_abi::log::Level;
use brane_abi::operator::{LOG_LINES, LogLine, Refusal};

fn logs(bench: &mut Bench, pd: Option<&str>, after: u64) -> Vec<LogLine> {
    let request = Request::Logs {
        pd: pd.map(Into::into),
        after,
        wait: false,
    };
    match bench.ask(&request).0.unwrap().unwrap() {
        Answer::Logs(lines) => lines,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_level_reaches_serial_and_the_saved_configuration_by_the_name_of_domain_or_brane() {
    let mut bench = Bench::new();
    for (pd, level) in [("nic0", Level::Debug), ("red", Level::Off)] {
        let request = Request::SetLogLevel { pd: pd.into(), level };
        assert!(bench.ask(&request).0.unwrap().is_ok());
    }
    let told: Vec<_> = bench.nics.levels.iter().map(|(&n, &level)| (n, level)).collect();
    assert_eq!(told, [(1, Level::Off), (57, Level::Debug)]);
    let Ok(Ok(Answer::Saved(bytes))) = bench.ask(&Request::Save).0 else {
        panic!("no configuration");
    };
    let saved = BootConfig::from_bytes(&bytes).unwrap();
    let levels: Vec<_> = saved.log.iter().map(|l| (l.pd.as_str(), l.level)).collect();
    assert_eq!(levels, [("brane-1", Level::Off), ("nic0", Level::Debug)]);
    // The next boot sets the levels again.
    let again = Bench::with(Ok(saved), 3);
    assert_eq!(again.nics.levels, bench.nics.levels);
    let unknown = Request::SetLogLevel {
        pd: "nic9".into(),
        level: Level::Off,
    };
    let refusal = bench.refused(&unknown);
    let Refusal::NoSuchLog(name, known) = &refusal else {
        panic!("{refusal:?}")
    };
    assert!(name == "nic9" && known.names.iter().any(|n| n == "brane-0"));
}

#[test]
fn a_domain_comes_before_a_brane_of_the_same_name() {
    let mut boot = boot();
    boot.branes[1].name = "nic0".into();
    let mut bench = Bench::with(Ok(boot), 3);
    let request = Request::SetLogLevel {
        pd: "nic0".into(),
        level: Level::Debug,
    };
    assert!(bench.ask(&request).0.unwrap().is_ok());
    assert_eq!(bench.nics.levels.get(&57), Some(&Level::Debug));
    assert_eq!(bench.nics.levels.get(&1), None);
}

#[test]
fn a_level_is_shown_by_the_name_of_domain_or_brane() {
    let mut bench = Bench::new();
    for (name, shown) in [
        (Some("red"), vec!["brane-1"]),
        (None, vec!["brane-0", "brane-1", "nic0"]),
    ] {
        let request = Request::LogLevels(name.map(Into::into));
        let Ok(Ok(Answer::LogLevels(levels))) = bench.ask(&request).0 else {
            panic!("no levels");
        };
        let names: Vec<_> = levels.iter().map(|level| level.pd.as_str()).collect();
        assert_eq!(names, shown);
    }
    let refusal = bench.refused(&Request::LogLevels(Some("nic9".into())));
    assert!(
        matches!(&refusal, Refusal::NoSuchLog(name, _) if name == "nic9"),
        "{refusal:?}"
    );
}

#[test]
fn lines_of_all_domains_come_in_order_and_each_once() {
    let mut bench = Bench::new();
    let many = 2 * LOG_LINES as u64;
    bench.nics.lines = (1..=many)
        .map(|n| ([57, 0, 1][n as usize % 3], n, format!("line {n}")))
        .collect();
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let part = logs(&mut bench, None, after);
        let Some(last) = part.last() else { break };
        assert!(part.len() <= LOG_LINES);
        after = last.number;
        all.extend(part);
    }
    let numbers: Vec<u64> = all.iter().map(|line| line.number).collect();
    assert_eq!(numbers, (1..=many).collect::<Vec<_>>());
    let red = logs(&mut bench, Some("red"), 0);
    assert!(
        red.iter()
            .all(|line| line.pd == "brane-1" && line.number % 3 == 2)
    );
    assert_eq!((red[0].text.as_str(), red[0].at_us), ("line 2", 1));
}

#[test]
fn who_follows_gets_the_next_lines_or_none_after_a_while() {
    let mut bench = Bench::new();
    let request = Request::Logs {
        pd: None,
        after: 7,
        wait: true,
    };
    for lines in [0, 1] {
        let (reply, _) = bench.ask(&request);
        let job = reply.unwrap_err();
        for n in 0..lines {
            bench.nics.lines.push((0, 8 + n, "x".into()));
        }
        bench.now += 200_000_000;
        let actions = bench.event(Event::Tick);
        assert!(actions.iter().any(|action| matches!(action, Action::Notify(_))));
        let Answer::Logs(found) = bench.poll(job) else {
            panic!("no lines");
        };
        assert_eq!(found.len() as u64, lines);
    }
}
