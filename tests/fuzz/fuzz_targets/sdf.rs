//! Fuzz target: the parser of the system description, the expansion of a description, and the generated
//! constants. The text is untrusted. Checks that no text causes a panic, and that every error has a position
//! in the text.
#![no_main]

use branes_system::configs::{Config, Entry};
use branes_system::{RULES, System, codegen};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let system = match System::parse(text, "any.xml") {
        Ok(system) => system,
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.split('\n').count();
            for error in errors.iter() {
                assert!((1..=lines).contains(&(error.position.line as usize)), "{error:?}");
                assert!(RULES.iter().any(|rule| rule.id == error.rule), "{error:?}");
            }
            assert_eq!(errors.to_string().lines().count(), errors.iter().count());
            return;
        }
    };
    for pd in &system.protection_domains {
        let _ = codegen::program(&system, &pd.program);
    }
    for instances in [1, 2, 3, 5] {
        let entry = Entry {
            instances,
            ..Entry::default()
        };
        if let Err(error) = Config::resolve(Path::new("."), "any", entry, Path::new("any.xml"), text) {
            assert!(error.to_string().starts_with("any.xml"), "{error}");
        }
    }
});
