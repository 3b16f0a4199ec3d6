//! Recorded figures: object, values, place and time of a measurement, as JSON in `docs/bench/`.
//!
//! Owns: the form of these files. On the other side: the files, which people may edit. A file with another form
//! is rejected.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::load::{Outcome, quantile};

/// Version of the form that this program writes and reads.
const VERSION: u32 = 1;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The counted unit.
    pub unit: String,
    /// Guest instructions per unit.
    pub instructions: u64,
    /// Units per second, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Median time of an answer in microseconds, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_us: Option<f64>,
    /// Time in microseconds within which 99 of 100 answers came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Requests without an answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The figures of one recorded session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Version of the form.
    pub version: u32,
    /// Name of the measured guest: `branes`, `branes-sdk`, `linux`, `quick`.
    pub guest: String,
    /// Exact version of the guest: the kernel's version, or the commit that the image was built from.
    pub of: String,
    /// First line of `qemu-system-x86_64 --version`.
    pub qemu: String,
    /// Number of boots of the guest. Each figure is the median.
    pub boots: u32,
    /// Seconds from the start of QEMU to the first answer, for each boot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_seconds: Vec<f64>,
    /// Figures by the names of their rows.
    pub figures: BTreeMap<String, Figure>,
}

impl Figure {
    /// Returns the figure of one measurement.
    pub fn of(unit: &str, instructions: u64, outcome: &Outcome) -> Figure {
        let micros = |time: Duration| round(time.as_secs_f64() * 1e6);
        Figure {
            unit: unit.to_owned(),
            instructions: (instructions as f64 / outcome.units).round() as u64,
            rate: Some(round(outcome.rate)),
            median_us: outcome.quantile(0.5).map(micros),
            p99_us: outcome.quantile(0.99).map(micros),
            lost: outcome.lost,
        }
    }

    /// Returns the median of several figures, for each part on its own. Lost requests are added up.
    pub fn median(of: &[Figure]) -> Option<Figure> {
        let part =
            |part: fn(&Figure) -> Option<f64>| quantile(&of.iter().filter_map(part).collect::<Vec<_>>(), 0.5);
        let counts: Vec<u64> = of.iter().map(|figure| figure.instructions).collect();
        Some(Figure {
            unit: of.first()?.unit.clone(),
            instructions: quantile(&counts, 0.5)?,
            rate: part(|figure| figure.rate),
            median_us: part(|figure| figure.median_us),
            p99_us: part(|figure| figure.p99_us),
            lost: of.iter().map(|figure| figure.lost).sum(),
        })
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

impl Figures {
    /// Creates a session without figures.
    pub fn new(guest: &str, of: String, qemu: String) -> Figures {
        Figures {
            version: VERSION,
            guest: guest.to_owned(),
            of,
            qemu,
            boots: 0,
            boot_seconds: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    pub fn parse(text: &str) -> Result<Figures> {
        let figures: Figures = serde_json::from_str(text)?;
        ensure!(
            figures.version == VERSION,
            "the figures have version {}, and this program reads version {VERSION}",
            figures.version
        );
        Ok(figures)
    }

    pub fn read(path: &Path) -> Result<Figures> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Figures::parse(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes a file. Creates its folder if necessary.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(path, text))
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Returns by how many percent `now` is above `before`.
pub fn rise(before: u64, now: u64) -> f64 {
    (now as f64 - before as f64) * 100.0 / before.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(instructions: u64) -> Figure {
        let outcome = Outcome {
            units: 4.0,
            rate: 1.25,
            times: vec![Duration::from_micros(5), Duration::from_micros(7)],
            lost: 1,
        };
        Figure::of("echo", instructions * 4, &outcome)
    }

    #[test]
    fn figures_read_back_and_others_are_refused() {
        let mut figures = Figures::new("branes", "abc".to_owned(), "QEMU".to_owned());
        figures.figures.insert("tcp-echo".to_owned(), figure(100));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/a.json");
        figures.write(&path).unwrap();
        assert_eq!(Figures::read(&path).unwrap(), figures);
        let text = fs::read_to_string(&path).unwrap();
        assert!(Figures::parse(&text.replace("\"version\": 1", "\"version\": 2")).is_err());
        assert!(Figures::parse(&text.replace("\"unit\"", "\"units\"")).is_err());
        assert!(Figures::parse(&text.replace("100", "\"100\"")).is_err());
    }

    #[test]
    fn the_median_is_of_each_part() {
        let median = Figure::median(&[figure(300), figure(100), figure(200)]).unwrap();
        assert_eq!((median.instructions, median.lost), (200, 3));
        assert_eq!((median.rate, median.p99_us), (Some(1.3), Some(7.0)));
        assert!(Figure::median(&[]).is_none());
    }

    #[test]
    fn a_rise_is_in_percent() {
        assert_eq!(rise(200, 210).round(), 5.0);
        assert_eq!(rise(200, 100), -50.0);
        assert!(rise(0, 1).is_finite());
    }
}
