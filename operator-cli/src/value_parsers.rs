//! Parsers of single words: names, addresses, times, rates. Each error states the fault of the word and the correct form.
//!
//! Owns no state. The person who types is not trusted: each parser checks the whole word.

use crate::error::Error;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::log::Level;
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::MAX_NAME;
use core::net::IpAddr;

/// Highest rate in bytes per second that the driver's token bucket accepts.
pub const MAX_RATE: u64 = 100_000_000_000;

/// Parses an existing name. Checks only its length.
pub fn name(word: &str) -> Result<String, Error> {
    match word.len() {
        0 => Err(Error::new(
            "empty name",
            format!("1 to {MAX_NAME} bytes are allowed"),
        )),
        n if n > MAX_NAME => Err(Error::new(
            format!("name too long: {n} bytes, {MAX_NAME} allowed"),
            "",
        )),
        _ => Ok(word.into()),
    }
}

/// Parses the name of a new object.
pub fn new_name(word: &str) -> Result<String, Error> {
    let name = name(word)?;
    let fine = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c));
    if fine {
        Ok(name)
    } else {
        Err(Error::new(
            format!("\"{word}\" is not a name"),
            "use a-z, 0-9, `-`, `_` and `.`, with a letter first",
        ))
    }
}

/// Parses a log level.
pub fn level(word: &str) -> Result<Level, Error> {
    Level::from_name(word).ok_or_else(|| {
        let all = Level::ALL.map(Level::name).join(", ");
        Error::new(
            format!("\"{word}\" is not a log level"),
            format!("write one of {all}"),
        )
    })
}

/// Parses `BRANE/INTERFACE`.
pub fn interface(word: &str) -> Result<(String, String), Error> {
    match word.split_once('/') {
        Some((brane, interface)) => Ok((name(brane)?, name(interface)?)),
        None => Err(Error::new(
            format!("\"{word}\" is not an interface"),
            "write BRANE/INTERFACE, as in red/net0",
        )),
    }
}

/// Parses an IP address.
pub fn address(word: &str) -> Result<IpAddr, Error> {
    word.parse().map_err(|_| {
        Error::new(
            format!("\"{word}\" is not an IP address"),
            "write it as in 10.0.2.2 or fec0::2",
        )
    })
}

/// Parses an address with its prefix length.
pub fn cidr(word: &str) -> Result<Cidr, Error> {
    let parsed = word.split_once('/').and_then(|(ip, prefix)| {
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let plain = !prefix.is_empty() && prefix.bytes().all(|c| c.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|p| plain && *p <= most)?;
        Some(Cidr { ip, prefix })
    });
    parsed.ok_or_else(|| {
        Error::new(
            format!("\"{word}\" is not an address with a prefix length"),
            "write it as in 10.0.2.16/24 or fec0::16/64",
        )
    })
}

/// Parses prefixes that are separated by commas.
pub fn cidrs(word: &str) -> Result<Vec<Cidr>, Error> {
    word.split(',').map(cidr).collect()
}

/// Parses the MAC address of a station.
pub fn mac(word: &str) -> Result<MacAddr, Error> {
    let mut out = [0; 6];
    let mut parts = word.split(':');
    let fine = out.iter_mut().all(|byte| {
        let part = parts.next().unwrap_or("");
        let hex = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
        hex && u8::from_str_radix(part, 16).map(|b| *byte = b).is_ok()
    }) && parts.next().is_none();
    if fine && MacAddr(out).is_station() {
        return Ok(MacAddr(out));
    }
    Err(Error::new(
        format!("\"{word}\" is not the MAC address of a station"),
        "write it as in 02:77:00:00:00:10",
    ))
}

/// Parses a number from `least` to `most`.
pub fn number(word: &str, least: u64, most: u64) -> Result<u64, Error> {
    let digits = word.bytes().all(|c| c.is_ascii_digit());
    match word.parse() {
        Ok(n) if digits && (least..=most).contains(&n) => Ok(n),
        _ => Err(Error::new(
            format!("\"{word}\" is not a number from {least} to {most}"),
            "write it in decimal digits",
        )),
    }
}

/// Parses a number of bytes, up to 4 GiB.
pub fn bytes(word: &str) -> Result<u32, Error> {
    number(word, 0, u32::MAX.into()).map(|number| number as u32)
}

