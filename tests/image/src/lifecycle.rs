//! An operator of the running image: requests over the control line, and the programs `branectl` and
//! `nicctl`.
//!
//! Methods differ by whether they expect an answer or a refusal, so that a test states its expectation.

use crate::guest::{Boot, Guest, Net, tool};
use crate::netns::NetNs;
use crate::{BRANES, probe};
use anyhow::{Context, Result, bail, ensure};
use brane_abi::control::{Family, FamilyConfig, Protocol};
use brane_abi::net::{Cidr, MacAddr};
use brane_abi::operator::{
    Addressing, Answer, Audit, Brane, DevNet, DeviceConfig, Event, Free, Kind, Receipt, Refusal, Request,
};
use brane_abi::query;
use branes_branectl::remote::{Error, Line};
use std::net::{IpAddr, SocketAddr};
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

/// Boots a configuration with the branes of [`BRANES`] on a namespace with the host's addresses. Returns both when these branes serve
/// both families.
pub fn served(config: &str) -> Result<(NetNs, Guest)> {
    let ns = NetNs::new(&["10.0.2.2/24", "fec0::2/64"])?;
    let guest = boot(config, Net::Tap(&ns), None)?;
    drop(Operator::when_started(&guest)?);
    ns.enter(|| -> Result<()> {
        for brane in BRANES {
            probe::udp_echo(SocketAddr::new(brane.v4.into(), 7))?;
            probe::udp_echo(SocketAddr::new(brane.v6.into(), 7))?;
        }
        Ok(())
    })?;
    Ok((ns, guest))
}

/// An operator at the control line. No program can use the line meanwhile.
pub struct Operator(pub Line<UnixStream>);

impl Operator {
    /// Opens a session.
    pub fn new(guest: &Guest) -> Result<Operator> {
        Ok(Operator(guest.control()?))
    }

    /// Opens a session and waits until all branes of the system are started.
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

    /// Sends a request and returns its answer.
    pub fn call(&mut self, request: &Request) -> Result<Answer> {
        self.0.call(request).with_context(|| format!("{request:?}"))
    }

    /// Sends a change, a ping or a name lookup. Returns the answer and the guest's own time for it.
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

    /// Returns the guest's clock: the time at which the manager set a device's current limits. `device` must
    /// exist.
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

    /// Sends a request whose answer is a text.
    pub fn done(&mut self, request: &Request) -> Result<String> {
        match self.call(request)? {
            Answer::Done(done) => Ok(operator_cli::done::words(&done)),
            other => bail!("{request:?}: {other:?}"),
        }
    }

    /// Sends a request that must be refused.
    pub fn refused(&mut self, request: &Request) -> Result<Refusal> {
        match self.0.call(request) {
            Err(Error::Refused(refusal)) => Ok(refusal),
            other => bail!("{request:?} was not refused: {other:?}"),
        }
    }

    /// Creates a brane with all families.
    pub fn create(&mut self, name: &str, start: bool) -> Result<String> {
        self.create_with(name, None, start)
    }

