//! Load generators: one request at a time, many at a time, streams. They are bounded in number and in time.
//!
//! Owns: the sockets of one measurement. On the other side: the guest. An answer counts only if it is complete.

mod datagrams;
mod requests;
mod streams;

pub use datagrams::{echo, echoes, flood, window, windows};
pub use requests::{Kind, connection, connections, requests};
pub use streams::{connect, discard, echo as tcp_echo, open, source, tcp_echoes, transfers};

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::ping::Pinger;

pub const MIB: usize = 1 << 20;
/// Port of the echo service, for UDP and TCP.
pub const ECHO: u16 = 7;
/// Port of the service that drops the bytes that it reads.
pub const DISCARD: u16 = 9;
/// Port of the service that sends without an end.
pub const SOURCE: u16 = 19;
pub const HTTP: u16 = 80;

/// Result of a load generator.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Number of answered requests, or MiB.
    pub units: f64,
    /// The best rate, in units per second.
    pub rate: f64,
    /// Time of each answer, if answers are timed.
    pub times: Vec<Duration>,
    /// Requests without an answer, or with a wrong one.
    pub lost: u64,
}

impl Outcome {
    /// Sends one request at a time and measures its time. `ask` sends one and returns false if there was no
    /// answer.
    pub(crate) fn of_each(
        count: usize,
        limit: Duration,
        mut ask: impl FnMut(usize) -> Result<bool>,
    ) -> Result<Outcome> {
        let (start, mut times, mut lost) = (Instant::now(), Vec::new(), 0);
        for i in 0..count {
            let asked = Instant::now();
            match ask(i)? {
                true => times.push(asked.elapsed()),
                false => lost += 1,
            }
            if start.elapsed() > limit {
                break;
            }
        }
        let units = times.len() as f64;
        let rate = units / start.elapsed().as_secs_f64();
        Ok(Outcome {
            units,
            rate,
            times,
            lost,
        })
    }

    /// Returns the time within which this part of the answers came, if answers are timed.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        quantile(&self.times, part)
    }
}

/// Returns the value below which this part of the values lies. Returns `None` if there are none.
pub fn quantile<T: Copy + PartialOrd>(values: &[T], part: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let index = (sorted.len() as f64 * part) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied()
}

/// Opens a UDP socket that is connected to a service of the guest.
pub fn datagram_socket(to: IpAddr, port: u16) -> Result<UdpSocket> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("opening a UDP socket")?;
    socket
        .connect(SocketAddr::new(to, port))
        .with_context(|| format!("connecting to {to} port {port}"))?;
    Ok(socket)
}

/// Pings every 10 ms.
pub fn pings(to: IpAddr, count: usize) -> Result<Outcome> {
    const GAP: Duration = Duration::from_millis(10);
    let pinger = Pinger::new(to)?;
    for number in 0..5 {
        pinger.ping(60_000 + number, Duration::from_millis(500))?;
    }
    let start = Instant::now();
    Outcome::of_each(count, Duration::from_secs(30), |i| {
        sleep((start + GAP * i as u32).saturating_duration_since(Instant::now()));
        Ok(pinger.ping(i as u16, Duration::from_secs(1))?.is_some())
    })
    .map(|outcome| Outcome {
        times: Vec::new(),
        ..outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile::<u64>(&[], 0.5), None);
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[4, 1, 3, 2], 0.5), Some(3));
        assert_eq!(quantile(&[4, 1, 3, 2], 0.0), Some(1));
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 1.0), Some(4.0));
    }

    #[test]
    fn what_is_not_answered_is_lost() {
        let outcome = Outcome::of_each(10, Duration::from_secs(60), |i| Ok(i % 5 != 0)).unwrap();
        assert_eq!((outcome.units, outcome.lost, outcome.times.len()), (8.0, 2, 8));
    }
}
