//! The verb `gdb`: boots the image with QEMU's gdb stub, stopped before its first instruction. Starts gdb with
//! the symbols of the kernel and of one protection domain.
//!
//! All programs are linked at one address, so a breakpoint by address alone stops every domain. The script made
//! here adds commands that distinguish domains: each domain has its name in its memory (`microkit_name`), and
//! gdb reads that memory in the address space of the running domain. On the other side: gdb and its user, both
//! trusted.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, thread};

use anyhow::{Context, Result, bail};
use branes_image::backtrace::Annotator;
use branes_qemu::{Machine, Serial, host};
use branes_system::{ProtectionDomain, System};
use object::{Object, ObjectSymbol};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::GdbOptions;
use crate::image::{self, Built, Resolved};
use crate::network::{further_user_network, user_network};
use crate::programs::SOURCES;
use crate::progress;
use crate::run::{self, POLL};
use crate::workspace::{Workspace, write_if_changed};

const GDB: &str = "gdb";
/// Symbol of a domain's name, which the image builder writes into the domain's memory.
const NAME: &str = "microkit_name";

/// Maximum length of a Unix socket's path in bytes.
const MAX_SOCKET: usize = 107;

/// Part of the script that is equal for all images.
const COMMANDS: &str = r#"
class PdCurrent(gdb.Command):
    """Name the protection domain whose address space is in use.

Usage: pd-current"""

    def __init__(self):
        super().__init__("pd-current", gdb.COMMAND_STATUS)

    def invoke(self, text, from_tty):
        current = [name for name, address in NAMES.items() if is_current(name, address)]
        print(current[0] if current else "no protection domain: the root task or the kernel before it")


class InPd(gdb.Function):
    """Return true if the address space of this protection domain is in use.

Usage: $in_pd("NAME")"""

    def __init__(self):
        super().__init__("in_pd")

    def invoke(self, name):
        name = name.string()
        check(name)
        return is_current(name, NAMES[name])


class PdBreak(gdb.Command):
    """Set a breakpoint that stops one protection domain only.

Usage: pd-break LOCATION [in NAME]
NAME is the protection domain that gdb was started for, if no other is given."""

    def __init__(self):
        super().__init__("pd-break", gdb.COMMAND_BREAKPOINTS, gdb.COMPLETE_LOCATION)

    def invoke(self, text, from_tty):
        location, _, name = text.partition(" in ")
        name = name.strip() or PD
        if not location.strip() or not name:
            raise gdb.GdbError("Usage: pd-break LOCATION in NAME")
        check(name)
        gdb.execute('break %s if $in_pd("%s")' % (location.strip(), name), from_tty)


def check(name):
    if name not in NAMES:
        raise gdb.GdbError("no protection domain is called %s; there are: %s" % (name, ", ".join(NAMES)))


def is_current(name, address):
    wanted = name.encode() + b"\0"
    try:
        return bytes(gdb.selected_inferior().read_memory(address, len(wanted))) == wanted
    except gdb.MemoryError:
        return False


PdCurrent()
InPd()
PdBreak()
end
"#;

pub fn gdb(workspace: &Workspace, options: &GdbOptions) -> Result<()> {
    let target = options.build.target()?;
    let resolved = image::resolve(workspace, &options.build.config, target.iommu)?;
    let pd = options
        .pd
        .as_deref()
        .map(|name| find(&resolved, name))
        .transpose()?;
    let pd = pd.map(|pd| pd.name.clone());
    let mut machine = Machine::new("", "");
    machine.iommu = target.iommu;
    machine.net = user_network(&resolved.boot, options.port_base).net;
    machine.more_nets = (1..resolved.config.entry.nics)
        .map(further_user_network)
        .collect();
    let socket = |name: &str| run::socket(workspace, &options.build.config, name);
    let control = socket("branectl.sock")?;
    let stub = socket("gdb.sock")?;
    run::connect(&mut machine, &control, false);
    machine.gdb = Some(stub.clone());
    machine.check()?;
    target.check()?;
    host::ensure(&[host::BUILD, host::RUN, host::DEBUG], &mut progress)?;
    host::check_qemu_version()?;

    let built = image::build(workspace, resolved, target)?;
    machine.memory_mib = run::memory(None, &built.report)?;
    machine.kernel = built.kernel.clone();
    machine.image = built.image.clone();
    let folder = workspace.target.join("run").join(&options.build.config);
    let script = folder.join("start.gdb");
    write_if_changed(
        &script,
        script_of(&workspace.root, &built, pd.as_deref(), &stub)?.as_bytes(),
    )?;

    progress(&format!(
        "control line: cargo run --package branes-branectl --bin branectl -- --socket {} list",
        control.display()
    ));
    let arguments = [GDB, "-q", "-x"].map(str::to_owned);
    if options.print {
        progress("booting when gdb says `continue`; in another terminal, type:");
        println!("{} {}", arguments.join(" "), script.display());
        machine.console = run::console();
        let mut annotator = Annotator::for_image(&folder_of(&built))?;
        return run::attend(&machine, Box::new(move |bytes| annotator.annotate(bytes)));
    }
    let console = folder.join("console.log");
    progress(&format!("console: tail -f {}", console.display()));
    machine.console = Serial::File(console);
    let mut command = Command::new(GDB);
    command
        .args(&arguments[1..])
        .arg(&script)
        .args(&options.arguments);
    debug(&machine, &mut command)
}

