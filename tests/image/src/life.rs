//! An operator of the running image: requests over the control line, and the programs `branectl` and `nicctl`.
//!
//! What the operator is refused, and what it is answered, are told apart here, so that a test says which of them it wants.

use crate::guest::{Boot, Guest, Net, tool};
use anyhow::{Context, Result, bail, ensure};
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{
    Addressing, Answer, Audit, Brane, Device, DeviceConfig, Event, Free, Kind, Receipt, Refusal, Request,
};
use brane_abi::query;
use branes_branectl::remote::{Error, Line};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use crate::patience::PATIENCE;

/// Boots a configuration in its release flavour, with a control line.
pub fn boot(config: &str, first: Net, second: Option<Net>) -> Result<Guest> {
    Guest::boot(Boot {
        config,
        release: true,
        control: true,
        net: first,
        more_nets: second.as_slice(),
        ..Boot::default()
    })
}

/// An operator at the control line. While it is there, no program can be.
pub struct Operator(pub Line<UnixStream>);

impl Operator {
    /// Opens a session.
    pub fn new(guest: &Guest) -> Result<Operator> {
        Ok(Operator(guest.control()?))
    }

    /// Opens a session and waits until all branes that the system has so far are started.
    pub fn when_started(guest: &Guest) -> Result<Operator> {
        let mut operator = Operator::new(guest)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let branes = operator.list(false)?;
            if !branes.is_empty() && branes.iter().all(|brane| brane.state == "started") {
                return Ok(operator);
            }
            ensure!(
                Instant::now() < end,
                "not all are started: {branes:?}\n{}",
                guest.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Any request.
    pub fn call(&mut self, request: &Request) -> Result<Answer> {
        self.0.call(request).with_context(|| format!("{request:?}"))
    }

    /// A change, a ping or a question for a name, and the guest's own time from its beginning to its end.
    pub fn timed(&mut self, request: &Request) -> Result<(Answer, Duration)> {
        let Answer::Batch(mut parts) = self.call(&Request::batch(std::slice::from_ref(request)))? else {
            bail!("{request:?}: an answer to something else")
        };
        let part = parts.pop().context("an empty batch")?;
        match part.answer {
            Some(answer) => Ok((answer, Duration::from_micros(part.at_us))),
            None => bail!("{request:?} was refused: {:?}", part.refusal),
        }
    }

    /// The guest's clock: when the manager gave a device the limits that it has. `device` must exist.
    pub fn clock(&mut self, device: &str) -> Result<Duration> {
        self.done(&Request::Limit {
            device: device.to_owned(),
            mode: None,
            allow: None,
            rate_up: None,
            rate_down: None,
        })?;
        let events = self.events(0)?;
        let last = events.iter().rfind(|event| event.what == "limited");
        Ok(Duration::from_micros(last.context("no event")?.at_us))
    }

    /// A request that is answered by words.
    pub fn done(&mut self, request: &Request) -> Result<String> {
        match self.call(request)? {
            Answer::Done(words) => Ok(words),
            other => bail!("{request:?}: {other:?}"),
        }
    }

    /// A request that has to be refused.
    pub fn refused(&mut self, request: &Request) -> Result<Refusal> {
        match self.0.call(request) {
            Err(Error::Refused(refusal)) => Ok(refusal),
            other => bail!("{request:?} was not refused: {other:?}"),
        }
    }

    /// Makes a brane with all families.
    pub fn create(&mut self, name: &str, start: bool) -> Result<String> {
        self.create_with(name, None, start)
    }

    /// Makes a brane with these families.
    pub fn create_with(
        &mut self,
        name: &str,
        families: Option<Vec<FamilyConfig>>,
        start: bool,
    ) -> Result<String> {
        self.done(&Request::Create {
            name: name.to_owned(),
            families,
            start,
        })
    }

    /// Starts a brane.
    pub fn start(&mut self, name: &str) -> Result<String> {
        self.done(&Request::Start(name.to_owned()))
    }

    /// Deletes a brane, cutting off at once what it has.
    pub fn delete(&mut self, name: &str) -> Result<Receipt> {
        let request = Request::Delete {
            name: name.to_owned(),
            deadline_ms: 0,
        };
        match self.call(&request)? {
            Answer::Receipt(receipt) => Ok(receipt),
            other => bail!("{request:?}: {other:?}"),
        }
    }

    /// Makes a device; of a vnic with a MAC address from the pool, `vnic(NAME)` is its configuration.
    pub fn device(&mut self, config: DeviceConfig) -> Result<MacAddr> {
        let name = config.name.clone();
        self.done(&Request::AddDevice(config))?;
        let device = self.devices()?.into_iter().find(|d| d.config.name == name);
        let device = device.with_context(|| format!("{name} is not among the devices"))?;
        device.config.mac.context("a device without a MAC address")
    }

    /// Gives a brane a device with addresses.
    pub fn assign(&mut self, device: &str, brane: &str, addresses: &[&str]) -> Result<String> {
        let addressing = fixed(addresses)?;
        self.done(&assign(device, brane, Some(addressing)))
    }

    /// Moves a device with the addresses that it has.
    pub fn move_to(&mut self, device: &str, brane: &str) -> Result<String> {
        self.done(&assign(device, brane, None))
    }

    /// All branes.
    pub fn list(&mut self, fresh: bool) -> Result<Vec<Brane>> {
        match self.call(&Request::List { fresh })? {
            Answer::Branes(branes) => Ok(branes),
            other => bail!("no branes, but {other:?}"),
        }
    }

    /// One brane, asked how it is.
    pub fn show(&mut self, name: &str) -> Result<Brane> {
        match self.call(&Request::Show(name.to_owned()))? {
            Answer::Brane(brane) => Ok(brane),
            other => bail!("no brane, but {other:?}"),
        }
    }

    /// All devices.
    pub fn devices(&mut self) -> Result<Vec<Device>> {
        match self.call(&Request::Devices)? {
            Answer::Devices(devices) => Ok(devices),
            other => bail!("no devices, but {other:?}"),
        }
    }

    /// The brane that has a device; `None` where it is at home.
    pub fn owner(&mut self, device: &str) -> Result<Option<String>> {
        let device = self.devices()?.into_iter().find(|d| d.config.name == device);
        Ok(device
            .context("there is no such device")?
            .owner
            .map(|owner| owner.brane))
    }

    /// An audit, whatever it finds.
    pub fn audit(&mut self) -> Result<Audit> {
        match self.call(&Request::Audit)? {
            Answer::Audit(audit) => Ok(audit),
            other => bail!("no audit, but {other:?}"),
        }
    }

    /// Fails unless an audit finds nothing and every brane answers it; what is free.
    pub fn clean(&mut self) -> Result<Free> {
        let audit = self.audit()?;
        ensure!(audit.findings.is_empty() && audit.silent.is_empty(), "{audit:?}");
        Ok(audit.free)
    }

    /// A counter of a thing; 0 where it has none of that name.
    pub fn counter(&mut self, thing: &str, name: &str) -> Result<u64> {
        let Answer::Stats(groups) = self.call(&Request::Stats(Some(thing.to_owned())))? else {
            bail!("no counters of {thing}")
        };
        let counters = groups.iter().flat_map(|group| &group.counters);
        Ok(counters
            .filter(|counter| counter.name == name)
            .map(|counter| counter.value)
            .sum())
    }

    /// A question to a brane.
    pub fn inside(&mut self, brane: &str, query: query::Query) -> Result<query::Answer> {
        let brane = brane.to_owned();
        match self.call(&Request::Query { brane, query })? {
            Answer::Query(answer) => Ok(answer),
            other => bail!("no answer from inside, but {other:?}"),
        }
    }

    /// Sends one echo request from inside a brane; whether it was answered.
    pub fn ping_from(&mut self, brane: &str, to: IpAddr) -> Result<bool> {
        let query = query::Query::Ping {
            to,
            sequence: 1,
            size: 56,
            timeout_ms: 1000,
        };
        Ok(matches!(self.inside(brane, query)?, query::Answer::Echo { .. }))
    }

    /// The events with numbers above `after`, without waiting for one; there has to be one.
    pub fn events(&mut self, after: u64) -> Result<Vec<Event>> {
        match self.call(&Request::Events { after, wait: true })? {
            Answer::Events(events) => Ok(events),
            other => bail!("no events, but {other:?}"),
        }
    }

    /// The number of the last event so far.
    pub fn last_event(&mut self) -> Result<u64> {
        Ok(self.events(0)?.last().map_or(0, |event| event.number))
    }

    /// Waits for a brane's generation and state.
    pub fn until_restarted(&mut self, brane: &str, restarts: u32, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let found = self.list(false)?.into_iter().find(|b| b.name == brane);
            let found = found.with_context(|| format!("there is no brane {brane}"))?;
            if found.restarts >= restarts && found.state == "started" {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{brane} is {} after {} restarts",
                found.state,
                found.restarts
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A request that gives a brane a device.
pub fn assign(device: &str, brane: &str, addressing: Option<Addressing>) -> Request {
    Request::Assign {
        device: device.to_owned(),
        brane: brane.to_owned(),
        interface: None,
        addressing,
    }
}

/// Fixed addresses, as `10.0.2.30/24`.
pub fn fixed(addresses: &[&str]) -> Result<Addressing> {
    Ok(Addressing {
        addresses: addresses.iter().map(|a| cidr(a)).collect::<Result<_>>()?,
        ..Addressing::default()
    })
}

/// An address with its prefix length.
pub fn cidr(text: &str) -> Result<Cidr> {
    let (addr, prefix) = text.split_once('/').context("no prefix length")?;
    Ok(Cidr {
        ip: addr.parse()?,
        prefix: prefix.parse()?,
    })
}

/// A vnic on nic0 with a MAC address from the pool.
pub fn vnic(name: &str) -> DeviceConfig {
    DeviceConfig {
        name: name.to_owned(),
        kind: Kind::Vnic,
        ..DeviceConfig::default()
    }
}

/// Families of a brane: one, with these protocols.
pub fn family(family: Family, protocols: &[Protocol]) -> FamilyConfig {
    FamilyConfig {
        family,
        protocols: protocols.to_vec(),
    }
}

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// `branectl` or `nicctl`, towards the control line of a guest.
pub fn program(name: &str, guest: &Guest) -> Result<Command> {
    let mut command = Command::new(tool(name)?);
    command
        .env("BRANES_CONTROL", guest.control_path()?)
        .stdin(Stdio::null());
    Ok(command)
}

/// A running program. Dropping the value ends it.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `branectl` or `nicctl`, the first of the words, to its end.
pub fn run(guest: &Guest, words: &[&str]) -> Result<Said> {
    let [name, arguments @ ..] = words else {
        bail!("no program is named")
    };
    let Output {
        status,
        stdout,
        stderr,
    } = program(name, guest)?.args(arguments).output()?;
    Ok(Said {
        status: status
            .code()
            .with_context(|| format!("{words:?} ended by a signal"))?,
        out: String::from_utf8(stdout)?,
        err: String::from_utf8(stderr)?,
    })
}

/// Runs a program that has to succeed; its output.
pub fn well(guest: &Guest, words: &[&str]) -> Result<String> {
    let said = run(guest, words)?;
    ensure!(
        said.status == 0 && said.err.is_empty(),
        "{words:?}: {said:?}\n{}",
        guest.log()
    );
    Ok(said.out)
}

/// Runs a program that has to fail with this status and these words.
pub fn badly(guest: &Guest, words: &[&str], status: i32, error: &str) -> Result<()> {
    let said = run(guest, words)?;
    let wanted = Said {
        status,
        out: String::new(),
        err: format!("{error}\n"),
    };
    ensure!(said == wanted, "{words:?}:\n{said:?}, not\n{wanted:?}");
    Ok(())
}
