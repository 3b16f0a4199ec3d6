//! Decodes and checks the reports of branes, which are not trusted. A report must fill neither the manager's memory nor
//! an operator's screen.

use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::capture::{Captured, QUERY_FRAMES, QUERY_SNAPLEN};
use brane_abi::control::{BraneStatus, MAX_MESSAGE};
use brane_abi::filter::MAX_RULES;
use brane_abi::hook::{HookStatus, MAX_FILTERS};
use brane_abi::net::Cidr;
use brane_abi::operator::Unbelievable;
use brane_abi::query::Answer;

/// Maximum number of interfaces in a believable status.
pub const MAX_INTERFACES: usize = 8;
/// Maximum number of addresses of an interface.
pub const MAX_ADDRESSES: usize = 16;
/// Maximum number of counters.
pub const MAX_COUNTERS: usize = 128;
/// Longest name of an interface, a device or a counter, in bytes.
pub const MAX_NAME: usize = 31;
/// Longest stored reason of a refusal, in characters.
pub const MAX_REASON: usize = 160;

/// Number of [`Answer::Filter`] among the answers.
const FILTER_ANSWER: u32 = 8;

/// Decodes a status.
pub fn status(payload: &[u8]) -> Result<BraneStatus, Unbelievable> {
    if payload.len() > MAX_MESSAGE {
        return Err(Unbelievable::TooLong);
    }
    let mut decoder = minicbor::Decoder::new(payload);
    let status: BraneStatus = decoder.decode().map_err(|_| Unbelievable::Malformed)?;
    if decoder.position() != payload.len() {
        return Err(Unbelievable::Malformed);
    }
    if status.interfaces.len() > MAX_INTERFACES
        || status.counters.len() > MAX_COUNTERS
        || status.hooks.len() > MAX_FILTERS
        || status
            .interfaces
            .iter()
            .any(|i| i.addresses.len() > MAX_ADDRESSES)
    {
        return Err(Unbelievable::TooMany);
    }
    let interfaces = status.interfaces.iter();
    let names = interfaces.flat_map(|i| [&i.name, &i.device]);
    if !names
        .chain(status.counters.iter().map(|c| &c.name))
        .all(|n| plain(n))
    {
        return Err(Unbelievable::Name);
    }
    if !status.hooks.iter().all(|hook| plain(&hook.state)) {
        return Err(Unbelievable::Name);
    }
    let mut addresses = status.interfaces.iter().flat_map(|i| &i.addresses);
    if addresses.any(|a| a.cidr.prefix > if a.cidr.ip.is_ipv4() { 32 } else { 128 }) {
        return Err(Unbelievable::Address);
    }
    Ok(status)
}

/// Decodes the states of external hooks.
pub fn hooks(payload: &[u8]) -> Result<Vec<HookStatus>, Unbelievable> {
    let mut decoder = minicbor::Decoder::new(payload);
    let hooks: Vec<HookStatus> = decoder.decode().map_err(|_| Unbelievable::Malformed)?;
    if decoder.position() != payload.len() {
        return Err(Unbelievable::Malformed);
    }
    if hooks.len() > MAX_FILTERS {
        return Err(Unbelievable::TooMany);
    }
    match hooks.iter().all(|hook| plain(&hook.state)) {
        true => Ok(hooks),
        false => Err(Unbelievable::Name),
    }
}

