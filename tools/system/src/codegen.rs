//! Generates the constants of a program from the description: channel ids, regions, interrupts, I/O ports,
//! children.
//!
//! A name that ends in `-N` belongs to a family. Inside a domain that is instance N of a family, names with
//! its own number lose the number (`sock-2` in `brane-2` is `SOCK`). Elsewhere a family becomes an array with
//! index N. The NICs are a second dimension: a name with the part `nicK` belongs to NIC K. Inside the domain
//! `nicK` such names lose its own number (`nic1-dma` in `nic1` is `NIC_DMA`). Elsewhere they become an array
//! with index K (`ports-nic1-2` in `brane-2` is `PORTS_NIC[1]`). The external filters, `filterK`, are another
//! such dimension.
//!
//! All domains that run one program must have the same constants. Two kinds of values are no constants: a
//! physical address that the program receives by a `setvar`, and interrupt vectors that differ.
//!
//! A program for systems that may lack some parts declares them. Its constants for these parts are `Option`s,
//! or arrays of any length. See [`program_with`].

use crate::configs::{self, Config};
use crate::{ExtraCapKind, System};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Environment variable with the path of the description to generate from.
pub const SYSTEM_VARIABLE: &str = "BRANES_SYSTEM";

/// Configuration whose constants a program gets if the variable is not set, as for clippy and the
/// documentation.
const DEFAULT: &str = "default";

/// Splits `brane-12` into `brane` and 12.
pub fn family(name: &str) -> Option<(&str, usize)> {
    let (base, number) = name.rsplit_once('-')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (digits && (number == "0" || !number.starts_with('0'))).then_some(())?;
    Some((base, number.parse().ok()?))
}

/// Prefixes of the names that a second number belongs to: those of the NICs and of the external filters.
const SERIES: [&str; 2] = ["nic", "filter"];

/// Splits a name with the number of a NIC or an external filter into the name without the number, and the number:
/// `ports-nic1` into `ports-nic` and 1, `hook-filter2` into `hook-filter` and 2.
pub fn series(name: &str) -> Option<(String, usize)> {
    let numbered = |part: &str| {
        SERIES.iter().find_map(|prefix| {
            let digits = part.strip_prefix(prefix)?;
            let plain =
                digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
            Some((*prefix, plain.then(|| digits.parse().ok()).flatten()?))
        })
    };
    let (_, found) = name.split('-').find_map(numbered)?;
    let parts = name
        .split('-')
        .map(|part| numbered(part).map_or(part, |(prefix, _)| prefix));
    Some((parts.collect::<Vec<_>>().join("-"), found))
}

/// A domain's own numbers: its instance within a family, and its number within a series.
#[derive(Clone, Copy)]
struct Own {
    instance: Option<usize>,
    series: Option<usize>,
}

impl Own {
    fn of(name: &str) -> Own {
        Own {
            instance: family(name).map(|(_, n)| n),
            series: series(name).map(|(_, k)| k),
        }
    }
}

/// Values under one name: a single value, or the values of a family by number.
#[derive(Default)]
struct Names(BTreeMap<String, BTreeMap<Option<usize>, String>>);

impl Names {
    fn add(&mut self, own: Own, name: &str, value: String) -> Result<(), String> {
        let (base, instance) = match family(name) {
            Some((base, n)) => (base, Some(n).filter(|_| own.instance != Some(n))),
            None => (name, None),
        };
        let (base, series) = match series(base) {
            Some((base, k)) => (base, Some(k).filter(|_| own.series != Some(k))),
            None => (base.to_owned(), None),
        };
        if instance.is_some() && series.is_some() {
            return Err(format!(
                "`{name}` has the number of a NIC or filter and that of an instance, and neither is this domain's own"
            ));
        }
        let index = instance.or(series);
        let entry = self.0.entry(constant(&base)).or_default();
        match entry.insert(index, value) {
            None => Ok(()),
            Some(_) => Err(format!(
                "a second one becomes the constant of `{name}`; give them different names"
            )),
        }
    }

