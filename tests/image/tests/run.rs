//! `cargo xtask run`, `image`, `gdb` and `release` as processes, with a real image: without a terminal, on a
//! tap device, with too little memory, and with no room for the output.

use anyhow::{Context, Result, bail, ensure};
use image_tests::guest::PROMPT;
use image_tests::netns::{NetNs, TAP};
use image_tests::ping::Pinger;
use image_tests::probe;
use image_tests::{BRANES, PATIENCE, until_well};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Time limit for the check of built files and for booting.
const START: Duration = Duration::from_secs(300);
/// Time limit for the end. QEMU has 3 s before it is killed.
const END: Duration = PATIENCE;
const POLL: Duration = Duration::from_millis(20);

/// Returns the program with the environment of a user's shell, without the variables of cargo and its test
/// runner.
fn xtask(args: &[&str]) -> Command {
    let program = std::env::var_os("BRANES_XTASK").map(PathBuf::from);
    let program =
        program.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/xtask").into());
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        // CARGO_INCREMENTAL decides whether cargo compiles again what the tests before this one have built.
        let kept = [
            "CARGO",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "CARGO_INCREMENTAL",
        ];
        let kept = kept.contains(&name.as_str());
        if !kept && (name.starts_with("CARGO") || name.starts_with("NEXTEST")) {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// A started `xtask`, with its output in files. Dropping the value ends it.
struct Started {
    child: Child,
    folder: tempfile::TempDir,
}

impl Started {
    fn new(command: &mut Command) -> Result<Started> {
        let folder = tempfile::tempdir()?;
        let stream = |name: &str| File::create(folder.path().join(name));
        let child = command
            .stdin(Stdio::null())
            .stdout(stream("out")?)
            .stderr(stream("err")?)
            .spawn()
            .context("starting xtask; run the tests by `cargo xtask test`")?;
        Ok(Started { child, folder })
    }

    fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn out(&self) -> String {
        self.text("out")
    }

    fn err(&self) -> String {
        self.text("err")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn until_shown(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + START;
        while !self.out().contains(text) {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}):\n{}\n{}", self.out(), self.err());
            }
            ensure!(
                Instant::now() < end,
                "`{text}` was not shown:\n{}\n{}",
                self.out(),
                self.err()
            );
            sleep(POLL);
        }
        Ok(())
    }

    fn until_ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "it has not ended:\n{}\n{}",
                self.out(),
                self.err()
            );
            sleep(POLL);
        }
    }

    /// Returns the QEMU that it started.
    fn qemu(&self) -> Result<Process> {
        let found = Process::all()?
            .into_iter()
            .find(|process| process.parent == self.pid().as_raw() && process.name.starts_with("qemu-system"));
        found.context("no QEMU was started by xtask itself")
    }

    /// Sends a signal. Fails unless the program and its QEMU end correctly.
    fn end_by(&mut self, signal: Signal) -> Result<()> {
        let qemu = self.qemu()?;
        ensure!(qemu.lives(), "QEMU has ended already");
        kill(self.pid(), signal)?;
        let status = self.until_ended(END)?;
        ensure!(status.success(), "{signal}: it ended ({status}):\n{}", self.err());
        ensure!(!qemu.lives(), "{signal}: QEMU was left behind");
        Ok(())
    }

    /// Returns the single line with the reason for the refusal. Lines about earlier steps precede it.
    fn refusal(&mut self) -> Result<String> {
        let status = self.until_ended(START)?;
        let err = self.err();
        ensure!(status.code() == Some(1), "it ended ({status}):\n{err}");
        let at = err
            .lines()
            .position(|line| line.starts_with("error: "))
            .with_context(|| format!("no error:\n{err}"))?;
        let lines: Vec<&str> = err.lines().skip(at).collect();
        ensure!(lines.len() == 1, "more than one line:\n{err}");
        Ok(lines[0].to_owned())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The signal lets it end its QEMU.
        let _ = kill(self.pid(), Signal::SIGTERM);
        if self.until_ended(END).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process, as it was when it was found.
struct Process {
    pid: i32,
    name: String,
    parent: i32,
    /// Its start time, which distinguishes it from a later process with the same number.
    start: String,
}

impl Process {
    fn all() -> Result<Vec<Process>> {
        let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(Process::find).collect())
    }

    /// Parses `/proc/PID/stat`: `pid (name) state parent ...`. The start time is field 22.
    fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Process {
            pid,
            name: head.split_once(" (")?.1.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            start: (*fields.get(19)?).to_owned(),
        })
    }

    fn lives(&self) -> bool {
        Process::find(self.pid).is_some_and(|now| now.start == self.start)
    }
}

/// Returns a loopback port that is free at the moment, together with the next two.
fn free_ports() -> Result<u16> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let port = free(0)?.local_addr()?.port();
        if port < u16::MAX - 2 && (port..port + 3).all(|port| free(port).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no three free ports in a row")
}

