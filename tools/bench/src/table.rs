//! Tables in Markdown, in the form of `docs/performance.md`.
//!
//! Owns: their form. Their content comes from this crate.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{Cell, CellAlignment, Table};

use crate::counters::Spent;
use crate::figures::{Figures, rise};
use crate::profile::Profile;
use crate::quick;
use crate::rows::ROWS;

/// Measured figures, and the committed ones.
pub struct Measured<'a> {
    /// Figures of this sitting.
    pub now: &'a Figures,
    /// The committed figures, if there are any.
    pub committed: Option<&'a Figures>,
}

/// Creates a table with this head. Its first `text` columns are text, and the others are numbers.
fn table(head: Vec<String>, text: usize) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(head);
    for column in table.column_iter_mut().skip(text) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Formats a number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = (0..digits.len()).filter(|i| i % 3 == first && *i > 0);
    let mut text = digits.clone();
    for at in groups.collect::<Vec<_>>().into_iter().rev() {
        text.insert(at, ',');
    }
    text
}

/// Returns the columns of row `id`: the new figure, the committed one, and the difference.
fn compared(measured: &Measured<'_>, id: &str) -> [String; 3] {
    let instructions = |figures: &Figures| figures.figures.get(id).map(|figure| figure.instructions);
    let now = instructions(measured.now);
    let before = measured.committed.and_then(instructions);
    let difference = now
        .zip(before)
        .map(|(now, before)| format!("{:+.1} %", rise(before, now)));
    [now.map(grouped), before.map(grouped), difference].map(Option::unwrap_or_default)
}

fn heads(guests: &[Measured<'_>]) -> impl Iterator<Item = String> {
    let of = |guest: &Measured<'_>| {
        [
            guest.now.guest.clone(),
            "committed".to_owned(),
            "change".to_owned(),
        ]
    };
    guests.iter().flat_map(of).collect::<Vec<_>>().into_iter()
}

/// Returns the table of instructions for each unit, beside the committed figures.
pub fn instructions(guests: &[Measured<'_>]) -> String {
    let mut head = vec!["instructions for each".to_owned(), String::new()];
    head.extend(heads(guests));
    let mut table = table(head, 2);
    let measured = |id: &str| guests.iter().any(|guest| guest.now.figures.contains_key(id));
    for row in ROWS.iter().filter(|row| measured(row.id)) {
        let mut cells = vec![row.title.to_owned(), row.unit.to_owned()];
        cells.extend(guests.iter().flat_map(|guest| compared(guest, row.id)));
        table.add_row(cells);
    }
    table.to_string()
}

/// Returns the table of the quick count beside the committed one.
pub fn quick(measured: Measured<'_>) -> String {
    let mut head = vec!["instructions for each".to_owned(), String::new()];
    head.extend(heads(std::slice::from_ref(&measured)));
    let mut table = table(head, 2);
    for row in quick::ROWS {
        let mut cells = vec![row.title.to_owned(), row.unit.to_owned()];
        cells.extend(compared(&measured, row.id));
        table.add_row(cells);
    }
    table.to_string()
}

/// Returns the table of rates and times, by the host's clock.
pub fn rates(guests: &[Measured<'_>]) -> String {
    let mut head = vec!["by the host's clock".to_owned()];
    head.extend(guests.iter().map(|guest| guest.now.guest.clone()));
    let mut table = table(head, 1);
    let boots = guests.iter().map(|guest| {
        let seconds: Vec<String> = guest.now.boot_seconds.iter().map(|s| format!("{s:.2}")).collect();
        format!("{} s", seconds.join(", "))
    });
    table.add_row(std::iter::once("boot to the first ping reply".to_owned()).chain(boots));
    let measured = |id: &str| guests.iter().any(|guest| guest.now.figures.contains_key(id));
    for row in ROWS.iter().filter(|row| measured(row.id)) {
        let of = |guest: &Measured<'_>| {
            let Some(figure) = guest.now.figures.get(row.id) else {
                return String::new();
            };
            let lost = if figure.lost > 0 {
                format!(", {} lost", figure.lost)
            } else {
                String::new()
            };
            match (figure.median_us, figure.p99_us, figure.rate) {
                (Some(median), Some(p99), Some(rate)) => {
                    format!("{median:.0} / {p99:.0} µs, {rate:.0}/s{lost}")
                }
                (_, _, Some(rate)) if figure.unit == "MiB" => format!("{rate:.0} MiB/s{lost}"),
                (_, _, Some(rate)) => format!("{rate:.0}/s{lost}"),
                _ => String::new(),
            }
        };
        table.add_row(std::iter::once(row.title.to_owned()).chain(guests.iter().map(of)));
    }
    table.to_string()
}

/// Returns the table of the profile of one request.
pub fn profile(title: &str, profile: &Profile) -> String {
    let head = [
        title,
        "user",
        "kernel",
        "system calls",
        "interrupts",
        "faults",
        "switches to it",
    ];
    let mut table = table(head.map(str::to_owned).to_vec(), 1);
    let row = |name: &str, spent: &Spent| {
        let numbers = [
            spent.user,
            spent.kernel,
            spent.calls,
            spent.interrupts,
            spent.faults,
            spent.switches,
        ];
        std::iter::once(Cell::new(name))
            .chain(numbers.map(|number| Cell::new(grouped(number))))
            .collect::<Vec<_>>()
    };
    for (name, spent) in profile {
        table.add_row(row(name, spent));
    }
    table.add_row(row("all", &Spent::sum(profile.values())));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figure;
    use crate::load::Outcome;

    fn figures(guest: &str, instructions: u64) -> Figures {
        let outcome = Outcome {
            units: 1.0,
            rate: 2.0,
            ..Outcome::default()
        };
        let mut figures = Figures::new(guest, String::new(), String::new());
        figures
            .figures
            .insert("tcp-in".to_owned(), Figure::of("MiB", instructions, &outcome));
        figures
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let grouped = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn committed_figures_stand_beside_the_new_ones() {
        let (now, before) = (figures("branes", 110_000), figures("branes", 100_000));
        let with = Measured {
            now: &now,
            committed: Some(&before),
        };
        let linux = figures("linux", 7);
        let without = Measured {
            now: &linux,
            committed: None,
        };
        let text = instructions(&[with, without]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(
            lines[0][3..],
            [
                "branes",
                "committed",
                "change",
                "linux",
                "committed",
                "change",
                ""
            ]
        );
        assert!(
            lines[1].iter().all(|cell| cell.trim_matches('-').len() <= 1),
            "{text}"
        );
        assert_eq!(
            lines[2][1..],
            [
                "TCP to the guest",
                "MiB",
                "110,000",
                "100,000",
                "+10.0 %",
                "7",
                "",
                "",
                ""
            ]
        );
        assert_eq!(lines.len(), 3);
        let rates = rates(&[Measured {
            now: &now,
            committed: None,
        }]);
        assert!(
            rates.contains("| 2 MiB/s |") || rates.contains(" 2 MiB/s |"),
            "{rates}"
        );
    }

    #[test]
    fn a_profile_ends_with_the_sum() {
        let spent = |user| Spent {
            user,
            ..Spent::default()
        };
        let text = profile(
            "echo",
            &[("a".to_owned(), spent(1000)), ("b".to_owned(), spent(1))].into(),
        );
        let last: Vec<&str> = text.lines().last().unwrap().split('|').map(str::trim).collect();
        assert_eq!(last[1..3], ["all", "1,001"]);
    }
}
