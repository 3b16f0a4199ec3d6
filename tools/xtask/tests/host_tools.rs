//! Missing or wrong host tools. Each is refused in one line with the package to install, before anything is
//! built.

mod common;

use common::{Programs, Said, free_ports, listing, run, xtask, xtask_as_user};

/// Programs that the kernel's build and QEMU's start need, without those that the tests omit.
const PRESENT: &[&str] = &["gcc", "make", "ld", "objcopy", "python3"];

/// Runs `run` on a system that has only these programs.
fn run_with(programs: &Programs, root_allowed: bool) -> Said {
    let base = free_ports().to_string();
    let args = ["run", "--port-base", base.as_str()];
    let mut command = if root_allowed {
        xtask(&args)
    } else {
        xtask_as_user(&args)
    };
    command.env("PATH", programs.folder());
    run(command)
}

#[test]
fn a_user_gets_the_exact_command() {
    let programs = Programs::new()
        .with(PRESENT)
        .with_script("apt-get", ": > \"${0%/*}/called\"");
    assert_eq!(
        run_with(&programs, false).refusal(),
        "missing: xmllint, qemu-system-x86_64. Type: sudo apt-get install -y libxml2-utils qemu-system-x86"
    );
    assert!(
        !listing(programs.folder()).contains(&"called".to_owned()),
        "apt-get was called for a user who may not install"
    );
}

#[test]
fn without_apt_get_the_packages_are_named() {
    let programs = Programs::new().with(PRESENT);
    assert_eq!(
        run_with(&programs, true).refusal(),
        "missing: xmllint, qemu-system-x86_64. Install the programs that have it; the Debian packages are: libxml2-utils qemu-system-x86"
    );
}

#[test]
fn an_image_needs_no_qemu_and_leaves_nothing_when_a_tool_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let programs = Programs::new().with(PRESENT).with(&["xmllint"]);
    std::fs::remove_file(programs.folder().join("objcopy")).unwrap();
    let mut command = xtask_as_user(&["image", "--out", out.to_str().unwrap()]);
    command.env("PATH", programs.folder());
    run(command).refuses(&["missing: objcopy. ", "binutils"]);
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn root_is_told_when_apt_get_fails() {
    let programs = Programs::new().with(PRESENT).with_script("apt-get", "exit 100");
    // Depends on the user of the test: a user gets the command, root gets the thing to try.
    let said = run_with(&programs, true);
    let last = said.err.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("error: missing: xmllint, qemu-system-x86_64. ")
            && last.ends_with("apt-get install -y libxml2-utils qemu-system-x86"),
        "{said:?}"
    );
    assert_eq!(said.code, Some(1));
}

/// Runs `run` with another QEMU first on the PATH.
fn run_with_qemu(script: &str) -> (Programs, Said) {
    let programs = Programs::new().with_script("qemu-system-x86_64", script);
    let base = free_ports().to_string();
    let mut command = xtask(&["run", "--port-base", &base]);
    command.env("PATH", programs.first());
    let said = run(command);
    (programs, said)
}

#[test]
fn an_old_qemu_is_refused_by_its_version() {
    let (programs, said) = run_with_qemu("echo 'QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2)'");
    let program = programs.folder().join("qemu-system-x86_64");
    said.refuses(&[
        program.to_str().unwrap(),
        "`QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2)` is too old",
        "version 7.2 or newer is needed",
        "qemu-system-x86",
    ]);
}

#[test]
fn what_only_has_qemus_name_is_refused() {
    for script in [
        "echo hello; echo world",
        "exit 1",
        "printf '\\033[2J\\000\\377\\n'",
        "yes version | head -c 100000 | tr -d '\\n'",
    ] {
        let (_programs, said) = run_with_qemu(script);
        said.refuses(&["it prints no version of QEMU", "version 7.2 or newer is needed"]);
        assert!(said.err.len() < 500, "{}", said.err);
        assert!(!said.err.trim_end().contains(char::is_control), "{:?}", said.err);
    }
}

#[test]
fn what_cannot_be_started_is_named() {
    let programs = Programs::new().with_script("qemu-system-x86_64", "");
    std::fs::write(programs.folder().join("qemu-system-x86_64"), "no program at all").unwrap();
    let base = free_ports().to_string();
    let mut command = xtask(&["run", "--port-base", &base]);
    command.env("PATH", programs.first());
    run(command).refuses(&["cannot start qemu-system-x86_64: "]);
}
