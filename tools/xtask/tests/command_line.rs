//! Wrong command lines. `xtask` rejects each in one line, before anything is installed or built.

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use common::{Skeleton, free_ports, listing, original, run, xtask, xtask_as_user};

#[test]
fn unknown_words_are_named_with_what_there_is() {
    run(xtask(&["imag"])).refuses(&[
        "unrecognized subcommand 'imag'",
        "a similar subcommand exists: 'image'",
        "run, gdb, test, check, doc, image, release, audit, mutants, bench, sizes",
        "cargo xtask help",
    ]);
    run(xtask(&["run", "--nonsense"]))
        .refuses(&["unexpected argument '--nonsense'", "usage: cargo xtask run"]);
    run(xtask(&["run", "--confg", "x"])).refuses(&["'--confg'", "a similar argument exists: '--config'"]);
    run(xtask(&["run", "extra"])).refuses(&["unexpected argument 'extra'"]);
    run(xtask(&["image"])).refuses(&["required arguments were not provided: --out <DIR>"]);
}

#[test]
fn a_crate_without_mutants_is_answered_with_those_that_have_some() {
    run(xtask(&["mutants", "qemu"])).refuses(&["'qemu'", "abi, nic, net-server, manager"]);
    run(xtask(&["mutants", "--count", "0"])).refuses(&["'0'", "--count <N>"]);
    run(xtask(&["mutants", "--all", "--again"])).refuses(&["cannot be used with", "--again"]);
}

#[test]
fn an_unknown_configuration_is_answered_with_the_known_ones() {
    let known = "bench, default, dhcp, dma-escape, filters, floods, four-nics, hooks, hostile-brane";
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    for args in [
        &["run", "--config", "nope"][..],
        &["sizes", "--config", "nope"],
        &["image", "--out", out, "--config", "nope"],
    ] {
        run(xtask(args)).refuses(&["no configuration is called `nope`", known]);
    }
    assert!(listing(folder.path()).is_empty());
}

#[test]
fn without_a_usable_sdk_one_line_says_what_was_looked_for_and_where_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    fs::create_dir(folder.path().join("old")).unwrap();
    fs::write(folder.path().join("old/VERSION"), "2.1.0\n").unwrap();
    let wanted = ["Microkit SDK 2.3", "seL4/microkit/releases", "MICROKIT_SDK"];
    for args in [
        &["run", "--kernel", "sdk"][..],
        &["test", "--kernel", "sdk"],
        &["sizes", "--kernel", "sdk"],
        &["image", "--kernel", "sdk", "--out", out],
    ] {
        let mut unset = xtask(args);
        unset.env_remove("MICROKIT_SDK");
        let said = run(unset);
        said.refuses(&["MICROKIT_SDK is not set"]);
        said.refuses(&wanted);
        let mut old = xtask(args);
        old.env("MICROKIT_SDK", folder.path().join("old"));
        let said = run(old);
        said.refuses(&["has version 2.1.0"]);
        said.refuses(&wanted);
    }
    assert_eq!(listing(folder.path()), ["old"], "nothing was written");
}

#[test]
fn numbers_that_are_none_are_refused_with_the_right_form() {
    for (size, why) in [
        ("lots", "such as 512M"),
        ("12K", "the unit `K` is unknown"),
        ("0", "such as 256M or 1G"),
        ("1.5G", "such as 256M or 1G"),
        ("99999999999999999999G", "such as 256M or 1G"),
    ] {
        run(xtask(&["run", "--memory", size])).refuses(&[size, "--memory <SIZE>", why]);
    }
    for port in ["0", "65536", "http"] {
        run(xtask(&["run", "--port-base", port])).refuses(&[port, "--port-base <N>"]);
    }
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let base = free_ports();
    let taken = TcpListener::bind(("127.0.0.1", base + 1)).unwrap();
    run(xtask(&["run", "--port-base", &base.to_string()])).refuses(&[
        &format!("TCP port {} of 127.0.0.1 is in use", base + 1),
        "stop what uses it, or choose others with --port-base",
    ]);
    drop(taken);
}

#[test]
fn a_control_line_that_cannot_be_is_refused_with_what_to_do() {
    let base = free_ports().to_string();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("branectl.sock");
    let refuses = |path: &std::path::Path, said: &[&str]| {
        run(xtask(&[
            "run",
            "--port-base",
            &base,
            "--control",
            path.to_str().unwrap(),
        ]))
        .refuses(said);
    };
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    refuses(&socket, &["branectl.sock is in use", "choose another path"]);
    drop(listener);
    refuses(&folder.path().join("none/x.sock"), &["there is no folder"]);
    refuses(
        &folder.path().join("x".repeat(200)),
        &["107", "choose a shorter one"],
    );
}

#[test]
fn a_device_that_is_no_tap_is_refused_with_how_to_make_one() {
    run(xtask(&["run", "--tap", "no-such-tap"])).refuses(&[
        "no network device no-such-tap",
        "ip tuntap add dev no-such-tap mode tap && ip link set dev no-such-tap up",
    ]);
    run(xtask(&["run", "--tap", "lo"])).refuses(&["lo is no tap device", "ip tuntap add dev"]);
    run(xtask(&["run", "--tap", "a-name-that-is-too-long"])).refuses(&["1 to 15 bytes"]);
    run(xtask(&["run", "--tap", "tap0", "--port-base", "9000"])).refuses(&["cannot be used with"]);
}

/// Runs `image --out` into a place of a skeleton, in which nothing can be built. So a refusal comes before the
/// build.
fn image_into(out: &str) -> common::Said {
    let skeleton = Skeleton::new();
    skeleton.write("boot.toml", original("brane-manager/branes.toml"));
    run(skeleton.xtask(&["image", "--out", out]))
}

#[test]
fn a_target_that_is_no_folder_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let name = file.to_str().unwrap();
    image_into(name).refuses(&[name, "is no folder: name one with --out"]);
    image_into(&format!("{name}/in/it")).refuses(&[name, "is no folder: name one with --out"]);
    image_into("/dev/null").refuses(&["/dev/null is no folder"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(listing(folder.path()), ["file"]);

    fs::create_dir(folder.path().join("loader.img")).unwrap();
    image_into(folder.path().to_str().unwrap()).refuses(&["loader.img is a folder, where a file is to be"]);
    assert_eq!(listing(folder.path()), ["file", "loader.img"]);
}

#[test]
fn a_target_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    for out in [folder.path().to_owned(), folder.path().join("a/b")] {
        let out = out.to_str().unwrap();
        run(xtask_as_user(&["image", "--out", out])).refuses(&[
            &format!("cannot write into {out}"),
            "name another folder with --out",
            "Permission denied",
        ]);
    }
    assert!(listing(folder.path()).is_empty());
}