/// Parses a time: `500ms`, `5s`, `1.5s`, `2m`. A number without a unit is in seconds. Returns milliseconds.
pub fn time_ms(word: &str) -> Result<u32, Error> {
    let (digits, unit) = if let Some(d) = word.strip_suffix("ms") {
        (d, 1)
    } else if let Some(d) = word.strip_suffix('m') {
        (d, 60_000)
    } else {
        (word.strip_suffix('s').unwrap_or(word), 1000)
    };
    decimal(digits, unit)
        .and_then(|ms| u32::try_from(ms).ok())
        .ok_or_else(|| {
            Error::new(
                format!("\"{word}\" is not a time"),
                "write it as in 500ms, 5s or 2m",
            )
        })
}

/// Parses a rate in bytes per second: `250k`, `10M`, `1.5G` (powers of 1000, not of 1024). `none` is 0: no limit.
pub fn rate(word: &str) -> Result<u64, Error> {
    if word == "none" {
        return Ok(0);
    }
    let (digits, unit) = match word.as_bytes().last() {
        Some(b'k' | b'K') => (&word[..word.len() - 1], 1000),
        Some(b'M') => (&word[..word.len() - 1], 1_000_000),
        Some(b'G') => (&word[..word.len() - 1], 1_000_000_000),
        _ => (word, 1),
    };
    match decimal(digits, unit) {
        Some(rate @ 1..=MAX_RATE) => Ok(rate),
        _ => Err(Error::new(
            format!("\"{word}\" is not a rate"),
            "write bytes per second, as in 250k, 10M or 1.5G (at most 100G), or none",
        )),
    }
}

/// Returns a decimal fraction times `unit`. Returns `None` if the product is not a whole number.
fn decimal(digits: &str, unit: u64) -> Option<u64> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) || digits.ends_with('.') || part.len() > 9 {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(part.len()).ok()?);
    let fraction = if part.is_empty() { 0 } else { part.parse().ok()? };
    let fraction = unit.checked_mul(fraction).filter(|f| f % scale == 0)? / scale;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)?
        .checked_add(fraction)
}

/// Converts a netmask to a prefix length.
pub fn netmask(word: &str) -> Result<u8, Error> {
    let mask: Option<u32> = word.parse::<core::net::Ipv4Addr>().ok().map(u32::from);
    match mask {
        Some(mask) if mask.leading_ones() + mask.trailing_zeros() == 32 || mask == 0 => {
            Ok(mask.leading_ones() as u8)
        }
        _ => Err(Error::new(
            format!("\"{word}\" is not a netmask"),
            "write it as in 255.255.255.0, or give the prefix length behind the address: 10.0.2.16/24",
        )),
    }
}

/// Parses the name of a NIC. Returns its number: 1 for `nic1`.
pub fn nic(word: &str) -> Result<u8, Error> {
    word.strip_prefix("nic")
        .filter(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| Error::new(format!("\"{word}\" is not a NIC"), "write nic0, nic1, ..."))
}

/// Parses a family with its protocols: `inet`, or `inet=icmp,udp`.
pub fn family(word: &str) -> Result<FamilyConfig, Error> {
    let (name, protocols) = match word.split_once('=') {
        Some((name, list)) => (name, Some(list)),
        None => (word, None),
    };
    let Some(family) = Family::ALL.into_iter().find(|f| f.name() == name) else {
        return Err(Error::new(
            format!("no family \"{name}\""),
            "there are inet and inet6",
        ));
    };
    let known = |p: &str| family.protocols().iter().copied().find(|k| k.name() == p);
    let mut out: Vec<Protocol> = Vec::new();
    match protocols {
        None => out.extend(family.protocols()),
        Some("") => {}
        Some(list) => {
            for word in list.split(',') {
                let names: Vec<&str> = family.protocols().iter().map(|p| p.name()).collect();
                let protocol = known(word).ok_or_else(|| {
                    Error::new(
                        format!("no protocol \"{word}\" in {name}"),
                        format!("there are {}", names.join(", ")),
                    )
                })?;
                if out.contains(&protocol) {
                    return Err(Error::new(
                        format!("{word} is named twice in {name}"),
                        "name it once",
                    ));
                }
                out.push(protocol);
            }
        }
    }
    out.sort();
    out.sort_by_key(|p| family.protocols().iter().position(|k| k == p));
    Ok(FamilyConfig {
        family,
        protocols: out,
    })
}

