//! A boot configuration, or a table of systems, that cannot be read. The error has file, line and cure in one
//! line, before anything is installed or built.

mod common;

use common::{Programs, Said, Skeleton, listing, original, run};

/// Returns the shipped boot configuration with one text replaced.
fn changed(from: &str, to: &str) -> String {
    let good = original("brane-manager/branes.toml");
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}

/// Returns the line that a text begins on.
fn line_of(text: &str, part: &str) -> usize {
    let at = text.find(part).expect(part);
    text[..at].matches('\n').count() + 1
}

/// Runs `image` with this boot configuration. Fails if anything is left in the output folder.
fn refused(content: Option<&[u8]>) -> Said {
    let skeleton = Skeleton::new();
    if let Some(content) = content {
        skeleton.write("boot.toml", content);
    }
    let before = listing(&skeleton.path(""));
    let out = skeleton.path("out");
    let said = run(skeleton.xtask(&["image", "--out", out.to_str().unwrap()]));
    let mut after = listing(&skeleton.path(""));
    // Cargo may lock the workspace, which has no crate.
    after.retain(|name| name != "Cargo.lock");
    assert_eq!(after, before);
    said
}

#[test]
fn a_missing_file_is_named_with_where_it_is_named() {
    refused(None).refuses(&[
        "boot.toml: No such file or directory",
        "name an existing boot configuration under `boot` in configs.toml",
    ]);
}

#[test]
fn what_is_not_toml_is_refused_by_line() {
    let text = changed("primary = true", "primary: true");
    let line = line_of(&text, "primary: true");
    refused(Some(text.as_bytes())).refuses(&[&format!("boot.toml:{line}:"), "expected `=`"]);
    refused(Some(b"<xml/>")).refuses(&["boot.toml:1:7: "]);
}

#[test]
fn a_wrong_key_is_refused_by_line_with_the_right_ones() {
    let text = changed("primary = true", "primry = true");
    let line = line_of(&text, "primry");
    refused(Some(text.as_bytes())).refuses(&[
        &format!("boot.toml:{line}:1: unknown field `primry`"),
        "expected one of `name`, `primary`, `families`, `memory`, `started`, `interface`, `filter`",
    ]);
}

#[test]
fn a_wrong_value_is_refused_by_line_with_a_right_one() {
    let text = changed("10.0.3.15/24", "10.0.3.15");
    let line = line_of(&text, "10.0.3.15\"");
    refused(Some(text.as_bytes())).refuses(&[
        &format!("boot.toml:{line}:"),
        "`10.0.3.15` is not an address with a prefix length",
    ]);
}

#[test]
fn a_damaged_file_is_refused_by_the_line_of_the_damage() {
    let good = original("brane-manager/branes.toml");
    let at = good.find("\"red\"").unwrap() + 1;
    let line = line_of(&good, "\"red\"");

    let mut bits = good.clone().into_bytes();
    bits[at] ^= 0x80;
    refused(Some(&bits)).refuses(&[
        &format!("boot.toml:{line}:9: byte 0xf2 is no UTF-8 text"),
        "damaged or of another encoding",
    ]);
    let mut zeroes = good.clone().into_bytes();
    zeroes[at..at + 3].fill(0);
    refused(Some(&zeroes)).refuses(&[&format!("boot.toml:{line}:")]);
    // Cut off in the middle.
    refused(Some(&good.as_bytes()[..at])).refuses(&[&format!("boot.toml:{line}:")]);
    refused(Some(b"")).refuses(&["boot.toml:1:1: there is no brane: add a [[brane]]"]);
}

#[test]
fn a_wrong_table_of_systems_is_refused_by_line() {
    let skeleton = Skeleton::new();
    let sizes = || run(skeleton.xtask(&["sizes"]));
    skeleton.write("configs.toml", "[default]\nabout = \"x\"\ninstance = 3\n");
    sizes().refuses(&[
        "configs.toml:3:1: unknown field `instance`",
        "expected one of `about`, `instances`",
    ]);
    skeleton.write("configs.toml", "[default]\nabout = x\n");
    sizes().refuses(&["configs.toml:2:"]);
    std::fs::remove_file(skeleton.path("configs.toml")).unwrap();
    sizes().refuses(&["cannot read ", "configs.toml: No such file or directory"]);
}

/// Shows that the other tests do not fail because of the skeleton: with the shipped file, `xtask` proceeds to
/// the host's tools.
#[test]
fn the_shipped_file_is_not_refused() {
    let skeleton = Skeleton::new();
    skeleton.write("boot.toml", original("brane-manager/branes.toml"));
    let mut command = skeleton.xtask(&["sizes"]);
    command.env("PATH", Programs::new().folder());
    run(command).refuses(&["missing: gcc, make, ld, "]);
}
