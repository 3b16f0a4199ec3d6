//! Converts the results of `why` and `reach` to text and to JSON. Owns no state. The caller makes the text printable.

use super::{Explanation, Matrix, Outcome, Pair};
use crate::table_layout::Table;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::Family;
use serde_json::{Value, json};

impl Explanation {
    /// Returns the steps in columns, and the result in the last line.
    pub fn text(&self) -> String {
        let mut table = Table::new(["STEP", "BRANE", "VERDICT", "THING", "DETAIL"]);
        for step in &self.steps {
            table.row([
                step.step.into(),
                step.brane.clone(),
                step.verdict.word().into(),
                step.thing.clone(),
                step.detail.clone(),
            ]);
        }
        let (from, to) = (&self.from, &self.to);
        let end = match (self.stop(), self.outcome()) {
            (Some(stop), _) => format!("stopped at: {}\n", stop.place()),
            (None, Outcome::Unknown) => format!("{from} reaches {to} if the unknown steps pass\n"),
            (None, _) => format!("{from} reaches {to}\n"),
        };
        table.text("") + &end
    }

    /// Returns the result as JSON.
    pub fn json(&self) -> Value {
        let step = |step: &super::Step| {
            json!({
                "step": step.step, "brane": step.brane, "verdict": step.verdict.word(), "thing": step.thing,
                "detail": step.detail,
            })
        };
        json!({
            "from": self.from, "to": self.to, "protocol": self.traffic.name(), "port": self.traffic.port(),
            "source": self.source.map(|ip| ip.to_string()), "destination": self.destination.map(|ip| ip.to_string()),
            "steps": self.steps.iter().map(step).collect::<Vec<Value>>(),
            "result": self.outcome().word(), "stopped_at": self.stop().map(|stop| stop.step),
        })
    }
}

impl Pair {
    fn cell(&self) -> String {
        let computed = match self.outcome {
            Outcome::Reaches => "yes",
            Outcome::Stopped => "no",
            Outcome::Unknown => "?",
        };
        match self.tried {
            Some(true) if self.differs() => format!("{computed} (tried: yes)"),
            Some(false) if self.differs() => format!("{computed} (tried: no)"),
            Some(true) if self.outcome == Outcome::Unknown => "? (tried: yes)".into(),
            Some(false) if self.outcome == Outcome::Unknown => "? (tried: no)".into(),
            _ => computed.into(),
        }
    }
}

impl Matrix {
    /// Returns a table for each family, a line for each pair that does not reach, and the number of differences.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for family in Family::ALL {
            out += &self.table(family);
        }
        if out.is_empty() {
            out += "no two started branes have addresses of one family\n";
        }
        for pair in &self.pairs {
            if let Some(place) = &pair.stopped_at {
                out += &format!("{} {} to {}: {place}\n", pair.family.name(), pair.from, pair.to);
            }
        }
        if self.probe {
            let count = self.pairs.iter().filter(|pair| pair.differs()).count();
            out += &match count {
                0 => "computed and tried agree\n".to_string(),
                1 => "1 difference between computed and tried\n".to_string(),
                count => format!("{count} differences between computed and tried\n"),
            };
        }
        out
    }

    fn table(&self, family: Family) -> String {
        let pairs: Vec<&Pair> = self.pairs.iter().filter(|pair| pair.family == family).collect();
        let present = |name: &&String| pairs.iter().any(|pair| pair.from == **name || pair.to == **name);
        let names: Vec<&String> = self.branes.iter().filter(present).collect();
        if names.is_empty() {
            return String::new();
        }
        let mut table = Table::default();
        let head = format!("{} {}", family.name(), self.traffic);
        table.line(
            core::iter::once(head)
                .chain(names.iter().map(|name| name.to_string()))
                .collect(),
        );
        for from in &names {
            let cell = |to: &&String| {
                let pair = pairs.iter().find(|pair| pair.from == **from && pair.to == **to);
                pair.map_or("-".into(), |pair| pair.cell())
            };
            let row = core::iter::once(from.to_string()).chain(names.iter().map(cell));
            table.line(row.collect());
        }
        table.text("")
    }

    /// Returns the matrix as JSON.
    pub fn json(&self) -> Value {
        let pair = |pair: &Pair| {
            json!({
                "family": pair.family.name(), "from": pair.from, "to": pair.to, "address": pair.address.to_string(),
                "result": pair.outcome.word(), "stopped_at": pair.stopped_at, "tried": pair.tried,
                "differs": pair.differs(),
            })
        };
        json!({
            "protocol": self.traffic.name(), "port": self.traffic.port(), "probe": self.probe,
            "differs": self.differs(), "pairs": self.pairs.iter().map(pair).collect::<Vec<Value>>(),
        })
    }
}
