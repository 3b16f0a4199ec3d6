//! Names of branes, devices and interfaces.
//!
//! Names come from operators, who are not trusted. Every name passes [`check`]. The owners of the tables check that a
//! name is free.

use crate::refusals;
use brane_abi::operator::{MAX_NAME, Refusal};

/// Checks the form of a name.
pub(crate) fn check(name: &str) -> Result<(), Refusal> {
    if name.len() > MAX_NAME {
        return Err(refusals::name_too_long(name.len()));
    }
    let first = name.as_bytes().first().copied().unwrap_or(0);
    let rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
    if first.is_ascii_lowercase() && name.bytes().all(rest) {
        return Ok(());
    }
    Err(refusals::not_a_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_fault() {
        assert_eq!(check("a"), Ok(()));
        assert_eq!(check(&"x".repeat(31)), Ok(()));
        let long = check(&"x".repeat(34)).unwrap_err();
        assert_eq!(long, Refusal::NameTooLong(34));
        for bad in ["", "A", "1a", "-a", "a b", "a/b", "ä", "a\n"] {
            let why = check(bad).unwrap_err();
            let Refusal::NotAName(shown) = &why else {
                panic!("{why:?}")
            };
            assert!(shown.is_ascii(), "{why:?}");
        }
    }
}