/// Requests a brane's page. QEMU's network may be asked before the brane is up.
fn until_page(at: SocketAddr, brane: &str) -> Result<()> {
    until_well(|| probe::page(at, &[brane]))
}

#[test]
fn without_a_terminal_it_logs_to_standard_output_and_ends_by_a_signal() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let base = free_ports()?;
        let mut run = Started::new(&mut xtask(&["run", "--port-base", &base.to_string()]))?;
        run.until_shown(PROMPT)?;
        // Once is enough: QEMU's network takes seconds to find a brane that was not up at the first request.
        let asked = if signal == Signal::SIGTERM {
            &BRANES[..]
        } else {
            &[]
        };
        for (i, brane) in asked.iter().enumerate() {
            let port = base + i as u16;
            let said = format!("==> brane {}: http://127.0.0.1:{port}/", brane.name);
            ensure!(run.err().contains(&said), "no `{said}` in:\n{}", run.err());
            until_page(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), brane.name)?;
        }
        run.end_by(signal)?;
        ensure!(!run.out().contains("==>"), "standard output is for the console");
    }
    Ok(())
}

#[test]
fn on_a_tap_device_the_branes_answer_and_others_are_refused() -> Result<()> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let start = |tap: &str| ns.enter(|| Started::new(&mut xtask(&["run", "--tap", tap])));
    let mut run = start(TAP)?;
    run.until_shown(PROMPT)?;
    ns.enter(|| -> Result<()> {
        for brane in BRANES {
            for ip in [brane.v4.into(), brane.v6.into()] {
                let answer = Pinger::new(ip)?.until_answer(PATIENCE)?;
                answer.with_context(|| format!("{} does not answer at {ip}", brane.name))?;
                probe::page(SocketAddr::new(ip, 80), &[brane.name])?;
            }
            let said = format!("==> brane {}: http://{}/", brane.name, brane.v4);
            ensure!(run.err().contains(&said), "no `{said}` in:\n{}", run.err());
        }
        Ok(())
    })?;
    let side = "ip addr add 10.0.2.2/24 dev tap0 && ip addr add fec0::2/64 dev tap0";
    ensure!(run.err().contains(side), "no `{side}` in:\n{}", run.err());

    let second = start(TAP)?.refusal()?;
    ensure!(second.contains("tap0 is in use by another program"), "{second}");
    run.end_by(Signal::SIGTERM)?;

    ns.ip(&["link", "set", "dev", TAP, "down"])?;
    let down = start(TAP)?.refusal()?;
    ensure!(
        down.contains("tap0 is down") && down.contains("ip link set dev tap0 up"),
        "{down}"
    );
    ns.ip(&["tuntap", "add", "dev", "tun0", "mode", "tun"])?;
    let other = start("tun0")?.refusal()?;
    ensure!(other.contains("tun0 is no tap device"), "{other}");
    Ok(())
}

#[test]
fn too_little_memory_is_refused_with_what_is_enough() -> Result<()> {
    let base = free_ports()?.to_string();
    let start = |memory: &str| Started::new(&mut xtask(&["run", "--port-base", &base, "--memory", memory]));
    let line = start("8M")?.refusal()?;
    let wanted = "error: --memory 8M is too little, write --memory ";
    let enough = line
        .strip_prefix(wanted)
        .and_then(|rest| rest.split_once(" or more: "));
    let (enough, _) = enough.with_context(|| line.clone())?;
    let mib: u64 = enough.trim_end_matches('M').parse()?;
    ensure!(
        line.contains(&format!("image needs {mib} MiB, machine has 8 MiB")),
        "{line}"
    );
    // The minimum that it names is exact, and is enough.
    let line = start(&format!("{}M", mib - 1))?.refusal()?;
    ensure!(
        line.contains(&format!("write --memory {enough} or more")),
        "{line}"
    );
    let mut run = start(enough)?;
    run.until_shown(PROMPT)?;
    run.end_by(Signal::SIGTERM)
}

/// Writes the image to a folder of a file system of this size. Returns the program, and the files in that
/// folder with the first word of each.
fn image_into(size: &str, old: bool) -> Result<(Started, Vec<String>)> {
    // The file system is in a mount namespace of its own, so it must be examined from inside, before it is
    // removed.
    let script = r#"
        mount -t tmpfs -o size="$1" none "$2" && mkdir "$2/out" || exit 9
        if [ -n "$3" ]; then echo old > "$2/out/sel4_32.elf"; echo old > "$2/out/loader.img"; fi
        "$4" image --out "$2/out"
        code=$?
        for file in "$2"/out/.[!.]* "$2"/out/*; do
            [ -e "$file" ] && echo "found ${file##*/} $(head -c 3 "$file" | tr -cd a-z)"
        done
        exit $code"#;
    let mount = tempfile::tempdir()?;
    let program = xtask(&[]);
    let mut command = Command::new("unshare");
    for (name, value) in program.get_envs() {
        if value.is_none() {
            command.env_remove(name);
        }
    }
    command.args(["--mount", "sh", "-c", script, "sh", size]);
    command.arg(mount.path()).arg(if old { "old" } else { "" });
    command.arg(program.get_program());
    let mut run = Started::new(&mut command)?;
    run.until_ended(START)?;
    let found = run.out();
    let found = found.lines().filter_map(|line| line.strip_prefix("found "));
    let found = found.map(|line| line.trim_end().to_owned()).collect();
    Ok((run, found))
}

