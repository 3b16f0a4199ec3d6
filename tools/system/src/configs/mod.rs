//! `configs.toml`: the systems that can be built. Each follows from `system.xml` by one rule.
//!
//! The rule: every numbered element is described for N = 0, 1, 2. A system of more instances has a copy for
//! each further N, on the straight line through instances 1 and 2. If the lines do not fit together, or the
//! result breaks a rule of descriptions, the configuration does not exist.

mod expand;

use crate::{Errors, Position, System, codegen};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// An entry of `configs.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Description in one line.
    pub about: String,
    /// Number of instances of each numbered family.
    pub instances: usize,
    /// Number of subscribers to the life cycle of branes.
    #[serde(default)]
    pub subscribers: usize,
    /// Number of NICs. The system has the domains `nic0` to `nicK`, with K one less.
    #[serde(default = "one")]
    pub nics: usize,
    /// Number of external filters. The system has the domains `filter0` to `filterK`, with K one less.
    #[serde(default)]
    pub filters: usize,
    /// Path of the boot configuration, relative to the root.
    pub boot: PathBuf,
    /// Protection domains that are left out, together with everything that only they use.
    #[serde(default)]
    pub without: Vec<Spanned<String>>,
    /// Program image by protection domain.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
    /// Path of a description whose elements are added to the system's, relative to the root.
    #[serde(default)]
    pub add: Option<PathBuf>,
    /// Size by memory region, or by family of regions as in `heap-N`.
    #[serde(default)]
    pub sizes: BTreeMap<String, u64>,
    /// Physical address by memory region.
    #[serde(default)]
    pub place: BTreeMap<String, u64>,
    /// True if the machine has an IOMMU. Otherwise I/O address spaces are left out. The file does not have
    /// this key, because it is a property of the machine.
    #[serde(skip)]
    pub iommu: bool,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry {
            about: String::new(),
            instances: 0,
            subscribers: 0,
            nics: one(),
            filters: 0,
            boot: PathBuf::new(),
            without: Vec::new(),
            replace: BTreeMap::new(),
            add: None,
            sizes: BTreeMap::new(),
            place: BTreeMap::new(),
            iommu: false,
        }
    }
}

impl Entry {
    /// Returns true if the system lacks the protection domain of this name, by [`Self::without`], [`Self::nics`] or
    /// [`Self::filters`].
    pub fn leaves_out(&self, name: &str) -> bool {
        let surplus = codegen::series(name).is_some_and(|(base, number)| match base.as_str() {
            "nic" => number >= self.nics,
            "filter" => number >= self.filters,
            _ => false,
        });
        surplus || self.without().any(|without| without == name)
    }

    /// Returns the size that the entry gives to a memory region of this name, if any.
    pub fn size(&self, region: &str) -> Option<u64> {
        let sizes = self.sizes.iter();
        let mut own = sizes.filter(|(key, _)| Self::is_size_of(key, region));
        own.next().map(|(_, size)| *size)
    }

    /// Returns true if a key of [`Self::sizes`] is for the memory region of this name.
    fn is_size_of(key: &str, region: &str) -> bool {
        let family = codegen::family(region).map(|(base, _)| base);
        key == region || family.is_some() && key.strip_suffix("-N") == family
    }

    /// Returns the names of the protection domains that are left out.
    pub fn without(&self) -> impl Iterator<Item = &str> {
        self.without.iter().map(|name| name.get_ref().as_str())
    }
}

/// A resolved configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub entry: Entry,
    /// The expanded description, which any tool for the format can read.
    pub xml: String,
    /// The parsed description.
    pub system: System,
    pub boot: PathBuf,
}

