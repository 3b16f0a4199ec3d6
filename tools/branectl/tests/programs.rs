//! The programs as processes: exit status, choice of output, completions, man pages. No system runs here.

use std::process::{Command, Output, Stdio};

const BRANECTL: &str = env!("CARGO_BIN_EXE_branectl");
const NICCTL: &str = env!("CARGO_BIN_EXE_nicctl");

fn run(program: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(arguments)
        .env("BRANES_CONTROL", "/nonexistent/branectl.sock")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn what_is_not_understood_ends_with_2_and_an_error() {
    for (arguments, error) in [
        (&["creat", "red"][..], "no verb \"creat\": did you mean create?\n"),
        (&["show"], "missing BRANE: usage: show BRANE [-j]\n"),
        (&["--socket"], "missing PATH after --socket: name the socket\n"),
        (
            &["enter", "red"],
            "enter is for the console: write in red COMMAND\n",
        ),
        (
            &["completions", "tcsh"],
            "no completions for \"tcsh\": there are bash, zsh and fish\n",
        ),
    ] {
        let (status, out, err) = run(BRANECTL, arguments);
        assert_eq!((status, out.as_str(), err.as_str()), (Some(2), "", error));
    }
    assert_eq!(
        run(NICCTL, &["audit"]).2,
        "no verb \"audit\": write branectl audit\n"
    );
}

#[test]
fn without_a_system_a_command_ends_with_1_and_names_the_socket() {
    let (status, out, err) = run(BRANECTL, &["list", "-j"]);
    assert_eq!((status, out.as_str()), (Some(1), ""));
    assert!(err.contains("/nonexistent/branectl.sock"), "{err}");
    let (status, _, err) = run(BRANECTL, &["list", "--socket=/nonexistent/other"]);
    assert!(status == Some(1) && err.contains("/nonexistent/other"), "{err}");
    // The message names the control line of another configuration.
    let folder = tempfile::tempdir().unwrap();
    let runs = |name: &str| folder.path().join(name).join("branectl.sock");
    std::fs::create_dir(folder.path().join("life")).unwrap();
    let socket = format!("--socket={}", runs("default").display());
    let (_, _, err) = run(BRANECTL, &["list", &socket]);
    assert!(err.contains("cargo xtask run"), "{err}");
    let _listener = std::os::unix::net::UnixListener::bind(runs("life")).unwrap();
    let (status, _, err) = run(BRANECTL, &["list", &socket]);
    let other = format!("there is --socket {}\n", runs("life").display());
    assert!(status == Some(1) && err.ends_with(&other), "{err}");
    assert_eq!(
        run(BRANECTL, &["names", "show", ""]),
        (Some(1), String::new(), String::new())
    );
}

#[test]
fn help_needs_no_system() {
    for arguments in [&["help"][..], &[], &["--help"]] {
        let (status, out, _) = run(BRANECTL, arguments);
        assert!(status == Some(0) && out.contains("\nassign "), "{out}");
    }
    let (status, out, _) = run(NICCTL, &["--help"]);
    assert!(
        status == Some(0) && out.starts_with("usage: nicctl ") && out.contains("completions bash"),
        "{out}"
    );
    for program in [BRANECTL, NICCTL] {
        let (status, out, _) = run(program, &["--version"]);
        assert!(
            status == Some(0) && out.contains(env!("CARGO_PKG_VERSION")),
            "{out}"
        );
    }
    for arguments in [
        &["limit", "--help"][..],
        &["help", "limit"],
        &["branectl", "limit", "-h"],
    ] {
        let (status, out, _) = run(BRANECTL, arguments);
        assert!(status == Some(0) && out.contains("--allow PREFIX"), "{out}");
    }
    assert!(
        run(BRANECTL, &["in", "red", "ping", "--help"])
            .1
            .contains("send echo requests")
    );
    assert!(run(NICCTL, &["create", "--help"]).1.contains("--tag TAG"));
}

#[test]
fn apply_reads_the_file_first_and_never_waits_for_an_absent_user() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "[[brane]]\nname = \"Main\"\nprimary = true\n").unwrap();
    let name = file.to_str().unwrap();
    let (status, _, err) = run(BRANECTL, &["apply", name, "--yes"]);
    assert_eq!(status, Some(2));
    assert!(
        err.contains("x.toml:2:8: brane.name: `Main` is not a name"),
        "{err}"
    );
    std::fs::write(&file, "[[brane]]\nname = \"main\"\nprimary = true\n").unwrap();
    let (status, _, err) = run(BRANECTL, &["apply", name]);
    assert_eq!(status, Some(2));
    assert!(err.starts_with("there is no terminal to ask"), "{err}");
    assert_eq!(
        run(BRANECTL, &["apply", name, "-n"]).0,
        Some(1),
        "no system to compare with"
    );
}

