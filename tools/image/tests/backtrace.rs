//! Fault reports get functions, files and lines. The stack is that of a real program, which is compiled and
//! linked like a protection domain, and runs here as a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use brane_abi::backtrace::{Registers, Word, Words};
use branes_image::backtrace::Annotator;
use branes_system::System;

/// Calls `outer`, which calls `inner` through a function that is inlined. `inner` writes its registers and its stack to
/// standard output and exits.
const PROGRAM: &str = r#"#![no_std]
#![no_main]
use core::arch::{asm, global_asm};
global_asm!(".section .text._start, \"ax\", @progbits", ".global _start", "_start:", "xor ebp, ebp", "call outer", "ud2", ".text");

#[unsafe(no_mangle)]
extern "C" fn outer() -> ! {
    let numbers = core::hint::black_box([7u64; 40]);
    through(&numbers); // OUTER
    write(&numbers, 0);
    // SAFETY: ends the program by a signal.
    unsafe { asm!("ud2", options(noreturn)) }
}
#[inline(always)]
fn through(numbers: &[u64]) {
    inner(numbers); // THROUGH
    core::hint::black_box(numbers);
}
#[inline(never)]
fn inner(numbers: &[u64]) {
    core::hint::black_box(numbers);
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: copies registers.
    unsafe { asm!("lea {}, [rip]", "mov {}, rsp", "mov {}, rbp", out(reg) ip, out(reg) sp, out(reg) bp) }; // INNER
    write(&[ip, sp, bp], 24);
    // SAFETY: the frames of `outer` and `inner` have more than 64 words above the stack pointer.
    write(unsafe { core::slice::from_raw_parts(sp as *const u64, 64) }, 512);
    // SAFETY: exit(2).
    unsafe { asm!("syscall", in("rax") 60, in("rdi") 0, options(noreturn)) }
}
fn write(words: &[u64], bytes: usize) {
    // SAFETY: write(2) of at most as many bytes as `words` has.
    unsafe { asm!("syscall", inout("rax") 1u64 => _, in("rdi") 1, in("rsi") words.as_ptr(), in("rdx") bytes, out("rcx") _, out("r11") _) }
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
"#;

/// A compiled program in a folder, and its output: its registers and its stack.
struct Failed {
    folder: tempfile::TempDir,
    registers: Registers,
    stack: Vec<u64>,
}

impl Failed {
    fn new(flags: &[&str]) -> Failed {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("program.rs");
        let program = folder.path().join("one.elf");
        std::fs::write(&source, PROGRAM).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/pd-build/pd.ld");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.arg(&source).arg("-o").arg(&program);
        command.args([
            "--edition=2024",
            "-Cpanic=abort",
            "-Cforce-unwind-tables=no",
            "-Crelocation-model=static",
        ]);
        for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
            command.arg(format!("-Clink-arg={argument}"));
        }
        command.arg(format!(
            "-Clink-arg=-Wl,--build-id=none,--gc-sections,-T,{}",
            script.display()
        ));
        command.args(flags);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );

        let words: Vec<u64> = Command::new(&program)
            .output()
            .unwrap()
            .stdout
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let &[ip, sp, bp, ref stack @ ..] = words.as_slice() else {
            panic!("the program wrote too little");
        };
        assert!(!stack.is_empty());
        Failed {
            folder,
            registers: Registers { ip, sp, bp },
            stack: stack.to_vec(),
        }
    }

    fn annotator(&self) -> Annotator {
        let description = r#"<system>
            <protection_domain name="red" priority="1"><program_image path="one.elf" /></protection_domain>
            <protection_domain name="none" priority="1"><program_image path="no.elf" /></protection_domain>
        </system>"#;
        let system = System::parse(description, "system.xml").unwrap_or_else(|errors| panic!("{errors}"));
        Annotator::new(&system, &PathBuf::from(self.folder.path()))
    }

    /// Returns the report that the domain `pd` would log.
    fn report(&self, pd: &str) -> String {
        let mut text = format!("[{pd}] error: {}\n", self.registers);
        let mut line = Words::default();
        for (i, &value) in self.stack.iter().enumerate() {
            let word = Word {
                offset: 8 * i as u64,
                value,
            };
            if !line.push(word) {
                text += &format!("[{pd}] error: {line}\n");
                line = Words::default();
                assert!(line.push(word));
            }
        }
        line.end();
        text + &format!("[{pd}] error: {line}\n")
    }
}

