//! The kernel's sources: their location in cargo's cache, a copy to build in, and the corrections made to
//! that copy.
//!
//! All projects of this user share the registry's folder, and the kernel's makefile writes beside its
//! sources. So the folder is only read.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{CargoOpt, MetadataCommand};

use crate::Error;

/// Registry package that carries the sources.
const PACKAGE: &str = "sel4-sys";

/// The sources in cargo's cache.
pub struct Source {
    /// Folder with the kernel's makefile.
    pub folder: PathBuf,
    pub target: PathBuf,
    /// Package with its version and origin.
    pub package: String,
}

/// Asks cargo for the location of the sources. Cargo downloads the package if it is missing, and checks it
/// against `Cargo.lock`.
pub fn locate(root: &Path) -> Result<Source, Error> {
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .features(CargoOpt::SomeFeatures(Vec::new()))
        .other_options(["--locked".to_owned()])
        .exec()
        .map_err(|e| Error::Metadata(e.to_string().trim().to_owned()))?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name == PACKAGE)
        .ok_or(Error::NoPackage(PACKAGE))?;
    let folder = package
        .manifest_path
        .parent()
        .map(|folder| folder.join("seL4").into_std_path_buf())
        .filter(|folder| folder.join("Makefile").is_file())
        .ok_or_else(|| Error::NoSource(package.manifest_path.clone().into_std_path_buf()))?;
    Ok(Source {
        folder,
        target: metadata.target_directory.into_std_path_buf(),
        package: package.id.repr.clone(),
    })
}

/// Copies a tree without file times: the kernel's makefile decides by time, and everything must be rebuilt.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(|e| Error::file("create", to, e))?;
    for entry in fs::read_dir(from).map_err(|e| Error::file("read", from, e))? {
        let entry = entry.map_err(|e| Error::file("read", from, e))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry
            .file_type()
            .map_err(|e| Error::file("read", &source, e))?
            .is_dir()
        {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(|e| Error::file("copy", &source, e))?;
        }
    }
    Ok(())
}

