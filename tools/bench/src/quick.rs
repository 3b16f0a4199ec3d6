//! The quick count: the cost of one idle echo and of one connection, counted so that a busy host does not
//! change it.
//!
//! Owns: the choice of the counted requests and the method. On the other side: the guest.
//!
//! The guest waits for an interrupt before each request and after it, so each request takes the same path: the
//! device wakes the driver, the driver the brane, the brane its client, and back. The instructions between the
//! two waits are one sample. A tick of the kernel's timer, or a turn of another domain, falls into some samples
//! and makes them larger. So the figure is a low quantile of many samples, not their mean. On a busy host each
//! sample takes longer, and more ticks fall into it. The low quantile still has none if at least a quarter of
//! the samples has none.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::figures::{Figure, rise};
use crate::guest::Guest;
use crate::load::{self, quantile};

/// Part of the samples that is below the figure.
const PART: f64 = 0.25;
/// Number of samples of each row, if there is time.
const SAMPLES: usize = 600;
/// Minimum number of samples of a row.
const LEAST: usize = 100;
/// Time after which a row ends if it has enough samples.
const LIMIT: Duration = Duration::from_secs(12);
/// Maximum rise of a figure above the committed one, in percent.
pub const TOLERANCE: f64 = 5.0;

/// A row of the quick count.
pub struct Quick {
    /// Name in the recorded figures.
    pub id: &'static str,
    /// Name in the table.
    pub title: &'static str,
    /// The counted unit.
    pub unit: &'static str,
    each: fn(&Guest, &mut Seen<'_>) -> Result<()>,
}

/// Receives the instructions of each step of a request.
pub type Seen<'a> = dyn FnMut(&[u64]) -> Result<()> + 'a;

pub const ROWS: &[Quick] = &[
    Quick {
        id: "udp-echo",
        title: "UDP echo of 64 bytes, idle guest",
        unit: "echo",
        each: udp_echoes,
    },
    Quick {
        id: "tcp-echo",
        title: "TCP echo of 1 byte, idle guest",
        unit: "echo",
        each: tcp_echoes,
    },
    Quick {
        id: "tcp-connection",
        title: "TCP connection, 1 byte, close, idle guest",
        unit: "conn",
        each: connections,
    },
];

impl Quick {
    /// Counts this row on a guest: the sum of its steps, each the low quantile of its samples.
    pub fn count(&self, guest: &Guest) -> Result<Figure> {
        let mut samples: Vec<Vec<u64>> = Vec::new();
        self.each(guest, |steps| {
            samples.resize(steps.len(), Vec::new());
            samples
                .iter_mut()
                .zip(steps)
                .for_each(|(all, step)| all.push(*step));
            Ok(())
        })?;
        Ok(Figure {
            unit: self.unit.to_owned(),
            instructions: sum_of_quantiles(&samples).context("there are no samples")?,
            rate: None,
            median_us: None,
            p99_us: None,
            lost: 0,
        })
    }

    /// Sends the requests. Calls `seen` with the instructions of a request's steps as soon as the guest is idle
    /// again.
    pub fn each(&self, guest: &Guest, mut seen: impl FnMut(&[u64]) -> Result<()>) -> Result<()> {
        (self.each)(guest, &mut seen).with_context(|| format!("counting `{}`", self.title))
    }
}

/// Steps of a request so far.
struct Steps<'a> {
    guest: &'a Guest,
    /// Counter at the end of the last step.
    last: u64,
    taken: Vec<u64>,
}

impl Steps<'_> {
    /// Waits until the guest is idle. One step is everything that it executed since the last step.
    fn end_step(&mut self) -> Result<()> {
        let now = self.guest.settle()?;
        self.taken.push(now - self.last);
        self.last = now;
        Ok(())
    }
}

