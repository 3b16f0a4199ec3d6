//! Parses the text of a rule.
//!
//! The clauses stand in this order. Only the action is required.
//!
//! ```text
//! pass|drop|reject  [in|out|bind|connect|accept]  [on IFACE]  [inet|inet6]  [proto NAME|NUMBER]
//!     [from any|ADDRESS[/LEN] [port P[-Q][,P[-Q]...]]]  [to any|ADDRESS[/LEN] [port ...]]
//!     [flags SET/MASK]  [icmp-type TYPE[/CODE]]  [state STATE[,STATE...]]  [rate N/s [burst B]]  [bpf "CODE JT JF K; ..."]
//! ```
//!
//! Without a direction, a rule is for received and sent packets, and not for the calls `bind`, `connect` and `accept`.
//! `from port 53` means `from any port 53`. A rule with ports and without a protocol is for TCP and UDP. Without `burst`, the
//! burst is the rate. The program may begin with the number of its instructions and may use `,` or line ends for `;`, so that
//! the output of `tcpdump -y RAW -ddd` can be pasted. The quotes may be left out, because a program ends the rule.

use crate::check::{Clause, Place, find};
use crate::names::{self, CLAUSES, FLAGS, ICMP, PROTOCOLS, STATES};
use crate::words::{Word, Words};
use crate::{Fault, Problem};
use alloc::string::String;
use alloc::vec::Vec;
use brane_abi::control::Family;
use brane_abi::filter::{
    Action, Direction, End, FlowState, IcmpMatch, Instruction, PortRange, Rate, Rule, TcpFlags,
};
use brane_abi::net::Cidr;
use core::net::IpAddr;

/// Characters of a word that a fault repeats, at most.
const REPEATED: usize = 40;

/// A problem with its offset in the text, in bytes.
type At<T> = Result<T, (usize, Problem)>;

/// Parses the text of a rule, and checks the rule.
pub fn parse(text: &str) -> Result<Rule, Fault> {
    let mut parser = Parser {
        words: Words::of(Word { at: 0, text }),
        end: text.trim_ascii_end().len(),
        places: Vec::new(),
    };
    parser.rule().map_err(|(at, problem)| Fault {
        column: text.char_indices().take_while(|(offset, _)| *offset < at).count() + 1,
        problem,
    })
}

struct Parser<'a> {
    words: Words<'a>,
    /// Offset of the text's end.
    end: usize,
    /// Offsets of the parts of the clauses.
    places: Vec<(Place, usize)>,
}

impl<'a> Parser<'a> {
    fn rule(&mut self) -> At<Rule> {
        let mut rule = Rule {
            action: self.action()?,
            ..Rule::default()
        };
        rule.direction = match () {
            () if self.words.accept("in") => Some(Direction::In),
            () if self.words.accept("out") => Some(Direction::Out),
            () if self.words.accept("bind") => Some(Direction::Bind),
            () if self.words.accept("connect") => Some(Direction::Connect),
            () if self.words.accept("accept") => Some(Direction::Accept),
            () => None,
        };
        if self.words.accept("on") {
            let name = self.word("the interface's name", (Clause::Interface, 0))?;
            rule.interface = Some(name.text.into());
        }
        rule.family = self.family();
        if self.words.accept("proto") {
            let word = self.word("the protocol", (Clause::Protocol, 0))?;
            rule.protocol =
                Some(named(word, PROTOCOLS).ok_or_else(|| (word.at, Problem::Protocol(shown(word))))?);
        }
        if self.words.accept("from") {
            rule.from = self.side(Clause::From, Clause::FromPort)?;
        }
        if self.words.accept("to") {
            rule.to = self.side(Clause::To, Clause::ToPort)?;
        }
        if self.words.accept("flags") {
            rule.flags = Some(self.flags()?);
        }
        if self.words.accept("icmp-type") {
            rule.icmp = Some(self.icmp(rule.protocol.unwrap_or(ICMP))?);
        }
        if self.words.accept("state") {
            rule.states = self.states()?;
        }
        if self.words.accept("rate") {
            rule.rate = Some(self.rate()?);
        }
        if self.words.accept("bpf") {
            rule.program = self.program()?;
        }
        if let Some(word) = self.words.peek() {
            let known = CLAUSES.into_iter().find(|clause| *clause == word.text);
            return Err((
                word.at,
                match known {
                    Some(clause) => Problem::MisplacedClause(clause),
                    None => Problem::UnknownClause(shown(word)),
                },
            ));
        }
        find(&rule).map_err(|(place, problem)| (self.offset(place), problem))?;
        Ok(rule)
    }

