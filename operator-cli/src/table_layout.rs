//! Aligned columns, and readable numbers. Owns no state beside a [`Table`] under construction.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Formats microseconds as milliseconds: `0.123 ms`.
pub fn milliseconds(us: u64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

/// Formats microseconds in the largest unit that is not zero and the next smaller one: `3 d 4 h`, `2 min 5 s`, `1.250 s`.
pub fn duration(us: u64) -> String {
    let seconds = us / 1_000_000;
    for (unit, name, smaller, smaller_name) in [
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ] {
        if seconds >= unit {
            return format!(
                "{} {name} {} {smaller_name}",
                seconds / unit,
                seconds % unit / smaller
            );
        }
    }
    format!("{seconds}.{:03} s", us / 1_000 % 1_000)
}

/// Formats a rate in bytes per second as it is typed: `10M`, `250k`.
pub fn rate(bytes: u64) -> String {
    for (unit, letter) in [(1_000_000_000, 'G'), (1_000_000, 'M'), (1000, 'k')] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{letter}", bytes / unit);
        }
    }
    format!("{bytes}")
}

/// Replaces control characters by `?`, so that text cannot control a terminal. Keeps line feeds and tabs.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() && c != '\n' && c != '\t' {
            '?'
        } else {
            c
        }
    };
    text.chars().map(harmless).collect()
}

/// Rows of cells, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with a first row of headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Table {
        Table {
            rows: [headings.iter().map(|h| (*h).into()).collect()].into(),
        }
    }

    /// Appends a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Appends a row of any number of cells.
    pub fn line(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Formats the table. Each line starts with `indent` and ends with a line feed. Two spaces separate columns, and no line has
    /// spaces at its end.
    pub fn text(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            let cells = self.rows.iter().filter_map(|r| r.get(c));
            cells.map(|s| s.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::from(indent);
            for (cell, width) in row.iter().zip(&widths) {
                line += cell;
                let pad = width - cell.chars().count() + 2;
                line.extend(core::iter::repeat_n(' ', pad));
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut t = Table::new(["NAME", "N"]);
        t.row(["a-long-name".into(), "1".into()]);
        t.row(["b".into(), "22".into()]);
        t.row(["c".into(), String::new()]);
        assert_eq!(t.text(""), "NAME         N\na-long-name  1\nb            22\nc\n");
        assert_eq!(Table::default().text("  "), "");
    }

    #[test]
    fn figures_are_short_and_text_is_harmless() {
        assert_eq!(milliseconds(4100), "4.100 ms");
        let durations = [1_250_999, 125_000_000, 7_260_000_000, 273_600_000_000].map(duration);
        assert_eq!(durations, ["1.250 s", "2 min 5 s", "2 h 1 min", "3 d 4 h"]);
        let rates = [7, 1000, 1500, 10_000_000, 2_000_000_000].map(rate);
        assert_eq!(rates, ["7", "1k", "1500", "10M", "2G"]);
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\r\n"), "a?[2Jb?c?\n");
    }
}