fn plain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// Decodes the reason of a refusal and makes it safe to show.
pub fn reason(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(MAX_REASON)])
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// Decodes the answer to a query: checks names and makes texts safe to show.
pub fn query_answer(payload: &[u8]) -> Result<Answer, Unbelievable> {
    if payload.len() > MAX_MESSAGE {
        return Err(Unbelievable::TooLong);
    }
    if has_too_many_rules(payload) {
        return Err(Unbelievable::TooMany);
    }
    let mut decoder = minicbor::Decoder::new(payload);
    let mut answer: Answer = decoder.decode().map_err(|_| Unbelievable::Malformed)?;
    if decoder.position() != payload.len() {
        return Err(Unbelievable::Malformed);
    }
    let (mut names, mut networks): (Vec<&str>, Vec<Cidr>) = Default::default();
    match &mut answer {
        Answer::Refused(why) => {
            if let Some(text) = why.text_mut() {
                *text = reason(text.as_bytes());
            }
        }
        Answer::Interfaces(interfaces) => {
            for i in interfaces {
                names.extend([i.name.as_str(), &i.device]);
                networks.extend(i.addresses.iter().map(|a| a.cidr));
            }
        }
        Answer::Routes(routes) => {
            names.extend(routes.iter().map(|r| r.interface.as_str()));
            networks.extend(routes.iter().map(|r| r.to));
        }
        Answer::Neighbours(all, _) => names.extend(all.iter().map(|n| n.interface.as_str())),
        Answer::Sockets(all, _) => names.extend(all.iter().map(|s| s.state.as_str())),
        Answer::Protocols(all) => {
            for p in all.iter() {
                names.push(&p.state);
                names.extend(p.counters.iter().map(|c| c.name.as_str()));
            }
        }
        Answer::Filter(all, _) => {
            if all.iter().any(|status| branes_pfil::check(&status.rule).is_err()) {
                return Err(Unbelievable::Rule);
            }
        }
        Answer::Captured { frames, .. } => {
            let long = |frame: &Captured| frame.bytes.len() > QUERY_SNAPLEN as usize;
            if frames.len() > QUERY_FRAMES || frames.iter().any(long) {
                return Err(Unbelievable::TooMany);
            }
            names.extend(frames.iter().map(|frame| frame.interface.as_str()));
        }
        Answer::Echo { .. } | Answer::Host(_) => {}
    }
    if !names.into_iter().all(plain) {
        return Err(Unbelievable::Name);
    }
    if networks
        .iter()
        .any(|n| n.prefix > if n.ip.is_ipv4() { 32 } else { 128 })
    {
        return Err(Unbelievable::Address);
    }
    Ok(answer)
}

