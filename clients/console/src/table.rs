//! Aligned columns.

use alloc::string::String;
use alloc::vec::Vec;

/// Rows of cells, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a first row of headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Table {
        Table {
            rows: [headings.iter().map(|h| (*h).into()).collect()].into(),
        }
    }

    /// Appends a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// As text, each line ending in a line feed, two spaces between columns and none at the end of a line. Each line
    /// starts with `indent`.
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
}