    fn action(&mut self) -> At<Action> {
        let word = self
            .words
            .next()
            .ok_or((self.end, Problem::Missing("the action (pass, drop or reject)")))?;
        match word.text {
            "pass" => Ok(Action::Pass),
            "drop" => Ok(Action::Drop),
            "reject" => Ok(Action::Reject),
            _ => Err((word.at, Problem::Action(shown(word)))),
        }
    }

    fn family(&mut self) -> Option<Family> {
        let word = self.words.peek()?;
        let family = Family::ALL
            .into_iter()
            .find(|family| family.name() == word.text)?;
        self.words.next();
        self.places.push(((Clause::Family, 0), word.at));
        Some(family)
    }

    /// Parses what follows `from` or `to`.
    fn side(&mut self, clause: Clause, ports: Clause) -> At<End> {
        let mut end = End::default();
        if self.words.peek().is_none_or(|word| word.text != "port") {
            let word = self.word("the address", (clause, 0))?;
            end.prefix = address(word)?;
        }
        if self.words.accept("port") {
            let word = self.word("the port", (ports, 0))?;
            for (index, part) in word.split(|c| c == ',').enumerate() {
                self.places.push(((ports, index), part.at));
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                end.ports.push(PortRange {
                    first: number(first)?,
                    last: number(last)?,
                });
            }
        }
        Ok(end)
    }

    fn flags(&mut self) -> At<TcpFlags> {
        let word = self.word("the flags, such as S/SA,", (Clause::Flags, 0))?;
        let (set, mask) = word
            .split_once('/')
            .ok_or_else(|| (word.at, Problem::FlagsWithoutMask(shown(word))))?;
        let bits = |part: Word| {
            part.text.char_indices().try_fold(0, |bits, (offset, letter)| {
                let flag = FLAGS.into_iter().find(|(known, _)| *known == letter);
                let (_, bit) = flag.ok_or((part.at + offset, Problem::Flag(cleaned(letter))))?;
                Ok(bits | bit)
            })
        };
        Ok(TcpFlags {
            set: bits(set)?,
            mask: bits(mask)?,
        })
    }

    fn icmp(&mut self, protocol: u8) -> At<IcmpMatch> {
        let word = self.word("the ICMP type", (Clause::Icmp, 0))?;
        let (kind, code) = match word.split_once('/') {
            Some((kind, code)) => (kind, Some(number(code)?)),
            None => (word, None),
        };
        let known = names::icmp_types(protocol);
        let kind = named(kind, known).ok_or_else(|| (kind.at, Problem::IcmpType(shown(kind), protocol)))?;
        Ok(IcmpMatch { kind, code })
    }

    fn states(&mut self) -> At<Vec<FlowState>> {
        let word = self.word("the state", (Clause::State, 0))?;
        let mut states = Vec::new();
        for (index, part) in word.split(|c| c == ',').enumerate() {
            self.places.push(((Clause::State, index), part.at));
            let state = STATES.into_iter().find(|(name, _)| *name == part.text);
            states.push(state.ok_or_else(|| (part.at, Problem::State(shown(part))))?.1);
        }
        Ok(states)
    }

    fn rate(&mut self) -> At<Rate> {
        let word = self.word("the rate", (Clause::Rate, 0))?;
        let text = word.text.strip_suffix("/s");
        let text = text.ok_or_else(|| (word.at, Problem::Rate(shown(word))))?;
        let per_second = number(Word { text, ..word })?;
        let burst = match self.words.accept("burst") {
            true => number(self.word("the burst", (Clause::Burst, 0))?)?,
            false => per_second,
        };
        Ok(Rate { per_second, burst })
    }