/// Starts QEMU and gdb. Ends QEMU when gdb has ended.
fn debug(machine: &Machine, gdb: &mut Command) -> Result<()> {
    // Ctrl-C belongs to gdb, which interrupts the guest. The other signals end gdb, and then QEMU.
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, told_to_end.clone()).context("watching for signals")?;
    }
    signal_hook::flag::register(SIGINT, Arc::new(AtomicBool::new(false))).context("watching for signals")?;
    let mut qemu = machine.start()?;
    let stub = machine.gdb.as_deref().unwrap_or(Path::new(""));
    while !listens(stub)? {
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU ended ({status}); see above");
        }
        thread::sleep(POLL);
    }
    let mut child = gdb.spawn().context("starting gdb")?;
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for gdb")? {
            break status;
        }
        if told_to_end.load(Ordering::Relaxed) {
            child.kill().context("ending gdb")?;
        }
        thread::sleep(POLL);
    };
    qemu.end()?;
    match status.success() || told_to_end.load(Ordering::Relaxed) {
        true => Ok(()),
        false => bail!("gdb ended ({status})"),
    }
}

/// Returns true if a program of this machine accepts connections at a Unix socket. Reads the kernel's table,
/// because an attempt to connect would count as a debugger.
fn listens(socket: &Path) -> Result<bool> {
    const ACCEPTS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").context("reading the list of sockets")?;
    let socket = socket.display().to_string();
    // Columns: address, references, protocol, flags, type, state, inode, path.
    Ok(table.lines().any(|line| {
        let flags = line.split_ascii_whitespace().nth(3);
        flags == Some(ACCEPTS) && line.strip_suffix(&socket).is_some_and(|rest| rest.ends_with(' '))
    }))
}

/// Returns the protection domain of this name. Otherwise returns the domain of the brane that has the name in
/// the boot configuration.
fn find<'a>(resolved: &'a Resolved, name: &str) -> Result<&'a ProtectionDomain> {
    let system = &resolved.system;
    let brane = resolved.boot.branes.iter().position(|brane| brane.name == name);
    let instance = brane.map(|number| format!("brane-{number}"));
    let found = system.pd(name).or_else(|| system.pd(&instance?));
    found.with_context(|| {
        let names: Vec<_> = system
            .protection_domains
            .iter()
            .map(|pd| pd.name.as_str())
            .collect();
        format!(
            "no protection domain is called `{name}`; there are: {}",
            names.join(", ")
        )
    })
}

/// Returns the folder of an image.
fn folder_of(built: &Built) -> PathBuf {
    built.image.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Returns gdb's initial commands.
fn script_of(root: &Path, built: &Built, pd: Option<&str>, stub: &Path) -> Result<String> {
    let system = &built.resolved.system;
    let program = |pd: &ProtectionDomain| folder_of(built).join("programs").join(&pd.program);
    let mut text = String::from("set pagination off\nset confirm off\nset architecture i386:x86-64\n");
    let mut add = |line: String| text.push_str(&format!("{line}\n"));
    if let Some(pd) = pd.and_then(|name| system.pd(name)) {
        add(format!("file {}", quoted(&program(pd))));
    }
    if let Some(kernel) = &built.kernel_symbols {
        add(format!("add-symbol-file {}", quoted(kernel)));
    }
    add(format!("set substitute-path {SOURCES} {}", root.display()));
    let here = env::current_dir().context("asking for the current folder")?;
    // Not quoted, because gdb reads the rest of the line as the name.
    let absolute = here.join(stub);
    let fits = absolute.as_os_str().len() <= MAX_SOCKET;
    let socket = if fits { absolute.as_path() } else { stub };
    add(format!("target remote {}", socket.display()));
    add("python".to_owned());
    add(format!("PD = {:?}", pd.unwrap_or_default()));
    add(format!("NAMES = {}", names(system, program)?));
    Ok(text + COMMANDS)
}

/// Returns a dictionary in Python's syntax: the address of the name of each protection domain.
fn names(system: &System, program: impl Fn(&ProtectionDomain) -> PathBuf) -> Result<String> {
    let mut text = String::from("{");
    for pd in &system.protection_domains {
        let address = address_of(&program(pd), NAME)?;
        let _ = write!(text, "{:?}: {address:#x}, ", pd.name);
    }
    Ok(text + "}")
}

/// Returns the address of a symbol.
fn address_of(path: &Path, name: &str) -> Result<u64> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {}", path.display()))?;
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(name));
    Ok(symbol
        .with_context(|| format!("{} has no symbol {name}", path.display()))?
        .address())
}

/// Returns a path as one word of gdb's syntax.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
