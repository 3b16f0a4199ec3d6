//! The result of an audit, as text and as JSON (fields: `docs/audit.md`).

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use branes_image::Description;
use branes_system::System;
use serde::Serialize;

use crate::authority::Authority;
use crate::compare::{Difference, compare};
use crate::model::{self, Kernel, MONITOR};
use crate::reach::{self, Command, Edge, Reach};
use crate::roles::{Role, Roles};
use crate::{Error, capdl, image, render};

/// Version of the JSON form. Raised when a field changes its meaning or is removed.
const SCHEMA: u32 = 1;

pub struct Report {
    /// Name of the configuration.
    config: String,
    kernel: Kernel,
    model: Authority,
    roles: Roles,
    reach: Reach,
    /// Differences between description and image. `None` if no image was read.
    image: Option<Vec<Difference>>,
}

/// An image to compare.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// An image of our builder.
    Ours(&'a Path),
    /// The list of objects that the SDK's tool writes beside its image.
    Capdl(&'a Path),
}

impl Report {
    /// Audits a description without an image.
    ///
    /// # Errors
    /// The description cannot be modelled.
    pub fn of(config: &str, system: &System, kernel: Kernel) -> Result<Report, Error> {
        let model = model::authority(system, kernel)?;
        let roles = Roles::of(system);
        let reach = reach::reach(&model, &roles, kernel);
        let config = config.to_owned();
        Ok(Report {
            config,
            kernel,
            model,
            roles,
            reach,
            image: None,
        })
    }

    /// Compares the description with an image too.
    ///
    /// # Errors
    /// The image cannot be read.
    pub fn with_image(mut self, system: &System, image: Image<'_>) -> Result<Report, Error> {
        let found = match image {
            Image::Ours(path) => {
                let description = Description::of(path)?;
                let spec = description
                    .spec()
                    .map_err(|e| Error::Spec(format!("{}: {e}", path.display())))?;
                image::read(&spec, |name| system.region(name).is_some())
            }
            Image::Capdl(path) => {
                let text = std::fs::read(path).map_err(|cause| branes_image::Error::Read {
                    path: path.to_owned(),
                    cause,
                })?;
                capdl::read(&text)?
            }
        };
        self.image = Some(compare(system, &self.model, found));
        Ok(self)
    }

    /// Returns one line for each fault: differences, and paths that bypass the trusted domains.
    pub fn faults(&self) -> Vec<String> {
        let differences = self
            .image
            .iter()
            .flatten()
            .map(|difference| difference.to_string());
        differences.chain(self.reach.violations.iter().cloned()).collect()
    }

    /// Returns the result in one line.
    pub fn summary(&self) -> String {
        let (config, model) = (&self.config, &self.model);
        let compared = match &self.image {
            None => String::new(),
            Some(differences) if differences.is_empty() => format!(
                "image as described ({} domains, {} capabilities, {} mappings); ",
                model.domains.len(),
                model.capabilities(),
                model.views()
            ),
            Some(differences) => format!("image NOT as described ({} differences); ", differences.len()),
        };
        let through = render::names(self.trusted().into_iter());
        let places = self.known_between_branes();
        let known = match places.is_empty() {
            true => String::new(),
            false => format!(
                ", and by the SDK's rights (known weakness) at the endpoints of {}",
                places.join(", ")
            ),
        };
        match self.reach.violations.len() {
            0 => format!("{config}: {compared}branes reach each other only through {through}{known}"),
            n => format!("{config}: {compared}{n} PATHS between branes that bypass the trusted domains"),
        }
    }

    /// Returns one line for each endpoint at which branes can communicate because of the rights that the
    /// SDK's tool gives. No description can avoid this, so these lines are not part of [`Self::faults`].
    pub fn known_weaknesses(&self) -> Vec<String> {
        let places = self.known_between_branes().into_iter();
        places
            .map(|of| {
                format!(
                    "branes can communicate at the endpoint of {of}, and receive messages meant for it: the SDK's tool gives every endpoint \
                     capability the right to receive (docs/audit.md)"
                )
            })
            .collect()
    }

    /// Returns the owners of endpoints at which two compartments can communicate.
    fn known_between_branes(&self) -> Vec<&str> {
        let compartments = |who: &BTreeSet<String>| {
            let numbers = who.iter().filter_map(|name| self.roles.role(name).compartment());
            numbers.collect::<BTreeSet<_>>().len()
        };
        let between = self.reach.known.iter().filter(|(_, who)| compartments(who) > 1);
        between.map(|(of, _)| of.as_str()).collect()
    }

    /// Returns the trusted domains of the system: drivers, managers, services, others.
    fn trusted(&self) -> Vec<&str> {
        let trusted =
            |name: &&str| self.model.domains.contains_key(*name) && self.roles.role(name).is_trusted();
        let mut names: Vec<&str> = self.roles.names().filter(trusted).collect();
        names.sort_by_key(|name| match self.roles.role(name) {
            Role::Driver => 0,
            Role::Manager => 1,
            Role::Service => 2,
            _ => 3,
        });
        names
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> serde_json::Value {
        let domains = self.model.domains.iter().map(|(name, domain)| JsonDomain {
            name,
            role: self.roles.role(name).to_string(),
            compartment: self.roles.role(name).compartment(),
            reason: self.roles.reason(name),
            capabilities: domain
                .caps
                .iter()
                .map(|(place, held)| (place.to_string(), held.to_string()))
                .collect(),
            memory: domain
                .memory
                .iter()
                .map(|view| (format!("{:#x}", view.start), view.to_string()))
                .collect(),
        });
        let known = self.reach.known.iter();
        serde_json::json!(Json {
            schema: SCHEMA,
            config: &self.config,
            kernel: match self.kernel {
                Kernel::Registry => "registry",
                Kernel::Sdk => "sdk",
            },
            domains: domains.collect(),
            differences: self.image.as_deref(),
            edges: self.reach.edges.iter().collect(),
            devices: &self.reach.commands,
            violations: &self.reach.violations,
            known_weaknesses: known
                .map(|(of, who)| (of.as_str(), who.iter().map(String::as_str).collect()))
                .collect(),
        })
    }
}

#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    config: &'a str,
    kernel: &'a str,
    domains: Vec<JsonDomain<'a>>,
    differences: Option<&'a [Difference]>,
    edges: Vec<&'a Edge>,
    devices: &'a [Command],
    violations: &'a [String],
    known_weaknesses: std::collections::BTreeMap<&'a str, Vec<&'a str>>,
}

#[derive(Serialize)]
struct JsonDomain<'a> {
    name: &'a str,
    role: String,
    compartment: Option<usize>,
    reason: Option<&'static str>,
    capabilities: std::collections::BTreeMap<String, String>,
    memory: std::collections::BTreeMap<String, String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Domains")?;
        for (role, why) in [
            (
                Role::Brane(0),
                "isolated from each other, each in a compartment of its own",
            ),
            (Role::Client(0), "in the compartment of its brane"),
            (Role::Other, "not trusted: allowed in no path"),
        ] {
            let same = |name: &&str| self.roles.role(name).to_string() == role.to_string();
            let names = render::names(self.roles.names().filter(same));
            if !names.is_empty() {
                writeln!(f, "  {:<16} {names:<16} {why}", role.to_string())?;
            }
        }
        for name in self.trusted() {
            let why = self.roles.reason(name).unwrap_or_default();
            writeln!(f, "  {:<16} {name:<16} {why}", self.roles.role(name).to_string())?;
        }
        if self.kernel == Kernel::Registry {
            writeln!(
                f,
                "  {:<16} {:<16} builds the system, holds everything, then only waits for faults",
                MONITOR, "(root task)"
            )?;
        }
        self.paths(f)?;
        self.devices(f)?;
        if !self.reach.known.is_empty() {
            writeln!(
                f,
                "\nKNOWN WEAKNESS: endpoints at which untrusted domains can communicate"
            )?;
            for (of, who) in &self.reach.known {
                let who = render::names(who.iter().map(String::as_str));
                writeln!(f, "  endpoint of {of:<16} {who}")?;
            }
            writeln!(f, "  {}", reach::SDK_MEETING)?;
        }
        writeln!(f, "\n{}", self.summary())
    }
}

