//! Common parts of the tests of refusals: the real `xtask`, started as a process with bounded time, and its
//! output.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Maximum duration of a refusal. Nothing is built before it, so this is generous.
const PATIENCE: Duration = Duration::from_secs(60);

/// Result of a run of `xtask`.
#[derive(Debug)]
pub struct Said {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Returns the message of a refusal. Fails unless the message is one line, nothing else was printed, and
    /// the exit code is not zero.
    pub fn refusal(&self) -> &str {
        assert!(self.code.is_some_and(|code| code != 0), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err
            .trim_end()
            .strip_prefix("error: ")
            .unwrap_or_else(|| panic!("no error: {}", self.err))
    }

    /// Fails unless the refusal contains all of these texts.
    pub fn refuses(&self, wanted: &[&str]) {
        let message = self.refusal();
        for text in wanted {
            assert!(message.contains(text), "no `{text}` in: {message}");
        }
    }
}

/// Returns a command for the program under test.
pub fn xtask(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    prepare(&mut command, args);
    command
}

/// Returns a command for the program under test as a user who is not root. If this test is root, the program
/// runs in a user namespace with another user id.
pub fn xtask_as_user(args: &[&str]) -> Command {
    if fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return xtask(args);
    }
    let mut command = Command::new(found("unshare").expect("unshare (Debian package util-linux)"));
    command.args(["--user", "--map-user=1000", env!("CARGO_BIN_EXE_xtask")]);
    prepare(&mut command, args);
    command
}

fn prepare(command: &mut Command, args: &[&str]) {
    command.args(args);
    // The tests change the PATH, which may then lack cargo.
    command.env(
        "CARGO",
        env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()),
    );
}

/// Runs a command to its end.
pub fn run(mut command: Command) -> Said {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = |name: &str| File::create(folder.path().join(name)).expect("a file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stream("out"))
        .stderr(stream("err"))
        .spawn()
        .expect("starting xtask");
    let text = |name: &str| {
        let mut bytes = Vec::new();
        let mut file = File::open(folder.path().join(name)).expect("the file");
        file.read_to_end(&mut bytes).expect("reading it");
        String::from_utf8(bytes).expect("text")
    };
    let end = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait().expect("waiting for xtask") {
            break status.code();
        }
        if Instant::now() > end {
            // `xtask` may have started a program that it should have refused to start. SIGTERM ends that
            // program too.
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            let _ = child.wait();
            panic!("xtask has not ended:\n{}\n{}", text("out"), text("err"));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Said {
        code,
        out: text("out"),
        err: text("err"),
    }
}

/// Returns the path of a program of this host.
pub fn found(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A folder with programs, for use as the PATH or as its first folder.
pub struct Programs(tempfile::TempDir);

impl Programs {
    pub fn new() -> Programs {
        Programs(tempfile::tempdir().expect("a folder"))
    }

    /// Adds the host's own programs of these names, if the host has them.
    pub fn with(self, names: &[&str]) -> Programs {
        for name in names {
            if let Some(program) = found(name) {
                symlink(program, self.0.path().join(name)).expect("a link");
            }
        }
        self
    }

    /// Adds a shell script.
    pub fn with_script(self, name: &str, text: &str) -> Programs {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writing a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("making it a program");
        self
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Returns a PATH with this folder before all folders of the host.
    pub fn first(&self) -> std::ffi::OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [self.0.path().to_owned()]
            .into_iter()
            .chain(env::split_paths(&path));
        env::join_paths(folders).expect("a PATH")
    }
}

/// Returns a port of loopback that is free at the moment, together with the two ports behind it.
pub fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let port = free(0).and_then(|any| any.local_addr()).expect("a port").port();
        if port < u16::MAX - 2 && (port..port + 3).all(|port| free(port).is_ok()) {
            return port;
        }
    }
    panic!("no three free ports in a row");
}

/// A copy of the files that describe the workspace's systems, without any crate. `xtask` accepts it as the
/// workspace.
pub struct Skeleton(tempfile::TempDir);

impl Skeleton {
    /// Creates a skeleton with the real `system.xml`, and a `configs.toml` whose only system boots `boot.toml`.
    pub fn new() -> Skeleton {
        let skeleton = Skeleton(tempfile::tempdir().expect("a folder"));
        skeleton.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = []\n");
        skeleton.write("system.xml", original("system.xml"));
        skeleton.write(
            "configs.toml",
            "[default]\nabout = \"three\"\ninstances = 3\nboot = \"boot.toml\"\n",
        );
        skeleton
    }

    /// Writes a file of the skeleton.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("writing a file");
    }

    /// Returns the path of a file of the skeleton.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.path().join(name.as_ref())
    }

    /// Returns a command for the program on this skeleton.
    pub fn xtask(&self, args: &[&str]) -> Command {
        let mut command = xtask(args);
        command.env("CARGO_MANIFEST_DIR", self.0.path());
        command
    }
}

/// Returns the text of a file of the real workspace.
pub fn original(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    fs::read_to_string(path).expect("a file of the workspace")
}

/// Returns the names in a folder.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}