/// Parses a word that must be one of `among`.
pub fn word(given: &str, among: &[&str]) -> Result<String, Error> {
    if among.contains(&given) {
        return Ok(given.to_string());
    }
    Err(Error::new(
        format!("\"{given}\" is none of {}", among.join(", ")),
        "use one of them",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says<T: core::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn names_are_bounded() {
        assert_eq!(says(name(&"x".repeat(34))), "name too long: 34 bytes, 31 allowed");
        assert_eq!(name(&"x".repeat(31)), Ok("x".repeat(31)));
        assert_eq!(says(name("")), "empty name: 1 to 31 bytes are allowed");
        assert_eq!(
            says(new_name("Red")),
            "\"Red\" is not a name: use a-z, 0-9, `-`, `_` and `.`, with a letter first"
        );
        assert_eq!(interface("red/net0"), Ok(("red".into(), "net0".into())));
        assert_eq!(
            says(interface("red")),
            "\"red\" is not an interface: write BRANE/INTERFACE, as in red/net0"
        );
    }

    #[test]
    fn times_and_rates_have_units() {
        for (word, ms) in [
            ("5s", 5000),
            ("500ms", 500),
            ("2m", 120_000),
            ("3", 3000),
            ("1.5s", 1500),
            ("0", 0),
        ] {
            assert_eq!(time_ms(word), Ok(ms), "{word}");
        }
        for bad in ["", "s", "-1s", "1h", "1.s", "0.0001s", "99999999999s", "1.5ms"] {
            assert_eq!(
                says(time_ms(bad)),
                format!("\"{bad}\" is not a time: write it as in 500ms, 5s or 2m")
            );
        }
        for (word, bytes) in [
            ("10M", 10_000_000),
            ("250k", 250_000),
            ("1.5G", 1_500_000_000),
            ("7", 7),
            ("none", 0),
        ] {
            assert_eq!(rate(word), Ok(bytes), "{word}");
        }
        for bad in ["", "M", "0", "1.5", "101G", "10Mbit/s", "-1"] {
            assert!(says(rate(bad)).starts_with(&format!("\"{bad}\" is not a rate: write bytes per second")));
        }
    }

    #[test]
    fn addresses_are_checked() {
        assert_eq!(cidr("10.0.2.16/24").unwrap().to_string(), "10.0.2.16/24");
        assert_eq!(cidr("fec0::16/64").unwrap().to_string(), "fec0::16/64");
        for bad in [
            "10.0.2.16",
            "10.0.2.16/33",
            "fec0::/129",
            "10.0.2.16/+4",
            "/24",
            "x/24",
            "10.0.2.16/",
        ] {
            assert!(
                says(cidr(bad)).contains("is not an address with a prefix length"),
                "{bad}"
            );
        }
        assert_eq!(netmask("255.255.255.0"), Ok(24));
        assert_eq!((netmask("0.0.0.0"), netmask("255.255.255.255")), (Ok(0), Ok(32)));
        assert!(netmask("255.0.255.0").is_err());
        assert_eq!(mac("02:77:00:00:00:10"), Ok(MacAddr([2, 0x77, 0, 0, 0, 0x10])));
        for bad in [
            "03:77:00:00:00:10",
            "00:00:00:00:00:00",
            "02:77:00:00:00",
            "02:77:00:00:00:10:1",
            "2:7:0:0:0:1",
        ] {
            assert!(mac(bad).is_err(), "{bad}");
        }
        assert_eq!((nic("nic1"), nic("nic0")), (Ok(1), Ok(0)));
        assert!(nic("eth0").is_err() && nic("nic").is_err() && nic("nic999").is_err());
    }

    #[test]
    fn families_hold_their_own_protocols() {
        let f = family("inet=tcp,icmp").unwrap();
        assert_eq!(f.protocols, [Protocol::Icmp, Protocol::Tcp]);
        assert_eq!(family("inet6").unwrap().protocols, Family::Inet6.protocols());
        assert_eq!(family("inet=").unwrap().protocols, []);
        assert_eq!(says(family("ipx")), "no family \"ipx\": there are inet and inet6");
        assert_eq!(
            says(family("inet=icmp6")),
            "no protocol \"icmp6\" in inet: there are icmp, udp, tcp"
        );
        assert_eq!(
            says(family("inet=udp,udp")),
            "udp is named twice in inet: name it once"
        );
    }
}