/// Sends requests one at a time to an idle guest. The first few are not counted, because they fill caches.
fn each(
    guest: &Guest,
    seen: &mut Seen<'_>,
    mut request: impl FnMut(u32, &mut Steps<'_>) -> Result<()>,
) -> Result<()> {
    const FIRST: u32 = 10;
    let (start, mut samples) = (Instant::now(), 0);
    let mut steps = Steps {
        guest,
        last: guest.settle()?,
        taken: Vec::new(),
    };
    for number in 0.. {
        steps.taken.clear();
        request(number, &mut steps)?;
        steps.end_step()?;
        if number >= FIRST {
            seen(&steps.taken)?;
            samples += 1;
        }
        if samples >= SAMPLES || samples >= LEAST && start.elapsed() >= LIMIT {
            break;
        }
        ensure!(
            start.elapsed() < 5 * LIMIT,
            "only {samples} samples within {:?}",
            5 * LIMIT
        );
    }
    Ok(())
}

fn udp_echoes(guest: &Guest, seen: &mut Seen<'_>) -> Result<()> {
    let socket = load::datagram_socket(guest.address(), load::ECHO)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let (mut payload, mut buffer) = ([0; 64], [0; 128]);
    each(guest, seen, |number, _| {
        let answered = load::echo(&socket, &mut payload, &mut buffer, number)?;
        ensure!(answered, "datagram {number} does not come back");
        Ok(())
    })
}

fn tcp_echoes(guest: &Guest, seen: &mut Seen<'_>) -> Result<()> {
    let mut stream = load::open(guest.address(), load::ECHO)?;
    each(guest, seen, |_, _| load::tcp_echo(&mut stream))
}

/// Opens connections in three steps, each sent to an idle guest. Otherwise the host decides whether the guest
/// receives the last segment of a handshake and the first byte at once.
fn connections(guest: &Guest, seen: &mut Seen<'_>) -> Result<()> {
    let to: IpAddr = guest.address();
    each(guest, seen, |_, steps| {
        let mut stream = load::open(to, load::ECHO)?;
        steps.end_step()?;
        load::tcp_echo(&mut stream)?;
        steps.end_step()?;
        // Nothing more to send: the guest sees the end and closes.
        load::discard(&mut stream, &[], 0)
    })
}

/// Returns the sum of the low quantiles of each step's samples.
fn sum_of_quantiles(samples: &[Vec<u64>]) -> Option<u64> {
    let quantiles: Option<Vec<u64>> = samples.iter().map(|samples| quantile(samples, PART)).collect();
    quantiles
        .filter(|all| !all.is_empty())
        .map(|all| all.iter().sum())
}

/// Compares counted figures with the committed ones. Returns a sentence for each row that costs too much.
pub fn judge<'a>(
    counted: impl IntoIterator<Item = (&'a str, u64)>,
    committed: impl Fn(&str) -> Option<u64>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (id, now) in counted {
        match committed(id) {
            None => complaints.push(format!("there is no committed figure for {id}")),
            Some(before) if rise(before, now) > TOLERANCE => complaints.push(format!(
                "{id} costs {now} instructions, {:.1} % above the committed {before}",
                rise(before, now)
            )),
            Some(_) => {}
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_in_most_of_the_samples_do_not_change_the_figure() {
        let step = |plain: u64| {
            (0..100)
                .map(|i| plain + if i % 3 == 0 { 0 } else { 700 })
                .collect::<Vec<_>>()
        };
        assert_eq!(sum_of_quantiles(&[step(1000), step(2000)]), Some(3000));
        assert_eq!(sum_of_quantiles(&[]), None);
        assert_eq!(sum_of_quantiles(&[vec![]]), None);
    }

    #[test]
    fn a_rise_above_the_tolerance_and_a_missing_figure_are_complaints() {
        let committed = |id: &str| (id != "c").then_some(1000);
        let judge = |id, now| judge([(id, now)], committed);
        assert!(judge("a", 1050).is_empty() && judge("a", 1).is_empty());
        assert!(judge("a", 1051)[0].contains("5.1 % above the committed 1000"));
        assert!(judge("c", 1)[0].contains("no committed figure"));
    }
}
