//! Comparison of a description with an image. The result names each difference.

use std::collections::BTreeSet;
use std::fmt;

use branes_system::System;
use serde::Serialize;

use crate::authority::{Authority, View};
use crate::model;

/// A difference between the description and the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The domain or device with the difference. `None` for the image as a whole.
    pub domain: Option<String>,
    /// A slot, an address, or an attribute.
    pub place: String,
    /// The expected value. `None` if the description has nothing there.
    pub described: Option<String>,
    /// The actual value. `None` if the image has nothing there.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".to_owned());
        let who = self.domain.as_deref().unwrap_or("the image");
        let (described, found) = (side(&self.described), side(&self.found));
        write!(
            f,
            "{who}, {}: described {described}; in the image {found}",
            self.place
        )
    }
}

/// Compares `found`, as a reader returned it, with `model`. Returns all differences.
pub fn compare(system: &System, model: &Authority, mut found: Authority) -> Vec<Difference> {
    found.settle(|name| model::stack_size(system, name));
    let mut all = Differences(Vec::new());
    for what in &found.anomalies {
        all.add(None, "the whole", None, Some(what.clone()));
    }
    for name in names(model.domains.keys(), found.domains.keys()) {
        let (ours, its) = match (model.domains.get(name), found.domains.get(name)) {
            (Some(ours), Some(its)) => (ours, its),
            (ours, its) => {
                let is = |side: bool| side.then(|| "a domain".to_owned());
                all.add(Some(name), "itself", is(ours.is_some()), is(its.is_some()));
                continue;
            }
        };
        all.pair(name, "thread", Some(&ours.thread), Some(&its.thread));
        for place in names(ours.caps.keys(), its.caps.keys()) {
            all.pair(
                name,
                &place.to_string(),
                ours.caps.get(place),
                its.caps.get(place),
            );
        }
        all.views(name, &ours.memory, &its.memory);
    }
    for pci in names(model.devices.keys(), found.devices.keys()) {
        let name = format!("device {pci}");
        let (ours, its) = (model.devices.get(pci), found.devices.get(pci));
        let id = |device: Option<&crate::authority::Device>| device.map(|device| device.domain_id);
        all.pair(&name, "IOMMU domain", id(ours).as_ref(), id(its).as_ref());
        let memory =
            |device: Option<&crate::authority::Device>| device.map_or(Vec::new(), |d| d.memory.clone());
        all.views(&name, &memory(ours), &memory(its));
    }
    all.0
}

fn names<'a, T: Ord>(ours: impl Iterator<Item = &'a T>, its: impl Iterator<Item = &'a T>) -> BTreeSet<&'a T> {
    ours.chain(its).collect()
}

struct Differences(Vec<Difference>);

impl Differences {
    fn add(&mut self, domain: Option<&str>, place: &str, described: Option<String>, found: Option<String>) {
        let (domain, place) = (domain.map(str::to_owned), place.to_owned());
        self.0.push(Difference {
            domain,
            place,
            described,
            found,
        });
    }

    fn pair<T: PartialEq + fmt::Display>(
        &mut self,
        name: &str,
        place: &str,
        ours: Option<&T>,
        its: Option<&T>,
    ) {
        if ours != its {
            let text = |side: Option<&T>| side.map(T::to_string);
            self.add(Some(name), place, text(ours), text(its));
        }
    }

    fn views(&mut self, name: &str, ours: &[View], its: &[View]) {
        let at = |views: &[View], start| {
            let here: Vec<String> = views
                .iter()
                .filter(|v| v.start == start)
                .map(View::to_string)
                .collect();
            (!here.is_empty()).then(|| here.join(" and "))
        };
        let starts: BTreeSet<u64> = ours.iter().chain(its).map(|view| view.start).collect();
        for start in starts {
            self.pair(
                name,
                &format!("memory at {start:#x}"),
                at(ours, start).as_ref(),
                at(its, start).as_ref(),
            );
        }
    }
}