    fn write(
        &self,
        out: &mut String,
        module: &str,
        about: &str,
        ty: &str,
        optional: &[&str],
    ) -> Result<(), String> {
        let missing = |name: &&&str| {
            let base = name.strip_suffix("-N").unwrap_or(name);
            !self.0.contains_key(&constant(base))
        };
        let is_optional = |name: &String| optional.iter().any(|optional| constant(optional) == *name);
        let _ = writeln!(
            out,
            "#[doc = {about:?}]\n#[allow(dead_code)]\npub mod {module} {{"
        );
        if ty != "usize" {
            let _ = writeln!(out, "    #[allow(unused_imports)]\n    use sel4_microkit::{ty};");
        }
        for (name, values) in &self.0 {
            if let Some(value) = values.get(&None) {
                if values.len() > 1 {
                    return Err(format!("{module} has both {name} and numbered ones of that name"));
                }
                let (ty, value) = match is_optional(name) {
                    true => (format!("Option<{ty}>"), format!("Some({value})")),
                    false => (ty.to_owned(), value.clone()),
                };
                let _ = writeln!(
                    out,
                    "    /// From the system description.\n    pub const {name}: {ty} = {value};"
                );
                continue;
            }
            if !values.keys().enumerate().all(|(i, key)| *key == Some(i)) {
                return Err(format!(
                    "the numbers of {module} {name} are not 0, 1, 2, ... without a gap"
                ));
            }
            let list = values.values().map(String::as_str).collect::<Vec<_>>().join(", ");
            let count = values.len();
            let _ = writeln!(
                out,
                "    /// From the system description, by number.\n    pub const {name}: [{ty}; {count}] = [{list}];"
            );
        }
        for name in optional.iter().filter(missing) {
            let (name, ty, value) = match name.strip_suffix("-N") {
                Some(base) => (constant(base), format!("[{ty}; 0]"), "[]"),
                None => (constant(name), format!("Option<{ty}>"), "None"),
            };
            let _ = writeln!(
                out,
                "    /// Not in this system.\n    pub const {name}: {ty} = {value};"
            );
        }
        out.push_str("}\n");
        Ok(())
    }
}

/// Returns the name of the constant for a name without its number.
fn constant(name: &str) -> String {
    name.to_uppercase().replace(['-', '.', ' '], "_")
}

fn domain(system: &System, name: &str, optional: &[&str], same_vectors: bool) -> Result<String, String> {
    let pd = system
        .pd(name)
        .ok_or_else(|| format!("no protection domain `{name}`"))?;
    let own = Own::of(name);
    let mut out = String::new();

    let mut channels = Names::default();
    for (end, peer) in system.ends(name) {
        channels.add(own, &peer.pd, end.id.to_string())?;
    }
    channels.write(
        &mut out,
        "channels",
        "Channel ids, named after the protection domain at the other end.",
        "usize",
        optional,
    )?;

    let mut regions = Names::default();
    for map in &pd.maps {
        let region = system
            .region(&map.mr)
            .ok_or_else(|| format!("no memory region `{}`", map.mr))?;
        let size = region.size.ok_or_else(|| {
            format!(
                "memory region `{}` needs a size, for the constants of programs",
                map.mr
            )
        })?;
        let is_set = pd.setvars.iter().any(|setvar| setvar.region == map.mr);
        let value = format!(
            "Region {{ vaddr: {:#x}, size: {size:#x}, paddr: {:?} }}",
            map.vaddr,
            region.phys_addr.filter(|_| !is_set)
        );
        regions.add(own, &map.mr, value)?;
    }
    regions.write(&mut out, "regions", "Mapped memory regions.", "Region", optional)?;

    let mut children = Names::default();
    for child in system.children(name) {
        children.add(own, &child.name, child.child_id.unwrap_or(0).to_string())?;
    }
    children.write(
        &mut out,
        "children",
        "Ids of child protection domains.",
        "usize",
        optional,
    )?;

    let mut threads = Names::default();
    for cap in pd.cspace.iter().filter(|cap| cap.kind == ExtraCapKind::Tcb) {
        threads.add(own, &cap.pd, cap.slot.to_string())?;
    }
    threads.write(
        &mut out,
        "threads",
        "Slots of the capabilities to other protection domains' threads.",
        "usize",
        &[],
    )?;

    let irqs: Vec<String> = pd.irqs.iter().map(|irq| irq.id.to_string()).collect();
    let vectors: Vec<String> = pd.irqs.iter().map(|irq| irq.vector.to_string()).collect();
    let vectors = match same_vectors {
        true => format!(
            "    /// Their vectors, as the description counts them.\n    pub const VECTOR: [u8; {}] = [{}];\n",
            vectors.len(),
            vectors.join(", ")
        ),
        false => String::new(),
    };
    let _ = writeln!(
        out,
        "/// Interrupts, in the description's order.\n#[allow(dead_code)]\npub mod irqs {{\n    /// Their ids.\n    \
         pub const IRQ: [usize; {}] = [{}];\n{vectors}}}",
        irqs.len(),
        irqs.join(", "),
    );
    let port = |p: &crate::IoPort| {
        format!(
            "IoPortRange {{ id: {}, addr: {:#x}, size: {} }}",
            p.id, p.addr, p.size
        )
    };
    let ports: Vec<String> = pd.ioports.iter().map(port).collect();
    let _ = writeln!(
        out,
        "/// I/O ports, in the description's order.\n#[allow(dead_code)]\npub mod ioports {{\n    \
         #[allow(unused_imports)]\n    use sel4_microkit::IoPortRange;\n    /// The ranges.\n    \
         pub const IOPORT: [IoPortRange; {}] = [{}];\n}}",
        ports.len(),
        ports.join(", ")
    );
    out.push_str(&sizes(system));
    let _ = writeln!(
        out,
        "/// Bytes of the stack.\n#[allow(dead_code)]\npub const STACK_SIZE: usize = {:#x};",
        pd.stack_size
    );
    Ok(out)
}

