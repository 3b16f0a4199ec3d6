//! The screen's rules, on the host.

use brane_abi::log::{self, Level};
use proptest::prelude::*;
use serial_core::{ByteCost, HISTORY, History, LINE, LINE_ROOM, Line, Name, QUEUE, Screen};

const RED: Name = Name {
    base: "brane",
    number: Some(1),
};

fn shown(screen: &mut Screen) -> String {
    String::from_utf8(std::iter::from_fn(|| screen.pop()).collect()).unwrap()
}

/// Feeds one writer's text in the given pieces. Prints each line when it is complete, and returns the screen.
fn printed(texts: &[&[u8]]) -> String {
    let (mut line, mut screen, mut out) = (Line::new(), Screen::new(), String::new());
    for text in texts {
        let mut rest = *text;
        while !rest.is_empty() {
            rest = &rest[line.feed(rest)..];
            if line.is_complete() {
                assert!(screen.log(RED, &mut line));
                out += &shown(&mut screen);
            }
        }
    }
    out
}

#[test]
fn lines_are_whole_and_named() {
    assert_eq!(printed(&[b"hel", b"lo\nwor"]), "[brane-1] hello\r\n");
    assert_eq!(
        printed(&[b"a\n\nb\n"]),
        "[brane-1] a\r\n[brane-1] \r\n[brane-1] b\r\n"
    );
}

#[test]
fn a_log_cannot_imitate_another() {
    assert_eq!(
        printed(&["x\r[blue] y\x1b[2J \u{9b}2J é\n".as_bytes()]),
        "[brane-1] x?[blue] y?[2J ?2J é\r\n"
    );
    assert_eq!(printed(&[b"\xff\xfe\x9b2J\n"]), "[brane-1] ???2J\r\n");
}

#[test]
fn text_that_was_cleared_is_not_printed() {
    assert_eq!(printed(&[b"ol\0\0\0\0new\n"]), "[brane-1] olnew\r\n");
    assert_eq!(printed(&[&[0; 3 * LINE], b"new\n"]), "[brane-1] new\r\n");
}

#[test]
fn a_long_line_goes_on_as_a_line_of_its_own() {
    let text = printed(&[&[b'z'; 2 * LINE], b"end\n"]);
    let lens: Vec<usize> = text
        .lines()
        .map(|line| line.strip_prefix("[brane-1] ").unwrap().len())
        .collect();
    assert_eq!(lens, [LINE, LINE, 3]);
    let exact = printed(&[&[b'z'; LINE], b"\n"]);
    assert_eq!(exact.lines().count(), 1);
}

#[test]
fn a_log_line_starts_at_the_left_edge() {
    let (mut line, mut screen) = (Line::new(), Screen::new());
    assert_eq!(screen.console(b"brane> sho"), 10);
    line.feed(b"up\n");
    assert!(screen.log(RED, &mut line));
    assert_eq!(screen.console(b"ok\n\r\n"), 5);
    assert_eq!(shown(&mut screen), "brane> sho\r\n[brane-1] up\r\nok\r\n\r\n");
}

#[test]
fn what_finds_no_room_is_not_lost() {
    let mut screen = Screen::new();
    let taken = screen.console(&[b'x'; QUEUE + 3]);
    assert!(taken < QUEUE);
    let mut line = Line::new();
    line.feed(b"later\n");
    assert!(!screen.log(RED, &mut line) && line.is_complete());
    assert!(!screen.report(format_args!("later")));
    assert_eq!(shown(&mut screen).len(), taken);
    assert!(screen.log(RED, &mut line) && !line.is_complete());
    assert_eq!(shown(&mut screen), "\r\n[brane-1] later\r\n");
}

#[test]
fn a_byte_costs_what_the_last_ones_took_within_bounds() {
    let mut cost = ByteCost::new();
    (0..100).for_each(|_| cost.sent(16, 16 * 2_000));
    assert!((1_900..=2_100).contains(&cost.of(1)), "{cost:?}");
    cost.sent(0, 1_000_000);
    assert!(cost.of(1) <= 2_100);
    // The machine stood still, which is not the cost of a byte.
    cost.sent(1, u64::MAX / 2);
    assert!(cost.of(1) <= 5_000, "{cost:?}");
    (0..100).for_each(|_| cost.sent(1 << 20, 0));
    assert!(cost.of(usize::MAX) > 0 && cost.of(1) >= 500);
}

proptest! {
    #[test]
    fn whatever_is_logged_stays_inside_its_lines(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for line in printed(&[&text]).split_terminator("\r\n") {
            prop_assert!(line.starts_with("[brane-1] "));
            prop_assert!(!line.chars().any(|c| c.is_control() && c != '\t'));
            prop_assert!(line.len() + 4 <= LINE_ROOM);
        }
    }
}

#[test]
fn a_line_shows_its_level_unless_it_is_the_usual_one() {
    let shown = [2, 3, 4, 5].map(|byte| printed(&[&[byte, b'x', b'\n']]));
    assert_eq!(
        shown,
        [
            "[brane-1] error: x\r\n",
            "[brane-1] warning: x\r\n",
            "[brane-1] x\r\n",
            "[brane-1] debug: x\r\n"
        ]
    );
    // No line has the level `off`, and a level byte inside a line is a control character.
    assert_eq!(printed(&[&[1, b'x', 2, b'\n']]), "[brane-1] ?x?\r\n");
}

/// Returns the lines that an operator reads from a history after line `after`, in as many reads as necessary.
fn kept(history: &History, mut after: u64, room: usize) -> Vec<(u64, Level, String)> {
    let (mut all, mut out) = (Vec::new(), vec![0; room]);
    loop {
        let len = history.read(after, &mut out);
        let part: Vec<_> = log::lines(&out[..len])
            .map(|line| (line.number, line.level, line.text.to_owned()))
            .collect();
        let Some(last) = part.last() else { return all };
        after = last.0;
        all.extend(part);
    }
}

#[test]
fn a_kept_line_is_what_was_shown() {
    let (mut line, mut history) = (Line::new(), History::new());
    line.feed(b"\x02a\x1bb\xff\n");
    line.keep(&mut history, 5, 7);
    assert_eq!(kept(&history, 0, HISTORY), [(5, Level::Error, "a?b?".to_owned())]);
    assert!(kept(&history, 5, HISTORY).is_empty());
}

proptest! {
    /// Checks that the last lines are stored in order, as many as fit. A reader with any room gets each line once.
    #[test]
    fn the_last_lines_are_kept_in_order(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..60),
        after in 0u64..60,
        room in 264usize..3000,
    ) {
        let (mut history, mut all) = (History::new(), Vec::new());
        for (number, text) in (1..).zip(&texts) {
            let mut line = Line::new();
            line.feed(text);
            line.keep(&mut history, number, number * 10);
            all.push((number, line.level(), line.printable().collect::<String>()));
        }
        let found = kept(&history, 0, room);
        prop_assert!(all.ends_with(&found));
        // Another line would not have fitted.
        let size = |lines: &[(u64, Level, String)]| lines.iter().map(|l| 24 + l.2.len()).sum::<usize>();
        let older = all.len() - found.len();
        prop_assert!(older == 0 || size(&all[older - 1..]) > HISTORY);
        let newer: Vec<_> = found.into_iter().filter(|line| line.0 > after).collect();
        prop_assert_eq!(kept(&history, after, room), newer);
    }
}