    fn program(&mut self) -> At<Vec<Instruction>> {
        let mut rest = self.words.rest();
        if rest.text.starts_with('"')
            && let Some((_, quoted)) = rest.split_once('"')
        {
            let (inside, behind) = quoted
                .split_once('"')
                .ok_or((self.end, Problem::Missing("the closing quote")))?;
            rest = inside;
            self.words = Words::of(behind);
        }
        let mut program = Vec::new();
        let mut announced = None;
        for (index, part) in rest
            .split(|c| matches!(c, ';' | ',' | '\n'))
            .map(Word::trim)
            .enumerate()
        {
            let mut numbers = Words::of(part);
            let mut next = || numbers.next();
            // A separator may end the program.
            let Some(code) = next() else { continue };
            let Some(jt) = next() else {
                if index > 0 {
                    return Err((part.at, Problem::Quadruple(1)));
                }
                announced = Some((code.at, number::<u32>(code)?));
                continue;
            };
            let (Some(jf), Some(k), None) = (next(), next(), next()) else {
                let numbers = part.text.split_ascii_whitespace().count();
                return Err((part.at, Problem::Quadruple(numbers)));
            };
            self.places.push(((Clause::Program, program.len()), part.at));
            program.push(Instruction {
                code: number(code)?,
                jt: number(jt)?,
                jf: number(jf)?,
                k: number(k)?,
            });
        }
        match announced {
            _ if program.is_empty() => Err((rest.at, Problem::Missing("the program"))),
            Some((at, length)) if usize::try_from(length) != Ok(program.len()) => {
                Err((at, Problem::ProgramLength(program.len())))
            }
            _ => Ok(program),
        }
    }

    /// Takes the next word, which is the part of a clause at `place`.
    fn word(&mut self, what: &'static str, place: Place) -> At<Word<'a>> {
        let word = self.words.next().ok_or((self.end, Problem::Missing(what)))?;
        self.places.push((place, word.at));
        Ok(word)
    }

    fn offset(&self, place: Place) -> usize {
        let found = self.places.iter().find(|(known, _)| *known == place);
        found.map_or(0, |(_, offset)| *offset)
    }
}

/// Parses an address, or `any`.
fn address(word: Word) -> At<Option<Cidr>> {
    if word.text == "any" {
        return Ok(None);
    }
    let (ip, length) = match word.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (word, None),
    };
    let ip: IpAddr = ip
        .text
        .parse()
        .map_err(|_| (word.at, Problem::Address(shown(word))))?;
    let prefix = match length {
        Some(length) => number(length)?,
        None if ip.is_ipv4() => 32,
        None => 128,
    };
    Ok(Some(Cidr { ip, prefix }))
}

/// Parses a name of the table, or a number.
fn named(word: Word, table: &[(&str, u8)]) -> Option<u8> {
    names::number_of(table, word.text).or_else(|| number(word).ok())
}

/// Parses a decimal number.
fn number<T: Copy + TryFrom<u32> + Bounded>(word: Word) -> At<T> {
    let digits = !word.text.is_empty() && word.text.bytes().all(|c| c.is_ascii_digit());
    let value = word.text.parse::<u32>().ok().filter(|_| digits);
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| (word.at, Problem::Number(shown(word), T::MOST)))
}

/// A type of numbers with its highest.
trait Bounded {
    const MOST: u32;
}

impl Bounded for u8 {
    const MOST: u32 = u8::MAX as u32;
}
impl Bounded for u16 {
    const MOST: u32 = u16::MAX as u32;
}
impl Bounded for u32 {
    const MOST: u32 = u32::MAX;
}

/// Returns the word in the form for a fault: short, and without control characters.
fn shown(word: Word) -> String {
    word.text.chars().take(REPEATED).map(cleaned).collect()
}

fn cleaned(c: char) -> char {
    if c.is_control() { '?' } else { c }
}