#[test]
fn on_a_full_disk_both_files_are_written_or_none() -> Result<()> {
    // The file system has room for the kernel, but not for the image.
    for (old, left) in [(false, &[][..]), (true, &["loader.img old", "sel4_32.elf old"])] {
        let (mut run, found) = image_into("1m", old)?;
        let line = run.refusal()?;
        ensure!(
            line.contains("nothing is written to") && line.contains("No space left on device"),
            "{line}"
        );
        ensure!(found == left, "{found:?}");
    }
    let (mut run, found) = image_into("100m", true)?;
    ensure!(run.until_ended(END)?.success(), "{}", run.err());
    let new = found.iter().all(|file| !file.ends_with(" old"));
    ensure!(found.len() == 2 && new, "{found:?}");
    Ok(())
}

/// Checks that the folder in the program's output contains the two files, and that they boot.
#[test]
fn an_image_is_written_where_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("new/folder");
    let mut run = Started::new(&mut xtask(&["image", "--out", &out.display().to_string()]))?;
    ensure!(run.until_ended(START)?.success(), "{}", run.err());
    let said: Vec<PathBuf> = run.out().lines().map(PathBuf::from).collect();
    ensure!(
        said == [out.join("sel4_32.elf"), out.join("loader.img")],
        "{said:?}"
    );
    ensure!(fs::read_dir(&out)?.count() == 2, "the folder has other files too");
    Ok(())
}

/// Checks that `cargo xtask gdb` stops the domain in its argument and no other domain with that program. It
/// must show function and line.
#[test]
fn gdb_stops_one_domain_at_a_function() -> Result<()> {
    let base = free_ports()?.to_string();
    // A line of the program that only branes run.
    let source = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../net-server/src/main.rs"
    ))?;
    let line = source.lines().position(|line| line.contains("match turn.fail"));
    let inside = format!(
        "pd-break net-server/src/main.rs:{}",
        line.context("no such line")? + 1
    );
    let commands = [
        "pd-break __sel4_microkit_main",
        "continue",
        "pd-current",
        &inside,
        "continue",
        "pd-break __sel4_microkit_main in timer",
        "info breakpoints",
        "pd-break net_server::Shell::work in red",
        "backtrace",
    ];
    let mut arguments = vec!["gdb", "red", "--port-base", &base, "--", "-batch"];
    arguments.extend(commands.iter().flat_map(|command| ["-ex", command]));
    let mut run = Started::new(&mut xtask(&arguments))?;
    let status = run.until_ended(START)?;
    let (out, err) = (run.out(), run.err());
    ensure!(status.success(), "it ended ({status}):\n{out}\n{err}");
    // The domain of main has the same program, and runs first.
    ensure!(out.lines().any(|line| line == "brane-1"), "{out}\n{err}");
    ensure!(
        out.contains("__sel4_microkit_main") && out.contains("net-server/src/main.rs:"),
        "{out}\n{err}"
    );
    ensure!(out.contains("stop only if $in_pd(\"timer\")"), "{out}\n{err}");
    // An unknown name is an error when the breakpoint is set, not when it is reached.
    ensure!(err.contains("no protection domain is called red"), "{out}\n{err}");
    let forwards = format!("127.0.0.1:{base}-");
    let left = Process::all()?.into_iter().find(|process| {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&forwards)
    });
    ensure!(left.is_none(), "QEMU was left behind");
    Ok(())
}

/// Checks that equal sources in two folders give equal bytes, so that anybody can verify a release. The debug
/// flavour shares its first build with the other tests. The second build is a full one.
#[test]
fn the_same_sources_in_another_folder_give_the_same_image() -> Result<()> {
    let mut run = Started::new(&mut xtask(&["release", "--check", "--debug"]))?;
    let status = run.until_ended(3 * START)?;
    let (out, err) = (run.out(), run.err());
    ensure!(status.success(), "it ended ({status}):\n{out}\n{err}");
    for name in ["debug-sel4_32.elf", "debug-loader.img"] {
        let line = out.lines().find(|line| line.ends_with(&format!("  {name}")));
        let line = line.with_context(|| format!("no checksum of {name}:\n{out}"))?;
        ensure!(line.len() == 64 + 2 + name.len(), "{line}");
    }
    Ok(())
}