/// Returns the module with the sizes of the families' regions. It serves programs that divide memory which only others map. Families
/// whose regions differ in size are left out.
fn sizes(system: &System) -> String {
    let mut sizes: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for region in &system.memory_regions {
        let Some((base, _)) = family(&region.name) else {
            continue;
        };
        let base = series(base).map_or_else(|| base.to_owned(), |(base, _)| base);
        let size = sizes.entry(constant(&base)).or_insert(region.size);
        *size = size.filter(|size| region.size == Some(*size));
    }
    let mut out =
        String::from("/// Bytes of the system's regions, by family.\n#[allow(dead_code)]\npub mod sizes {\n");
    for (name, size) in sizes {
        if let Some(size) = size {
            let _ = writeln!(
                out,
                "    /// Bytes of each.\n    pub const {name}: usize = {size:#x};"
            );
        }
    }
    out.push_str("}\n");
    out
}

/// The constants for a program, as Rust source.
pub fn program(system: &System, program: &str) -> Result<String, String> {
    program_with(system, program, &[])
}

/// Returns the constants of a program that is also used in systems without some channels, regions or
/// children. `optional` has the names of these, with `-N` for the number of a family. The constant of such a
/// name is an `Option`. That of a family is an array, which is empty if the family is missing.
pub fn program_with(system: &System, program: &str, optional: &[&str]) -> Result<String, String> {
    let domains = || {
        let all = system.protection_domains.iter();
        all.filter(|pd| pd.program == program)
    };
    let users: Vec<&str> = domains().map(|pd| pd.name.as_str()).collect();
    let vectors = || domains().map(|pd| pd.irqs.iter().map(|irq| irq.vector));
    let same_vectors = vectors().zip(vectors().skip(1)).all(|(a, b)| a.eq(b));
    let Some((first, others)) = users.split_first() else {
        return Err(format!("no protection domain of this system runs `{program}`"));
    };
    let constants =
        |name: &str| domain(system, name, optional, same_vectors).map_err(|e| format!("`{name}`: {e}"));
    let text = constants(first)?;
    for other in others {
        let its = constants(other)?;
        if let Some((a, b)) = text.lines().zip(its.lines()).find(|(a, b)| a != b) {
            return Err(format!(
                "`{first}` and `{other}` both run `{program}`, but differ: `{}` and `{}`",
                a.trim(),
                b.trim()
            ));
        }
        if text.lines().count() != its.lines().count() {
            return Err(format!(
                "`{first}` and `{other}` both run `{program}`, but have not the same channels or regions"
            ));
        }
    }
    let instances = users.len();
    Ok(format!(
        "// Generated from the system description.\n{text}\n/// The program these constants are for.\n\
         #[allow(dead_code)]\npub const PROGRAM: &str = {program:?};\n/// Protection domains that run it.\n\
         #[allow(dead_code)]\npub const INSTANCES: usize = {instances};\n"
    ))
}

/// Returns the constants of a program, for build scripts. The variable [`SYSTEM_VARIABLE`] names the description.
/// Without it, the description is that of the configuration `default`. If `default` does not run the program, it
/// is the first configuration that does. Prints cargo's lines for rebuilding.
pub fn from_env(name: &str, optional: &[&str]) -> Result<String, String> {
    println!("cargo:rerun-if-env-changed={SYSTEM_VARIABLE}");
    let Some(path) = std::env::var_os(SYSTEM_VARIABLE).map(PathBuf::from) else {
        return from_configurations(name, optional);
    };
    println!("cargo:rerun-if-changed={}", path.display());
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{file}: {e}"))?;
    let system = System::parse(&text, &file).map_err(|e| e.to_string())?;
    program_with(&system, name, optional).map_err(|e| format!("{file}: {e}"))
}

fn from_configurations(program: &str, optional: &[&str]) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for file in ["system.xml", "configs.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let entries = configs::entries(&root).map_err(|e| e.to_string())?;
    let others = entries.keys().map(String::as_str).filter(|name| *name != DEFAULT);
    let mut first_error = None;
    for configuration in std::iter::once(DEFAULT).chain(others) {
        let config = Config::load(&root, configuration).map_err(|e| e.to_string())?;
        match program_with(&config.system, program, optional) {
            Ok(text) => return Ok(text),
            Err(e) => first_error = first_error.or(Some(format!("configuration {configuration}: {e}"))),
        }
    }
    Err(first_error.unwrap_or_else(|| String::from("configs.toml describes no system")))
}