impl Report {
    fn paths(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edges = &self.reach.edges;
        let branes = |name: &str| self.roles.role(name).compartment().is_some();
        let mut through = Vec::new();
        for name in self.trusted() {
            let lines = render::lines(edges, &self.roles, name, branes);
            if !lines.is_empty() {
                through.push((name, lines));
            }
        }
        let rest: Vec<render::Line> = self
            .model
            .domains
            .keys()
            .filter(|name| !branes(name))
            .flat_map(|name| {
                let later = |other: &str| !branes(other) && other > name.as_str();
                render::lines(edges, &self.roles, name, later)
            })
            .collect();
        let lines = through.iter().flat_map(|(_, lines)| lines).chain(&rest);
        let (from, to) = lines.fold((0, 0), |(a, b), line| {
            (a.max(line.from.len()), b.max(line.to.len()))
        });
        let show = |f: &mut fmt::Formatter<'_>, lines: &[render::Line]| {
            lines.iter().try_for_each(|line| {
                writeln!(
                    f,
                    "  {:<from$} -> {:<to$}  {}",
                    line.from,
                    line.to,
                    line.means.join(", ")
                )
            })
        };
        for (name, lines) in &through {
            writeln!(f, "\nFrom brane to brane through {name}")?;
            show(f, lines)?;
        }
        writeln!(f, "\nBetween other domains (parts of longer paths)")?;
        show(f, &rest)
    }

    fn devices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nDevices")?;
        for command in &self.reach.commands {
            let reaches = match command.confined.as_slice() {
                _ if self.roles.role(&command.domain).has_tame_device() => {
                    "moves no memory (see above)".to_owned()
                }
                [] => "no IOMMU space: by DMA it reaches all memory, so the domain that controls it is fully trusted"
                    .to_owned(),
                spaces => format!("{} confined by the IOMMU", spaces.join(", ")),
            };
            writeln!(
                f,
                "  {:<16} {}: {reaches}",
                command.domain,
                command.through.join(", ")
            )?;
        }
        Ok(())
    }
}
