//! Which names can be given, and the words of a refusal.
//!
//! Names come from operators, who are not trusted to be right. Every name of a brane, a device or an interface passes
//! [`check`]; whether it is taken is for the places that keep it.

use alloc::format;
use alloc::string::String;
use brane_abi::operator::{MAX_NAME, Refusal};

/// A refusal: what is wrong with which thing, and what to do.
pub(crate) fn refusal(what: impl Into<String>, help: impl Into<String>) -> Refusal {
    Refusal {
        what: what.into(),
        help: help.into(),
    }
}

/// Whether a thing can have this name.
pub(crate) fn check(name: &str) -> Result<(), Refusal> {
    if name.len() > MAX_NAME {
        return Err(refusal(
            format!("name too long: {} bytes, {MAX_NAME} allowed", name.len()),
            "choose a shorter one",
        ));
    }
    let first = name.as_bytes().first().copied().unwrap_or(0);
    let rest = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
    if first.is_ascii_lowercase() && name.bytes().all(rest) {
        return Ok(());
    }
    Err(refusal(
        format!("{:?} is not a name", printable(name)),
        "use a-z, 0-9, `-`, `_` and `.`, with a letter first",
    ))
}

/// A text of somebody else's, for a message: control characters replaced, cut to 64 characters.
pub(crate) fn printable(text: &str) -> String {
    let shown = text.chars().take(64);
    shown
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// Some of the names that there are, for the help of a refusal.
pub(crate) fn listed<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let mut shown = String::new();
    let mut more = 0;
    for (n, name) in names.enumerate() {
        if n >= SHOWN {
            more += 1;
        } else {
            if n > 0 {
                shown += ", ";
            }
            shown += name;
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => format!("there are no {what}"),
        (false, 0) => format!("the {what} are {shown}"),
        (false, _) => format!("the {what} are {shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_fault() {
        assert_eq!(check("a"), Ok(()));
        assert_eq!(check(&"x".repeat(31)), Ok(()));
        let long = check(&"x".repeat(34)).unwrap_err();
        assert_eq!(long.what, "name too long: 34 bytes, 31 allowed");
        for bad in ["", "A", "1a", "-a", "a b", "a/b", "ä", "a\n"] {
            let why = check(bad).unwrap_err();
            assert!(why.what.ends_with("is not a name"), "{why:?}");
            assert!(why.what.is_ascii());
        }
    }
}