/// Returns the end of a place: file and line of the program's line with this mark.
fn end(mark: &str) -> String {
    let line = PROGRAM
        .lines()
        .position(|line| line.ends_with(&format!("// {mark}")));
    format!("program.rs:{})", 1 + line.unwrap())
}

fn places(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("    at "))
        .collect()
}

#[test]
fn a_fault_gets_function_file_and_line_and_its_callers_also_inlined_ones() {
    for flags in [
        &["-Cdebuginfo=line-tables-only", "-Copt-level=3"][..],
        &["-Cdebuginfo=2", "-Copt-level=1"],
    ] {
        let failed = Failed::new(flags);
        let report = failed.report("red");
        let text = failed.annotator().annotate(report.as_bytes());
        let text = String::from_utf8(text).unwrap();
        let places = places(&text);
        let [inner, through, outer, ..] = places.as_slice() else {
            panic!("{flags:?}: {text}");
        };
        for (place, function, end) in [
            (inner, "program::inner ", end("INNER")),
            // An inlined function has no symbol, so with line tables alone its path is not known.
            (through, "through ", end("THROUGH")),
            (outer, "outer ", end("OUTER")),
        ] {
            assert!(
                place.contains(function) && place.ends_with(&end),
                "{flags:?}: {text}"
            );
        }
        // The first place is below the line with the registers, and no output of the guest is lost.
        assert!(text.lines().nth(1).unwrap().contains("program::inner"), "{text}");
        let kept: String = text
            .lines()
            .filter(|line| !line.starts_with("    at "))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(kept, report);
    }
}

#[test]
fn a_line_of_the_monitor_gets_the_place_of_its_instruction() {
    let failed = Failed::new(&["-Cdebuginfo=line-tables-only", "-Copt-level=3"]);
    let ip = failed.registers.ip;
    let line = format!(
        "monitor: 'red' stopped: page fault: read from 0x0 (nothing is mapped there), instruction {ip:#x}\r\n"
    );
    let text = String::from_utf8(failed.annotator().annotate(line.as_bytes())).unwrap();
    assert!(places(&text)[0].starts_with("program::inner ("), "{text}");
    assert!(
        text.ends_with(&(end("INNER") + "\r\n")),
        "the end of the guest's lines is kept: {text:?}"
    );
}

#[test]
fn other_output_passes_unchanged_whatever_it_says() {
    let failed = Failed::new(&["-Cdebuginfo=line-tables-only", "-Copt-level=3"]);
    let mut annotator = failed.annotator();
    let report = failed.report("red");
    let (_, words) = report.split_once('\n').unwrap();
    for text in [
        "branes> ".to_owned(),
        "\x1b[K[red] crashing, as the manager asks\n".to_owned(),
        failed.report("none"),
        failed.report("nobody"),
        "monitor: 'nobody' stopped: exception 6, instruction 0x200000\n".to_owned(),
        "monitor: 'red' stopped: fault 9\n".to_owned(),
        // Words without registers before them.
        words.to_owned(),
        "x".repeat(100_000) + "\n",
    ] {
        let out = annotator.annotate(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&out), text);
    }
    assert_eq!(annotator.annotate(b"\xff\xfe\n"), b"\xff\xfe\n");
    // A report in pieces is still one.
    let mut whole = Vec::new();
    for byte in report.bytes() {
        whole.extend(annotator.annotate(&[byte]));
    }
    assert_eq!(whole, failed.annotator().annotate(report.as_bytes()));
}

#[test]
fn a_stack_that_lies_ends() {
    let failed = Failed::new(&["-Cdebuginfo=line-tables-only", "-Copt-level=3"]);
    let Registers { ip, sp, .. } = failed.registers;
    let mut text = format!("[red] {}\n", Registers { ip, sp, bp: sp });
    for offset in (0..8000).step_by(8) {
        text += &format!("[red] stack: {offset:x}={ip:x}\n");
    }
    text += "[red] stack: end\n";
    let out = failed.annotator().annotate(text.as_bytes());
    assert!(places(&String::from_utf8_lossy(&out)).len() < 100);
}
