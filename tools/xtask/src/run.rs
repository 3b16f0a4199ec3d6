//! The verb `run`: builds the image and boots it, with the console on the terminal or on standard output.
//!
//! On the other side: the person at the keyboard, and QEMU.

use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use branes_image::Report;
use branes_image::backtrace::Annotator;
use branes_qemu::{Filter, Machine, Net, Serial, host};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::RunOptions;
use crate::image;
use crate::network::{further_user_network, user_network};
use crate::progress;
use crate::workspace::Workspace;

/// Default RAM in MiB.
const USUAL_MEMORY: u64 = 256;
/// Interval at which signals and QEMU are polled.
pub const POLL: Duration = Duration::from_millis(50);

pub fn run(workspace: &Workspace, options: &RunOptions) -> Result<()> {
    let target = options.build.target()?;
    let resolved = image::resolve(workspace, &options.build.config, target.iommu)?;
    let user = user_network(&resolved.boot, options.port_base);
    // Finds obstacles to the start of QEMU before anything is installed or built, because that takes longer.
    let mut machine = Machine::new("", "");
    machine.iommu = target.iommu;
    machine.net = match &options.tap {
        Some(name) => Net::Tap(name.clone()),
        None => user.net.clone(),
    };
    machine.more_nets = (1..resolved.config.entry.nics)
        .map(further_user_network)
        .collect();
    let control = control(workspace, options)?;
    connect(&mut machine, &control, options.uart_line);
    machine.check()?;
    target.check()?;
    host::ensure(&[host::BUILD, host::RUN], &mut progress)?;
    host::check_qemu_version()?;

    let built = image::build(workspace, resolved, target)?;
    machine.memory_mib = memory(options.memory, &built.report)?;
    machine.kernel = built.kernel;
    machine.image = built.image;
    machine.console = console();

    for page in &user.pages {
        progress(&match options.tap {
            Some(_) => format!("brane {}: http://{}/", page.brane, page.address),
            None => format!("brane {}: http://127.0.0.1:{}/", page.brane, page.port),
        });
    }
    if let Some(tap) = &options.tap {
        progress(&format!("network on {tap}; {}", user.host_side(tap)));
    }
    progress(&format!(
        "control line: cargo run --package branes-branectl --bin branectl -- --socket {} list",
        control.display()
    ));
    progress(match machine.console == Serial::Terminal {
        true => "booting; Ctrl-A x ends QEMU, Ctrl-A h shows what else there is",
        false => "booting; SIGTERM ends QEMU",
    });
    let folder = machine.image.parent().unwrap_or(Path::new("."));
    let mut annotator = Annotator::for_image(folder)?;
    attend(&machine, Box::new(move |bytes| annotator.annotate(bytes)))
}

/// Returns the path for the socket of the control line.
fn control(workspace: &Workspace, options: &RunOptions) -> Result<PathBuf> {
    if let Some(path) = &options.control {
        return Ok(path.clone());
    }
    socket(workspace, &options.build.config, "branectl.sock")
}

/// Connects the control line to a socket: over the virtio-console device, or over COM2.
pub fn connect(machine: &mut Machine, socket: &Path, uart: bool) {
    let line = Some(Serial::Unix(socket.to_owned()));
    match uart {
        true => machine.second_serial = line,
        false => machine.line = line,
    }
}

/// Returns the RAM of the machine in MiB: the wanted size, or the default if none is wanted. Fails if the image
/// needs more.
pub fn memory(wanted: Option<u64>, report: &Report) -> Result<u64> {
    let needed = report.needed_mib();
    let mib = wanted.unwrap_or(USUAL_MEMORY.max(needed.next_multiple_of(USUAL_MEMORY)));
    report
        .check_memory(mib)
        .with_context(|| format!("--memory {mib}M is too little, write --memory {needed}M or more"))?;
    Ok(mib)
}

/// Returns the place of the console: the terminal, or standard output.
pub fn console() -> Serial {
    match (stdin().is_terminal(), stdout().is_terminal()) {
        (true, true) => Serial::Terminal,
        (true, false) => Serial::Stdout,
        (false, _) => Serial::Stdio,
    }
}

/// Returns the path of a socket in the folder of a configuration's runs. Creates the folder.
pub fn socket(workspace: &Workspace, config: &str, name: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("run").join(config);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(name);
    // The path from the current folder is shorter, and the path of a socket is bounded.
    let here = env::current_dir().ok();
    let shorter = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    Ok(shorter.unwrap_or(path))
}

/// Starts QEMU and waits until it ends. Ends QEMU when a signal asks this process to end.
pub fn attend(machine: &Machine, filter: Filter) -> Result<()> {
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, told_to_end.clone()).context("watching for signals")?;
    }
    let mut qemu = machine.start_through(Some(filter))?;
    loop {
        if let Some(status) = qemu.try_wait()? {
            if status.success() || told_to_end.load(Ordering::Relaxed) {
                return Ok(());
            }
            bail!("QEMU ended ({status}); what it said is above");
        }
        if told_to_end.load(Ordering::Relaxed) {
            qemu.end()?;
            return Ok(());
        }
        thread::sleep(POLL);
    }
}