/// Reason why a configuration does not exist.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {_1}", .0.display())]
    Read(PathBuf, std::io::Error),
    /// `configs.toml` is invalid.
    #[error("{}:{}:{}: {_2}", .0.display(), _1.line, _1.column)]
    Toml(PathBuf, Position, String),
    /// The name is unknown.
    #[error("no configuration is called `{0}`; configs.toml has: {1}")]
    Unknown(String, String),
    /// The description does not have that many NICs, or the number is 0.
    #[error("configuration `{0}` has {1} NICs; the description has {2}, and 1 is the least")]
    Nics(String, usize, usize),
    /// The description does not have that many external filters.
    #[error("configuration `{0}` has {1} filters; the description has {2}")]
    Filters(String, usize, usize),
    /// The number of instances is not possible.
    #[error("configuration `{0}` has {1} instances; 1 to {MAX_INSTANCES} are allowed")]
    Instances(String, usize),
    /// The number of subscribers is not possible.
    #[error("configuration `{0}` has {1} subscribers; at most {MAX_INSTANCES} are allowed")]
    Subscribers(String, usize),
    /// A replaced protection domain does not exist.
    #[error("configuration `{0}` replaces the program of `{1}`, which does not exist; there are: {2}")]
    Replace(String, String, String),
    /// A protection domain that is left out does not exist.
    #[error("{}:{}:{}: configuration `{config}` is without `{domain}`, which does not exist; there are: {known}", file.display(), position.line, position.column)]
    Without {
        /// Path of `configs.toml`.
        file: PathBuf,
        position: Position,
        /// Name of the configuration.
        config: String,
        /// The protection domain.
        domain: String,
        /// The existing protection domains.
        known: String,
    },
    /// A placed memory region does not exist.
    #[error("configuration `{0}` places the memory region `{1}`, which does not exist; there are: {2}")]
    Place(String, String, String),
    /// A memory region that gets another size does not exist.
    #[error(
        "configuration `{0}` gives the memory region `{1}` a size, but it does not exist; there are: {2}"
    )]
    Size(String, String, String),
    /// `system.xml` or the expanded description is invalid.
    #[error("{0}")]
    System(Errors),
    /// A file to be added is no description.
    #[error("{}: configuration `{_1}` adds it, but it is not one <system> element", .0.display())]
    Add(PathBuf, String),
    /// The instances do not follow the rule.
    #[error("{}:{}:{}: error: {what}; help: {help}", file.display(), position.line, position.column)]
    Rule {
        file: PathBuf,
        position: Position,
        /// The fault.
        what: String,
        /// The remedy.
        help: String,
    },
}

/// Returns the number of NICs of an entry that does not give one.
fn one() -> usize {
    1
}

/// A system can have as many instances as protection domains.
const MAX_INSTANCES: usize = 63;

/// Returns all entries by name.
pub fn entries(root: &Path) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let path = root.join("configs.toml");
    let text = read(&path)?;
    toml::from_str(&text).map_err(|e| {
        let place = position(&text, e.span().map_or(0, |span| span.start));
        ConfigError::Toml(path, place, e.message().replace('\n', ", "))
    })
}

/// Returns the position of a byte in a text.
fn position(text: &str, byte: usize) -> Position {
    let before = text.get(..byte).unwrap_or(text);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position {
        line: count(before.matches('\n').count() + 1),
        column: count(before.rsplit('\n').next().unwrap_or("").chars().count() + 1),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|e| ConfigError::Read(path.to_owned(), e))
}

/// Returns the first description followed by the elements of the second.
fn joined(text: &str, added: &str) -> Option<String> {
    const END: &str = "</system>";
    let (_, elements) = added.split_once("<system>")?;
    let (elements, _) = elements.rsplit_once(END)?;
    let (own, end) = text.rsplit_once(END)?;
    Some(format!("{own}{elements}{END}{end}"))
}

impl Config {
    /// Resolves a configuration from `configs.toml` and `system.xml` in `root`, for a machine without an
    /// IOMMU.
    pub fn load(root: &Path, name: &str) -> Result<Config, ConfigError> {
        Config::load_for(root, name, false)
    }

