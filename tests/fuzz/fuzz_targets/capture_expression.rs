//! Fuzz target: what an operator writes for a capture, and what the compiler `tcpdump` prints. Checks that no text causes a panic, and
//! that each text is an error or a program that the brane's interpreter accepts and runs.
#![no_main]

use branes_bpf::Program;
use branes_branectl::capture::expression;
use libfuzzer_sys::fuzz_target;
use operator_cli::capture::Programs;

fuzz_target!(|text: &str| {
    match Programs::of_matches(text) {
        Ok(programs) => {
            for code in [&programs.ethernet, &programs.raw] {
                let program = Program::verify(code).expect("a compiled program is accepted");
                program.run(text.as_bytes(), text.len() as u32);
            }
            assert!(!programs.stages().is_empty());
        }
        Err(e) => assert!(!e.what.is_empty() && !e.fix.is_empty()),
    }
    if let Some(code) = expression::parse(text)
        && let Ok(program) = Program::verify(&code)
    {
        program.run(text.as_bytes(), text.len() as u32);
    }
});
