//! Fuzz target: the text of filter rules. Operators write it, and it is not trusted. Checks that no text causes a panic, that an
//! error has a column in the text, and that a rule that is printed parses to the same rule and compiles.
#![no_main]

use branes_pfil::{check, compile, parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        match parse(line) {
            Ok(rule) => {
                assert_eq!(check(&rule), Ok(()));
                assert_eq!(parse(&print(&rule)).as_ref(), Ok(&rule));
                assert!(compile(&rule).is_ok());
                let data = minicbor::to_vec(&rule).expect("a rule has a message");
                assert_eq!(minicbor::decode(&data).ok(), Some(rule));
            }
            Err(fault) => {
                assert!(
                    (1..=line.chars().count() + 1).contains(&fault.column),
                    "{fault:?}"
                );
                assert!(!fault.to_string().is_empty());
            }
        }
    }
});
