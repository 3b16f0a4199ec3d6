//! The verb `release`: makes the files of a release and prints the command that tags it, or shows that the
//! images are reproducible.
//!
//! Owns: the list of a release's files, and the conditions for a release. On the other side: git and cargo,
//! both trusted.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use branes_kernel::Flavour;
use sha2::{Digest, Sha256};

use crate::cli::ReleaseOptions;
use crate::image::{self, Built};
use crate::kernel::{Choice, Target};
use crate::workspace::Workspace;
use crate::{output, progress};

/// Configuration that is released, in both flavours.
const CONFIG: &str = "default";
/// File that lists the changes.
const CHANGELOG: &str = "CHANGELOG.md";
/// List of checksums, in the form that `sha256sum --check` reads.
const CHECKSUMS: &str = "SHA256SUMS";
/// File that names the sources and tools from which the other files were made.
const SOURCES: &str = "SOURCES.txt";
/// Folder of the second build, under the target folder. It is longer than the first one, so that a dependence
/// on the length shows in the result.
const ELSEWHERE: &str = "reproduce/in-a-folder-whose-name-is-longer/branes";

pub fn release(workspace: &Workspace, options: &ReleaseOptions) -> Result<()> {
    if options.check {
        return reproduce(
            workspace,
            match options.debug {
                true => Flavour::Debug,
                false => Flavour::Release,
            },
        );
    }
    let version = workspace.version()?;
    let tag = format!("v{version}");
    let changelog = read(&workspace.root.join(CHANGELOG))?;
    has_section(&String::from_utf8_lossy(&changelog), &version)?;
    let commit = clean_commit(workspace, &tag)?;
    let folder = options
        .out
        .clone()
        .unwrap_or_else(|| workspace.target.join("releases").join(&tag));

    let mut files: Vec<(String, Vec<u8>)> = vec![(CHANGELOG.to_owned(), changelog)];
    for flavour in [Flavour::Release, Flavour::Debug] {
        let built = build(workspace, flavour)?;
        for (name, path) in artefacts(&built) {
            files.push((format!("{flavour}-{name}"), read(&path)?));
        }
    }
    files.push((
        SOURCES.to_owned(),
        sources(workspace, &tag, &commit)?.into_bytes(),
    ));
    let checksums = checksums(&files);
    files.push((CHECKSUMS.to_owned(), checksums.into_bytes()));
    let files: Vec<_> = files
        .iter()
        .map(|(name, content)| (name.as_str(), content.clone()))
        .collect();
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    output::check(&folder, &names)?;
    for path in output::write(&folder, &files)? {
        println!("{}", path.display());
    }
    progress(&format!(
        "check the files: cd {} && sha256sum --check {CHECKSUMS}",
        folder.display()
    ));
    progress("show that the images are reproducible: cargo xtask release --check");
    progress(&format!(
        "tag the commit: git tag --annotate {tag} --message 'Branes {version}' {commit}"
    ));
    Ok(())
}

