//! Rules for the limits of interfaces and devices: the keys `allow`, `rate-up` and `rate-down`.

use crate::rules::Rules;
use brane_abi::net::Cidr;
use brane_abi::vif::{MAX_ALLOWED, MAX_RATE};
use ipnet::IpNet;
use std::str::FromStr;
use toml::Spanned;

/// Word in `allow` for the interface's own static addresses.
const OWN: &str = "addresses";

impl Rules<'_> {
    /// Returns the prefixes of `allow`. Empty if the key is absent.
    pub(crate) fn allow(
        &mut self,
        key: &str,
        given: Option<&Spanned<Vec<Spanned<String>>>>,
        addresses: &[Cidr],
        here: &str,
    ) -> Vec<Cidr> {
        let Some(list) = given else {
            return Vec::new();
        };
        if list.get_ref().is_empty() {
            self.wrong(
                list.span(),
                format!(
                    "{key}: an empty list would let {here} send nothing: name a prefix or \"{OWN}\", or leave it out for \
                     no check"
                ),
            );
        }
        let mut out = Vec::new();
        for text in list.get_ref() {
            if text.get_ref() == OWN {
                if addresses.is_empty() {
                    self.wrong(
                        text.span(),
                        format!("{key}: {here} has no fixed addresses: write the prefixes out"),
                    );
                }
                out.extend(addresses.iter().map(|a| Cidr {
                    prefix: if a.ip.is_ipv4() { 32 } else { 128 },
                    ..*a
                }));
                continue;
            }
            match IpNet::from_str(text.get_ref()) {
                Ok(net) if net == net.trunc() => out.push(Cidr {
                    ip: net.addr(),
                    prefix: net.prefix_len(),
                }),
                Ok(net) => self.wrong(
                    text.span(),
                    format!(
                        "{key}: `{net}` has bits behind its prefix length: write `{}` for the network, or `{}/{}` for the \
                         address",
                        net.trunc(),
                        net.addr(),
                        net.max_prefix_len()
                    ),
                ),
                Err(_) => self.wrong(
                    text.span(),
                    format!(
                        "{key}: `{}` is neither a prefix nor \"{OWN}\": write it as in \"10.0.2.16/32\" or \
                         \"fec0::/64\"",
                        text.get_ref()
                    ),
                ),
            }
        }
        if out.len() > MAX_ALLOWED {
            let many = out.len();
            self.wrong(
                list.span(),
                format!("{key}: {here} has {many} prefixes, the driver accepts {MAX_ALLOWED}: join some, or drop them"),
            );
        }
        out
    }

    /// Checks a rate and returns it.
    pub(crate) fn rate(&mut self, key: &str, given: Option<&Spanned<i64>>) -> Option<u64> {
        let given = given?;
        match u64::try_from(*given.get_ref()) {
            Ok(rate @ 1..=MAX_RATE) => Some(rate),
            _ => {
                self.wrong(
                    given.span(),
                    format!(
                        "{key}: {} is no rate: write bytes per second, 1 to {MAX_RATE}, as in 1_000_000, \
                         or leave it out for no limit",
                        given.get_ref()
                    ),
                );
                None
            }
        }
    }
}
