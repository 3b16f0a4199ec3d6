//! Files that appear in a folder all together, or not at all. The old files stay until all new files are ready,
//! and return if one new file cannot be placed.
//!
//! Owns: the folder that a person named with `--out`, during the write. On the other side: programs that boot
//! the files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::workspace::staged;

/// Checks, before any work is done, that files of these names can be written into `folder`. The error names the
/// obstacle.
pub fn check(folder: &Path, names: &[&str]) -> Result<()> {
    let Some(present) = folder.ancestors().find(|path| exists(path)) else {
        // A relative path whose first part does not exist yet in the current folder.
        return probe(Path::new("."), folder);
    };
    if !present.is_dir() {
        bail!("{} is no folder: name one with --out", present.display());
    }
    if let Some(name) = names.iter().find(|name| folder.join(name).is_dir()) {
        bail!(
            "{} is a folder, where a file is to be: remove it, or name another folder with --out",
            folder.join(name).display()
        );
    }
    probe(present, folder)
}

/// Creates a temporary file in `present`, which is `folder` or an ancestor of it.
fn probe(present: &Path, folder: &Path) -> Result<()> {
    tempfile::tempfile_in(present).map(drop).with_context(|| {
        format!(
            "cannot write into {}, name another folder with --out",
            folder.display()
        )
    })
}

fn exists(path: &Path) -> bool {
    !path.as_os_str().is_empty() && path.symlink_metadata().is_ok()
}

/// Writes the files (name and content) into `folder`, which is created if necessary. Returns their paths.
///
/// # Errors
/// A folder or file cannot be written. The folder is then in its earlier state.
pub fn write(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<Vec<PathBuf>> {
    let made: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !exists(path))
        .collect();
    let done = fs::create_dir_all(folder)
        .with_context(|| format!("creating {}", folder.display()))
        .and_then(|()| place(folder, files));
    if done.is_err() {
        for path in made {
            // Innermost first. A folder with foreign files is not empty and stays.
            let _ = fs::remove_dir(path);
        }
    }
    done.with_context(|| {
        format!(
            "nothing is written to {}, make room there or name another folder with --out",
            folder.display()
        )
    })
}

/// One file during the write.
struct Step {
    to: PathBuf,
    new: NamedTempFile,
    /// Copy of the file that `new` replaces.
    old: Option<NamedTempFile>,
}

fn place(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<Vec<PathBuf>> {
    let mut steps = Vec::new();
    for (name, content) in files {
        let to = folder.join(name);
        let old = match fs::read(&to) {
            Ok(content) => Some(complete(&to, &content)?),
            Err(_) => None,
        };
        let new = complete(&to, content)?;
        steps.push(Step { to, new, old });
    }
    let mut done: Vec<(PathBuf, Option<NamedTempFile>)> = Vec::new();
    for Step { to, new, old } in steps {
        if let Err(error) = new.persist(&to) {
            for (to, old) in done {
                let _ = match old {
                    Some(old) => old.persist(&to).map(drop).map_err(|e| e.error),
                    None => fs::remove_file(&to),
                };
            }
            return Err(error.error).with_context(|| format!("writing {}", to.display()));
        }
        done.push((to, old));
    }
    Ok(done.into_iter().map(|(to, _)| to).collect())
}

/// Creates a file beside `to` with content that has reached the disk.
fn complete(to: &Path, content: &[u8]) -> Result<NamedTempFile> {
    let file = staged(to, content)?;
    file.as_file()
        .sync_all()
        .with_context(|| format!("writing {}", to.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(word: &str) -> [(&str, Vec<u8>); 2] {
        [("first", word.into()), ("second", word.into())]
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_are_written_and_written_over() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("a/b");
        for word in ["one", "two"] {
            check(&folder, &["first", "second"]).unwrap();
            write(&folder, &files(word)).unwrap();
            assert_eq!(names(&folder), ["first", "second"]);
            assert_eq!(fs::read_to_string(folder.join("second")).unwrap(), word);
        }
    }

    #[test]
    fn when_one_fails_the_others_are_as_before() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        // A folder cannot be replaced by a file, not even by root.
        fs::create_dir(folder.join("second")).unwrap();
        let error = write(folder, &files("new")).unwrap_err();
        assert!(
            format!("{error:#}").contains("nothing is written to"),
            "{error:#}"
        );
        assert_eq!(names(folder), ["second"]);

        fs::write(folder.join("first"), "old").unwrap();
        write(folder, &files("new")).unwrap_err();
        assert_eq!(names(folder), ["first", "second"]);
        assert_eq!(fs::read_to_string(folder.join("first")).unwrap(), "old");
        assert!(check(folder, &["first", "second"]).is_err());
    }

    #[test]
    fn folders_made_in_vain_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        // No file can have such a name, so the second one fails after the folder was made.
        let long = "x".repeat(300);
        let files = [("first", Vec::new()), (long.as_str(), Vec::new())];
        write(&temporary.path().join("a/b"), &files).unwrap_err();
        assert!(names(temporary.path()).is_empty());
    }
}