    /// Creates a brane with these families.
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
            memory: None,
        })
    }

    pub fn start(&mut self, name: &str) -> Result<String> {
        self.done(&Request::Start(name.to_owned()))
    }

    /// Deletes a brane, with a deadline of zero for its connections.
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

    /// Creates a device. `vnic(NAME)` is the configuration of a vnic with a MAC address from the pool.
    pub fn device(&mut self, config: DeviceConfig) -> Result<MacAddr> {
        let name = config.name.clone();
        self.done(&Request::AddDevice(config))?;
        let device = self.devices()?.into_iter().find(|d| d.config.name == name);
        let device = device.with_context(|| format!("{name} is not among the devices"))?;
        device.config.mac.context("a device without a MAC address")
    }

    /// Assigns a device with addresses to a brane.
    pub fn assign(&mut self, device: &str, brane: &str, addresses: &[&str]) -> Result<String> {
        let addressing = fixed(addresses)?;
        self.done(&assign(device, brane, Some(addressing)))
    }

    /// Moves a device together with its addresses.
    pub fn move_to(&mut self, device: &str, brane: &str) -> Result<String> {
        self.done(&assign(device, brane, None))
    }

    /// Returns all branes.
    pub fn list(&mut self, fresh: bool) -> Result<Vec<Brane>> {
        match self.call(&Request::List { fresh })? {
            Answer::Branes(branes) => Ok(branes),
            other => bail!("no branes, but {other:?}"),
        }
    }

    /// Returns one brane after a fresh query of its state.
    pub fn show(&mut self, name: &str) -> Result<Brane> {
        match self.call(&Request::Show(name.to_owned()))? {
            Answer::Brane(brane) => Ok(brane),
            other => bail!("no brane, but {other:?}"),
        }
    }

    /// All devices.
    pub fn devices(&mut self) -> Result<Vec<DevNet>> {
        match self.call(&Request::Devices)? {
            Answer::Devices(devices) => Ok(devices),
            other => bail!("no devices, but {other:?}"),
        }
    }

    /// Returns the brane that has a device, or `None` if no brane has it.
    pub fn owner(&mut self, device: &str) -> Result<Option<String>> {
        let device = self.devices()?.into_iter().find(|d| d.config.name == device);
        Ok(device
            .context("there is no such device")?
            .ifnet
            .owner()
            .map(|owner| owner.brane.clone()))
    }

    /// Returns an audit, whatever its findings.
    pub fn audit(&mut self) -> Result<Audit> {
        match self.call(&Request::Audit)? {
            Answer::Audit(audit) => Ok(audit),
            other => bail!("no audit, but {other:?}"),
        }
    }

    /// Fails unless an audit has no findings and every brane answers it. Returns the free resources.
    pub fn clean(&mut self) -> Result<Free> {
        let audit = self.audit()?;
        ensure!(audit.findings.is_empty() && audit.silent.is_empty(), "{audit:?}");
        Ok(audit.free)
    }

    /// Returns a counter of a brane, device or NIC. Returns 0 if it has no counter of that name.
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

    /// Sends a query to a brane.
    pub fn inside(&mut self, brane: &str, query: query::Query) -> Result<query::Answer> {
        let brane = brane.to_owned();
        match self.call(&Request::Query { brane, query })? {
            Answer::Query(answer) => Ok(answer),
            other => bail!("no answer from inside, but {other:?}"),
        }
    }

    /// Sends one echo request from inside a brane. Returns true if it was answered.
    pub fn ping_from(&mut self, brane: &str, to: IpAddr) -> Result<bool> {
        let query = query::Query::Ping {
            to,
            sequence: 1,
            size: 56,
            timeout_ms: 1000,
        };
        Ok(matches!(self.inside(brane, query)?, query::Answer::Echo { .. }))
    }

    /// Returns the events with numbers above `after`. Does not wait: fails if there are none.
    pub fn events(&mut self, after: u64) -> Result<Vec<Event>> {
        match self.call(&Request::Events { after, wait: true })? {
            Answer::Events(events) => Ok(events),
            other => bail!("no events, but {other:?}"),
        }
    }

    /// Returns the number of the last event so far.
    pub fn last_event(&mut self) -> Result<u64> {
        Ok(self.events(0)?.last().map_or(0, |event| event.number))
    }

    /// Waits until a brane has been restarted this often and is started again.
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

/// Builds the request that assigns a device to a brane.
pub fn assign(device: &str, brane: &str, addressing: Option<Addressing>) -> Request {
    Request::Assign {
        device: device.to_owned(),
        brane: brane.to_owned(),
        interface: None,
        addressing,
    }
}

/// Parses static addresses such as `10.0.2.30/24`.
pub fn fixed(addresses: &[&str]) -> Result<Addressing> {
    Ok(Addressing {
        addresses: addresses.iter().map(|a| cidr(a)).collect::<Result<_>>()?,
        ..Addressing::default()
    })
}

/// Parses an address with its prefix length.
pub fn cidr(text: &str) -> Result<Cidr> {
    let (addr, prefix) = text.split_once('/').context("no prefix length")?;
    Ok(Cidr {
        ip: addr.parse()?,
        prefix: prefix.parse()?,
    })
}

/// Returns the configuration of a vnic on nic0 with a MAC address from the pool.
pub fn vnic(name: &str) -> DeviceConfig {
    DeviceConfig {
        name: name.to_owned(),
        kind: Kind::Vnic,
        ..DeviceConfig::default()
    }
}

/// Returns the configuration of one family with these protocols.
pub fn family(family: Family, protocols: &[Protocol]) -> FamilyConfig {
    FamilyConfig {
        family,
        protocols: protocols.to_vec(),
    }
}

/// Result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// Returns `branectl` or `nicctl`, connected to the control line of a guest.
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

/// Runs `branectl` or `nicctl` (the first word) to its end.
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

/// Runs a program that must succeed. Returns its output.
pub fn well(guest: &Guest, words: &[&str]) -> Result<String> {
    let said = run(guest, words)?;
    ensure!(
        said.status == 0 && said.err.is_empty(),
        "{words:?}: {said:?}\n{}",
        guest.log()
    );
    Ok(said.out)
}

/// Runs a program that must fail with this status and this text.
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