#[test]
fn a_file_of_rules_is_read_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.rules");
    let name = file.to_str().unwrap();
    let replace = |name: &str| run(BRANECTL, &["filter", "red", "replace", name]);
    let (status, out, err) = replace(name);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(err.starts_with(name) && err.contains("name a file"), "{err}");
    std::fs::write(
        &file,
        "# web\npass in proto tcp to port 80\n  drop in proto tpc # all\ndorp\n",
    )
    .unwrap();
    let (status, _, err) = replace(name);
    assert_eq!(status, Some(2));
    let lines: Vec<&str> = err.lines().collect();
    let [first, text, mark, second, "  dorp", "  ^"] = lines[..] else {
        panic!("{err}")
    };
    assert!(
        first.starts_with(&format!("{name}:3:17: `tpc` is no protocol")),
        "{err}"
    );
    assert_eq!((text, mark), ("    drop in proto tpc", "                  ^"));
    assert!(
        second.starts_with(&format!("{name}:4:1: `dorp` is no action")),
        "{err}"
    );
    // A correct file goes to the system, which is not there.
    std::fs::write(&file, "pass in proto tcp to port 80\ndrop in\n").unwrap();
    let (status, _, err) = replace(name);
    assert!(status == Some(1) && err.contains("no system answers"), "{err}");
    // Standard input is empty here.
    let (status, _, err) = replace("-");
    assert_eq!(status, Some(2));
    assert_eq!(
        err,
        "standard input has no rules: `filter BRANE flush` deletes all rules\n"
    );
    let (status, _, err) = run(BRANECTL, &["in", "red", "filter", "add", "drop", "on"]);
    assert_eq!(status, Some(2));
    assert!(err.ends_with("\n  drop on\n         ^\n"), "{err}");
}

#[test]
fn completions_are_scripts_that_their_shells_read() {
    for (program, name) in [(BRANECTL, "branectl"), (NICCTL, "nicctl")] {
        for shell in ["bash", "zsh", "fish"] {
            let (status, script, _) = run(program, &["completions", shell]);
            assert_eq!(status, Some(0));
            assert!(
                script.contains(&format!("{name} names")),
                "no names that exist in {shell}'s"
            );
            assert!(script.contains("rename"), "{shell}");
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("script");
            std::fs::write(&file, &script).unwrap();
            match Command::new(shell).arg("-n").arg(&file).output() {
                Ok(read) => assert!(
                    read.status.success(),
                    "{shell}: {}",
                    String::from_utf8_lossy(&read.stderr)
                ),
                Err(_) => eprintln!("SKIPPED: {shell} is not installed"),
            }
        }
    }
}

#[test]
fn bash_offers_words_and_names() {
    let folder = tempfile::tempdir().unwrap();
    // The names of a system, in the form of the hidden command.
    let script = format!(
        "branectl() {{ echo red; echo blue; }}\nsource <('{BRANECTL}' completions bash)\nCOMP_WORDS=(branectl show r)\nCOMP_CWORD=2\n\
         _branectl_names branectl r show\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\nCOMP_WORDS=(branectl sho)\nCOMP_CWORD=1\n\
         _branectl_names branectl sho branectl\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    );
    let file = folder.path().join("try");
    std::fs::write(&file, script).unwrap();
    let Ok(done) = Command::new("bash").arg(&file).output() else {
        eprintln!("SKIPPED: bash is not installed");
        return;
    };
    let out = String::from_utf8_lossy(&done.stdout);
    let words: Vec<&str> = out.lines().collect();
    assert!(
        words.contains(&"red") && words.contains(&"show") && !words.contains(&"blue"),
        "{out}\n{:?}",
        done.stderr
    );
}

#[test]
fn each_verb_is_in_the_man_page() {
    let (status, page, _) = run(BRANECTL, &["man"]);
    assert_eq!(status, Some(0));
    assert!(page.contains(".TH branectl"), "{page}");
    for verb in ["ASSIGN", "LIMIT", "APPLY", "SAVE"] {
        assert!(page.contains(&format!("\n.SH {verb}\n")), "{verb}");
    }
    assert!(run(NICCTL, &["man"]).1.contains("\n.SH CREATE\n"));
}
