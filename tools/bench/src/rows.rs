//! The rows of the table: the request to the guest, its number, and its duration.
//!
//! Owns: the list of rows and the measurement of one. On the other side: the guest.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::figures::Figure;
use crate::guest::Guest;
use crate::load::{self, Kind, Outcome};

pub struct Row {
    /// Name in the recorded figures and on the command line.
    pub id: &'static str,
    /// Name in the table.
    pub title: &'static str,
    /// The counted unit. The table shows the instructions for one of them.
    pub unit: &'static str,
    measure: fn(IpAddr, f64) -> Result<Outcome>,
}

const fn row(
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    measure: fn(IpAddr, f64) -> Result<Outcome>,
) -> Row {
    Row {
        id,
        title,
        unit,
        measure,
    }
}

fn seconds(count: f64, scale: f64) -> Duration {
    Duration::from_secs_f64(count * scale)
}

/// All rows, in the order of measurement. The second argument scales durations.
pub const ROWS: &[Row] = &[
    row("ping", "ICMP echo, every 10 ms", "ping", |to, _| {
        load::pings(to, 500)
    }),
    row(
        "udp-echo-64",
        "UDP echo, 64 bytes, one at a time",
        "echo",
        |to, _| load::echoes(to, 64, 1500),
    ),
    row(
        "udp-echo-1400",
        "UDP echo, 1400 bytes, one at a time",
        "echo",
        |to, _| load::echoes(to, 1400, 1500),
    ),
    row("tcp-echo", "TCP echo of 1 byte", "echo", |to, _| {
        load::tcp_echoes(to, 1500)
    }),
    row(
        "udp-load-64",
        "UDP echo, 64 bytes, under load",
        "echo",
        |to, scale| load::windows(to, 64, seconds(2.0, scale)),
    ),
    row(
        "udp-load-1400",
        "UDP echo, 1400 bytes, under load",
        "echo",
        |to, scale| load::windows(to, 1400, seconds(2.0, scale)),
    ),
    row("tcp-in", "TCP to the guest", "MiB", |to, scale| {
        load::transfers(to, true, seconds(15.0, scale))
    }),
    row("tcp-out", "TCP from the guest", "MiB", |to, scale| {
        load::transfers(to, false, seconds(15.0, scale))
    }),
    row(
        "udp-flood",
        "UDP flood, for each answer",
        "answer",
        |to, scale| load::flood(to, seconds(3.0, scale)),
    ),
    row(
        "tcp-conn",
        "TCP connection, 1 byte, close",
        "conn",
        |to, scale| load::connections(to, seconds(10.0, scale)),
    ),
    row("tcp-conn-16", "the same, 16 at a time", "req", |to, scale| {
        load::requests(to, Kind::Echo, 16, false, seconds(5.0, scale))
    }),
    row("http-keep", "HTTP request, keep-alive", "req", |to, scale| {
        load::requests(to, Kind::Page, 1, true, seconds(4.0, scale))
    }),
    row("http-keep-16", "the same, 16 connections", "req", |to, scale| {
        load::requests(to, Kind::Page, 16, true, seconds(4.0, scale))
    }),
    row("http-new", "HTTP request, new connection", "req", |to, scale| {
        load::requests(to, Kind::Page, 1, false, seconds(4.0, scale))
    }),
    row("http-new-16", "the same, 16 at a time", "req", |to, scale| {
        load::requests(to, Kind::Page, 16, false, seconds(4.0, scale))
    }),
];

impl Row {
    pub fn named(id: &str) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.id == id)
    }

    /// Measures this row on a guest. `scale` scales the durations.
    pub fn measure(&self, guest: &Guest, scale: f64) -> Result<Figure> {
        let failed = || format!("measuring `{}`", self.title);
        let before = guest.settle()?;
        let outcome = (self.measure)(guest.address(), scale).with_context(failed)?;
        let after = guest.settle()?;
        anyhow::ensure!(outcome.units > 0.0, "nothing was answered while {}", failed());
        Ok(Figure::of(self.unit, after - before, &outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_names_of_their_own() {
        for (i, row) in ROWS.iter().enumerate() {
            let found = ROWS.iter().position(|other| other.id == row.id);
            assert_eq!(found, Some(i), "{}", row.id);
            assert!(Row::named(row.id).is_some());
        }
        assert!(Row::named("udp").is_none());
    }
}