/// A change in one file: a text that must occur exactly once, and its replacement.
struct Correction {
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

const CORRECTIONS: &[Correction] = &[
    // The exit path for a pending interrupt rounds the kernel's stack pointer up to the stack's size. If the
    // stack is not aligned to that size, the kernel then runs on memory above its stack, which holds its
    // interrupt table.
    Correction {
        file: "include/arch/x86/arch/64/mode/kernel/stack.h",
        old: "#define KERNEL_STACK_ALIGNMENT 16\n",
        new: "#define KERNEL_STACK_ALIGNMENT 4096\n",
    },
    // The floating-point registers change their owner at each thread switch, not at the first use. All our
    // programs use them in every turn, so lazy switching would cost an additional trap for each turn. It also
    // leaves no data of one domain in registers while another runs. Processors with lazy-state leaks
    // (CVE-2018-3665) would disclose it.
    Correction {
        file: "include/machine/fpu.h",
        old: "                disableFpu();\n",
        new: "                if (likely(thread != NODE_STATE(ksIdleThread))) {\n                    \
              switchLocalFpuOwner(&thread->tcbArch.tcbContext.fpuState);\n                }\n",
    },
    // Fault handlers read the address from a variable that has half its bits.
    Correction {
        file: "src/arch/x86/kernel/vspace.c",
        old: "    uint32_t addr;\n    uint32_t fault;\n",
        new: "    word_t addr;\n    uint32_t fault;\n",
    },
    // A stopped thread resumes at its fault address. That address is old if the thread was ready to run. It
    // would repeat its last system call, with the result in place of the arguments. Later versions of the
    // kernel correct this in the same place and way.
    Correction {
        file: "src/kernel/thread.c",
        old: "    cancelIPC(target);\n    setThreadState(target, ThreadState_Inactive);\n",
        new: "    cancelIPC(target);\n    \
              if (thread_state_get_tsType(target->tcbState) == ThreadState_Running) {\n        \
              setRegister(target, FaultIP, getRegister(target, NextIP));\n    }\n    \
              setThreadState(target, ThreadState_Inactive);\n",
    },
    // The system call that prints one byte is enabled with the kernel's own printing, as in later versions. In
    // this version it would need `CONFIG_DEBUG_BUILD`, with which the kernel does not compile.
    Correction {
        file: "include/api/syscall.xml",
        old: "        <config condition=\"defined CONFIG_DEBUG_BUILD\">\n            <syscall name=\"DebugPutChar\"  />\n",
        new: "        <config condition=\"defined CONFIG_PRINTING\">\n            <syscall name=\"DebugPutChar\"  />\n        \
              </config>\n        <config condition=\"defined CONFIG_DEBUG_BUILD\">\n",
    },
    Correction {
        file: "src/api/syscall.c",
        old: "#ifdef CONFIG_DEBUG_BUILD\n    if (w == SysDebugPutChar) {\n        \
              kernel_putchar(getRegister(NODE_STATE(ksCurThread), capRegister));\n        return EXCEPTION_NONE;\n    }\n",
        new: "#ifdef CONFIG_PRINTING\n    if (w == SysDebugPutChar) {\n        \
              kernel_putchar(getRegister(NODE_STATE(ksCurThread), capRegister));\n        return EXCEPTION_NONE;\n    }\n\
              #endif\n#ifdef CONFIG_DEBUG_BUILD\n",
    },
];

/// Applies the corrections to a copy of the sources.
pub fn correct(tree: &Path) -> Result<(), Error> {
    CORRECTIONS
        .iter()
        .try_for_each(|correction| correction.apply(tree))
}

/// Returns the corrections as text, which is part of the build's inputs.
pub fn corrections_as_text() -> String {
    CORRECTIONS
        .iter()
        .map(|c| format!("correction {} {:?} {:?}\n", c.file, c.old, c.new))
        .collect()
}

impl Correction {
    fn apply(&self, tree: &Path) -> Result<(), Error> {
        let file = tree.join(self.file);
        let text = fs::read_to_string(&file).map_err(|e| Error::file("read", &file, e))?;
        let found = text.matches(self.old).count();
        if found != 1 {
            return Err(Error::UnexpectedSource {
                file,
                expected: self.old.trim_end(),
                found,
            });
        }
        fs::write(&file, text.replace(self.old, self.new)).map_err(|e| Error::file("write", &file, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a tree in which every file has its text to be corrected. `first` is the content of the first
    /// correction's file.
    fn tree_with(first: &str) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (i, correction) in CORRECTIONS.iter().enumerate() {
            let file = tree.path().join(correction.file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, if i == 0 { first } else { correction.old }).unwrap();
        }
        tree
    }

    fn text(tree: &tempfile::TempDir, index: usize) -> String {
        fs::read_to_string(tree.path().join(CORRECTIONS[index].file)).unwrap()
    }

    #[test]
    fn corrections_change_exactly_their_texts() {
        let tree = tree_with("before\n#define KERNEL_STACK_ALIGNMENT 16\nafter\n");
        correct(tree.path()).unwrap();
        assert_eq!(
            text(&tree, 0),
            "before\n#define KERNEL_STACK_ALIGNMENT 4096\nafter\n"
        );
        for (i, correction) in CORRECTIONS.iter().enumerate().skip(1) {
            assert_eq!(text(&tree, i), correction.new);
        }
    }

    #[test]
    fn other_sources_are_refused() {
        let twice = "#define KERNEL_STACK_ALIGNMENT 16\n".repeat(2);
        for text in ["", "#define KERNEL_STACK_ALIGNMENT 4096\n", &twice] {
            let tree = tree_with(text);
            let message = correct(tree.path()).unwrap_err().to_string();
            assert!(
                message.contains("stack.h") && message.contains("KERNEL_STACK_ALIGNMENT 16"),
                "{message}"
            );
        }
    }
}