/// Returns true if an answer has more rules than a filter can have, or does not tell their number. A rule needs far more
/// memory than bytes in the answer, so this is checked before the rules are decoded.
fn has_too_many_rules(payload: &[u8]) -> bool {
    let mut decoder = minicbor::Decoder::new(payload);
    let variant = decoder.array().and_then(|_| decoder.u32());
    if !matches!(variant, Ok(FILTER_ANSWER)) {
        return false;
    }
    let rules = decoder.array().and_then(|_| decoder.array());
    !matches!(rules, Ok(Some(count)) if count <= MAX_RULES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use brane_abi::control::{AddressStatus, Counter, InterfaceStatus, Origin};
    use brane_abi::filter::{PortRange, Rule, RuleStatus};
    use brane_abi::net::{Cidr, MacAddr};
    use proptest::prelude::*;

    pub fn sample() -> BraneStatus {
        BraneStatus {
            interfaces: vec![InterfaceStatus {
                name: "net0".into(),
                device: "vnic0".into(),
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                up: true,
                addresses: vec![AddressStatus {
                    cidr: Cidr {
                        ip: [10, 0, 2, 15].into(),
                        prefix: 24,
                    },
                    origin: Origin::Static,
                }],
                ..InterfaceStatus::default()
            }],
            counters: vec![Counter {
                name: "udp-in".into(),
                value: 7,
            }],
            hooks: Vec::new(),
        }
    }

    #[test]
    fn believes_what_a_brane_can_say() {
        let bytes = minicbor::to_vec(sample()).unwrap();
        assert_eq!(status(&bytes), Ok(sample()));
    }

    #[test]
    fn believes_the_longest_lists_and_names_that_a_brane_can_have() {
        let mut most = sample();
        most.counters = vec![most.counters[0].clone(); 128];
        most.interfaces[0].addresses = vec![most.interfaces[0].addresses[0]; 16];
        most.interfaces = vec![most.interfaces[0].clone(); 8];
        most.counters[0].name = "x".repeat(31);
        let bytes = minicbor::to_vec(&most).unwrap();
        assert_eq!(status(&bytes), Ok(most));
    }

    #[test]
    fn names_what_it_does_not_believe() {
        let refused = |change: fn(&mut BraneStatus)| {
            let mut s = sample();
            change(&mut s);
            status(&minicbor::to_vec(s).unwrap()).unwrap_err()
        };
        assert_eq!(
            refused(|s| s.counters[0].name = "\x1b[2J".into()),
            Unbelievable::Name
        );
        assert_eq!(
            refused(|s| s.interfaces[0].name = "x".repeat(32)),
            Unbelievable::Name
        );
        assert_eq!(
            refused(|s| s.interfaces = vec![s.interfaces[0].clone(); 9]),
            Unbelievable::TooMany
        );
        assert_eq!(
            refused(|s| s.counters = vec![s.counters[0].clone(); 129]),
            Unbelievable::TooMany
        );
        assert_eq!(
            refused(|s| s.interfaces[0].addresses = vec![s.interfaces[0].addresses[0]; 17]),
            Unbelievable::TooMany
        );
        assert_eq!(
            refused(|s| s.interfaces[0].addresses[0].cidr.prefix = 33),
            Unbelievable::Address
        );
        assert_eq!(status(&[0x82, 0x80]), Err(Unbelievable::Malformed));
        assert_eq!(status(&[0x82, 0x80, 0x80, 0x80]), Err(Unbelievable::Malformed));
        assert_eq!(status(&[0; 4097]), Err(Unbelievable::TooLong));
    }

    fn rule() -> Rule {
        Rule {
            interface: Some("net0".into()),
            ..Rule::default()
        }
    }

    fn listed(rules: Vec<Rule>) -> Vec<u8> {
        let status = |rule| RuleStatus {
            rule,
            packets: 1,
            bytes: 2,
        };
        let list = rules.into_iter().map(status).collect();
        minicbor::to_vec(Answer::Filter(list, false)).unwrap()
    }

    #[test]
    fn believes_as_many_rules_as_a_filter_can_have() {
        let all = listed(vec![rule(); MAX_RULES]);
        let Ok(Answer::Filter(rules, false)) = query_answer(&all) else {
            panic!()
        };
        assert_eq!((rules.len(), &rules[0].rule), (MAX_RULES, &rule()));
        assert_eq!(
            query_answer(&listed(vec![rule(); MAX_RULES + 1])),
            Err(Unbelievable::TooMany)
        );
        // A list that ends with a mark does not tell its length.
        let [head, rest] = [&listed(vec![])[..3], &listed(vec![])[4..]];
        let open = [head, &[0x9f, 0xff], rest].concat();
        assert_eq!(query_answer(&open), Err(Unbelievable::TooMany));
        assert_eq!(query_answer(&all[..all.len() - 1]), Err(Unbelievable::Malformed));
        assert_eq!(query_answer(&[0x82, 8]), Err(Unbelievable::TooMany));
    }

    #[test]
    fn does_not_believe_impossible_rules() {
        let refused = |change: fn(&mut Rule)| {
            let mut bad = rule();
            change(&mut bad);
            query_answer(&listed(vec![rule(), bad])).unwrap_err()
        };
        let ports = |r: &mut Rule| r.to.ports.push(PortRange { first: 2, last: 1 });
        assert_eq!(refused(ports), Unbelievable::Rule);
        assert_eq!(
            refused(|r| r.interface = Some("\x1b[2J".into())),
            Unbelievable::Rule
        );
        assert_eq!(
            refused(|r| r.interface = Some("x".repeat(32))),
            Unbelievable::Rule
        );
    }

    #[test]
    fn a_reason_cannot_move_the_cursor() {
        assert_eq!(reason(b"no\x1b[2J\n\xff"), "no?[2J??");
        assert_eq!(reason(&[b'a'; 500]).len(), MAX_REASON);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at: usize, to: u8) {
            let _ = status(&bytes);
            let _ = reason(&bytes);
            let mut bent = minicbor::to_vec(sample()).unwrap();
            let at = at % bent.len();
            bent[at] = to;
            let _ = status(&bent);
            let mut bent = listed(vec![rule(); 3]);
            let at = at % bent.len();
            bent[at] = to;
            let _ = query_answer(&bent);
        }
    }
}