/// Builds the image here and from a copy of the sources in another folder, and compares the files byte by byte.
fn reproduce(workspace: &Workspace, flavour: Flavour) -> Result<()> {
    let here = build(workspace, flavour)?;
    let root = workspace.target.join(ELSEWHERE);
    progress(&format!("the same sources in {}", root.display()));
    copy_sources(&workspace.root, &root)?;
    let there = build(&Workspace::at(&root)?, flavour)?;
    let mut different = Vec::new();
    for ((name, one), (_, other)) in artefacts(&here).into_iter().zip(artefacts(&there)) {
        let (one, other) = (read(&one)?, read(&other)?);
        println!("{}  {flavour}-{name}", sum(&one));
        if one != other {
            let first = one.iter().zip(&other).position(|(a, b)| a != b);
            let first = first.unwrap_or(one.len().min(other.len()));
            eprintln!(
                "error: {name} differs: {} and {} bytes, the first difference is at {first:#x}",
                one.len(),
                other.len()
            );
            different.push(name);
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    bail!("not reproducible: {}", different.join(", "))
}

fn build(workspace: &Workspace, flavour: Flavour) -> Result<Built> {
    let target = Target {
        kernel: Choice::Registry,
        flavour,
        iommu: false,
    };
    image::build(workspace, image::resolve(workspace, CONFIG, false)?, target)
}

/// Returns the files of an image with their names.
fn artefacts(built: &Built) -> [(&'static str, PathBuf); 2] {
    [
        (image::KERNEL, built.kernel.clone()),
        (image::IMAGE, built.image.clone()),
    ]
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn checksums(files: &[(String, Vec<u8>)]) -> String {
    files
        .iter()
        .map(|(name, content)| format!("{}  {name}\n", sum(content)))
        .collect()
}

/// Fails if the changelog has no entry under the heading of this version.
fn has_section(changelog: &str, version: &str) -> Result<()> {
    let heading = format!("## {version}");
    let is_heading = |line: &&str| *line == heading || line.starts_with(&format!("{heading} "));
    let mut behind = changelog
        .lines()
        .skip_while(|line| !is_heading(line))
        .skip(1)
        .peekable();
    if behind.peek().is_none() {
        bail!(
            "{CHANGELOG} has no heading `{heading}`: rename the heading `## Unreleased` to it, or set another version in Cargo.toml"
        );
    }
    let lines = behind.take_while(|line| !line.starts_with("## "));
    if lines.filter(|line| line.starts_with("- ")).count() == 0 {
        bail!("{CHANGELOG} has no entry under {version}");
    }
    Ok(())
}

/// Returns the commit to release. Fails if there are uncommitted changes, or if the tag belongs to another commit.
fn clean_commit(workspace: &Workspace, tag: &str) -> Result<String> {
    let changes = git(&workspace.root, &["status", "--porcelain"])?;
    if !changes.is_empty() {
        bail!("there are changes that are not committed:\n{changes}");
    }
    let commit = git(&workspace.root, &["rev-parse", "HEAD"])?;
    if let Ok(tagged) = git(
        &workspace.root,
        &["rev-parse", "--verify", "--quiet", &format!("{tag}^{{commit}}")],
    ) && tagged != commit
    {
        bail!("the tag {tag} is at another commit, {tagged}: set a new version in Cargo.toml");
    }
    Ok(commit)
}

fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("starting git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("git {}: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the text of [`SOURCES`], with everything that is needed to make the files again.
fn sources(workspace: &Workspace, tag: &str, commit: &str) -> Result<String> {
    let mut text = format!(
        "Branes {tag}, commit {commit}, configuration `{CONFIG}`.\n\n\
         Make the files again: git checkout {commit} && cargo xtask release --check\n\n\
         The kernel (*-{}) is seL4 under the GPL, version 2. Its sources are the package `sel4-sys` that Cargo.lock names, with the\n\
         configuration and the corrections of tools/kernel; `cargo xtask image` builds it from these.\n\nTools:\n",
        image::KERNEL
    );
    for (program, argument) in [("rustc", "-V"), ("gcc", "--version"), ("ld", "--version")] {
        let output = Command::new(program)
            .current_dir(&workspace.root)
            .arg(argument)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {program}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let _ = writeln!(text, "    {}", said.lines().next().unwrap_or_default());
    }
    Ok(text)
}

/// Copies all files that git tracks or would add. Removes everything else from `to` except its target folder.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let listed = git(
        from,
        &["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    )?;
    let failed = |path: &Path| format!("copying to {}", path.display());
    if to.exists() {
        for entry in fs::read_dir(to).with_context(|| failed(to))? {
            let path = entry.with_context(|| failed(to))?.path();
            match path {
                path if path.ends_with("target") => {}
                path if path.is_dir() => fs::remove_dir_all(&path).with_context(|| failed(&path))?,
                path => fs::remove_file(&path).with_context(|| failed(&path))?,
            }
        }
    }
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let (source, path) = (from.join(name), to.join(name));
        // A deleted file whose deletion is not committed.
        if !source.is_file() {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(to)).with_context(|| failed(&path))?;
        fs::copy(&source, &path).with_context(|| failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changelog_must_say_something_of_the_version() {
        let changelog = "# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n### Added\n- a thing\n\n## 0.1.0\n\n- all\n";
        has_section(changelog, "0.2.0").unwrap();
        has_section(changelog, "0.1.0").unwrap();
        let refused =
            |changelog: &str, version: &str| has_section(changelog, version).unwrap_err().to_string();
        assert!(refused(changelog, "0.3.0").contains("no heading `## 0.3.0`"));
        assert!(refused(changelog, "0.2").contains("no heading `## 0.2`"));
        assert!(refused("## 0.1.0\n\n## 0.0.9\n- x\n", "0.1.0").contains("no entry under 0.1.0"));
    }

    #[test]
    fn checksums_are_in_the_form_of_sha256sum() {
        assert_eq!(
            checksums(&[("a".to_owned(), b"abc".to_vec())]),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"
        );
    }

    #[test]
    fn a_copy_has_what_git_has_and_keeps_its_target_folder() {
        let temporary = tempfile::tempdir().unwrap();
        let (from, to) = (temporary.path().join("from"), temporary.path().join("to"));
        fs::create_dir_all(from.join("sub/target")).unwrap();
        fs::create_dir_all(to.join("target")).unwrap();
        git(&from, &["init", "--quiet"]).unwrap();
        for (path, text) in [
            (from.join(".gitignore"), "/ignored\n"),
            (from.join("ignored"), "x"),
            (from.join("sub/file"), "x"),
            (to.join("old"), "x"),
            (to.join("target/kept"), "x"),
        ] {
            fs::write(path, text).unwrap();
        }
        copy_sources(&from, &to).unwrap();
        let there = |name: &str| to.join(name).exists();
        assert!(there(".gitignore") && there("sub/file") && there("target/kept"));
        assert!(!there("ignored") && !there("old"));
    }
}