    /// Resolves a configuration from `configs.toml` and `system.xml` in `root`, for a machine with or without
    /// an IOMMU.
    pub fn load_for(root: &Path, name: &str, iommu: bool) -> Result<Config, ConfigError> {
        let mut entries = entries(root)?;
        let known = entries.keys().cloned().collect::<Vec<_>>().join(", ");
        let entry = entries
            .remove(name)
            .ok_or_else(|| ConfigError::Unknown(name.to_owned(), known))?;
        let entry = Entry { iommu, ..entry };
        let path = root.join("system.xml");
        let text = read(&path)?;
        let Some(add) = &entry.add else {
            return Config::resolve(root, name, entry, &path, &text);
        };
        let added = root.join(add);
        let text = joined(&text, &read(&added)?).ok_or_else(|| ConfigError::Add(added, name.to_owned()))?;
        let both = format!("{} with {}", path.display(), add.display());
        Config::resolve(root, name, entry, Path::new(&both), &text)
    }

    /// Applies an entry to a description. `path` is the description's name in messages. `entry.boot` is
    /// relative to `root`.
    pub fn resolve(
        root: &Path,
        name: &str,
        entry: Entry,
        path: &Path,
        text: &str,
    ) -> Result<Config, ConfigError> {
        if !(1..=MAX_INSTANCES).contains(&entry.instances) {
            return Err(ConfigError::Instances(name.to_owned(), entry.instances));
        }
        if entry.subscribers > MAX_INSTANCES {
            return Err(ConfigError::Subscribers(name.to_owned(), entry.subscribers));
        }
        let file = path.display().to_string();
        let whole = System::parse(text, &file);
        // Added elements may need the ids or addresses of removed ones. In that case only the result can be
        // checked.
        let complete = !expand::domains(text).iter().any(|name| entry.leaves_out(name));
        if entry.add.is_none() || complete {
            whole.map_err(ConfigError::System)?;
        }
        let domains = expand::domains(text);
        let described = |series: &str| {
            let of = |name: &&String| codegen::series(name).is_some_and(|(base, _)| base == series);
            domains.iter().filter(of).count()
        };
        let (nics, filters) = (described("nic"), described("filter"));
        if nics > 0 && !(1..=nics).contains(&entry.nics) {
            return Err(ConfigError::Nics(name.to_owned(), entry.nics, nics));
        }
        if entry.filters > filters {
            return Err(ConfigError::Filters(name.to_owned(), entry.filters, filters));
        }
        if let Some(wrong) = entry.without.iter().find(|pd| !domains.contains(pd.get_ref())) {
            let file = root.join("configs.toml");
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            return Err(ConfigError::Without {
                position: position(&text, wrong.span().start),
                file,
                config: name.to_owned(),
                domain: wrong.get_ref().clone(),
                known: domains.join(", "),
            });
        }
        let xml = expand::expand(text, &entry).map_err(|fault| ConfigError::Rule {
            file: path.to_owned(),
            position: fault.position,
            what: fault.what,
            help: fault.help,
        })?;
        let file = match xml == text {
            true => file,
            false => format!("{file} as continued for `{name}`"),
        };
        let system = System::parse(&xml, &file).map_err(ConfigError::System)?;
        if let Some(pd) = entry.replace.keys().find(|pd| system.pd(pd).is_none()) {
            let names = system.protection_domains.iter().map(|pd| pd.name.as_str());
            let known = names.collect::<Vec<_>>().join(", ");
            return Err(ConfigError::Replace(name.to_owned(), pd.clone(), known));
        }
        let resized = |key: &&String| {
            !system
                .memory_regions
                .iter()
                .any(|mr| Entry::is_size_of(key, &mr.name))
        };
        if let Some(region) = entry.sizes.keys().find(resized) {
            let names = system.memory_regions.iter().map(|mr| mr.name.as_str());
            let known = names.collect::<Vec<_>>().join(", ");
            return Err(ConfigError::Size(name.to_owned(), region.clone(), known));
        }
        if let Some(region) = entry.place.keys().find(|mr| system.region(mr).is_none()) {
            let names = system.memory_regions.iter().map(|mr| mr.name.as_str());
            let known = names.collect::<Vec<_>>().join(", ");
            return Err(ConfigError::Place(name.to_owned(), region.clone(), known));
        }
        let boot = root.join(&entry.boot);
        let name = name.to_owned();
        Ok(Config {
            name,
            entry,
            xml,
            system,
            boot,
        })
    }
}
