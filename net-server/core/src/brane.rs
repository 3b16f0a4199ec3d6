//! The brane as a whole: its stack, its links to driver, manager and clients, and one turn of its work.
//!
//! Driver and manager are trusted, clients and the network are not. Time and notifications come from outside, so the same
//! code runs in the protection domain and in tests.

use crate::client::Client;
use crate::device::Tx;
use crate::manage::{COMMAND_BUDGET, Command, Control, check};
use crate::netif::NetIf;
use crate::ports::{Change, Ports};
use crate::stack::{Outcome, Stack};
use crate::tcp::Owner;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use brane_abi::control::{BraneConfig, BraneStatus, Counter};
use brane_abi::layout::PORTS_PER_BRANE;
use brane_abi::net::SockAddr;
use brane_abi::port::{self, FrameMeta, PortInfo};
use brane_abi::shared::SharedRegion;
use brane_abi::socket::{IDENTITY_ADDRESSES, Identity};
use smoltcp::socket::tcp::State;
use zerocopy::FromBytes;

/// Frames taken from one port in one turn.
const FRAME_BUDGET: usize = 64;

/// Packets taken from `lo0`, and rounds of sockets that move them, in one turn.
const LOOP_BUDGET: usize = 64;
/// See [`LOOP_BUDGET`].
const ROUNDS: usize = 4;

/// Whom to notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The NIC driver.
    Driver,
    /// The manager.
    Manager,
    /// A client, by its number.
    Client(usize),
}

/// How the manager can want the brane to fail, for tests of the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It faults.
    Fault,
    /// It runs and does nothing for anybody.
    Hang,
}

/// What a turn leaves to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// There is more to do: take another turn before sleeping.
    pub more: bool,
    /// When to take one at the latest, in nanoseconds; `u64::MAX` for never.
    pub deadline: u64,
    /// The manager wants the brane to fail.
    pub fail: Option<Failure>,
}

/// A brane.
pub struct Brane {
    /// Its stack.
    pub stack: Stack,
    ports: Ports,
    control: Control,
    clients: Vec<Client>,
    config: Option<BraneConfig>,
    identity: Identity,
    /// The manager may have commands that were not taken.
    more_commands: bool,
}

impl Brane {
    /// Starts the brane's side of all its links; everybody is notified in the first turn. `seed` must be unpredictable.
    /// `None` when a region is too small or not aligned.
    pub fn start(
        seed: [u8; 32],
        now: u64,
        ports: SharedRegion,
        control: SharedRegion,
        clients: &[SharedRegion],
    ) -> Option<Brane> {
        let clients = clients.iter().enumerate();
        Some(Brane {
            stack: Stack::new(seed, now),
            ports: Ports::start(ports)?,
            control: Control::start(control)?,
            clients: clients
                .map(|(i, region)| Client::start(i, *region))
                .collect::<Option<_>>()?,
            config: None,
            identity: Identity::default(),
            more_commands: false,
        })
    }

    /// One turn: a bounded share of whatever there is to do.
    pub fn turn(&mut self, now: u64, mut notify: impl FnMut(Peer)) -> Turn {
        let mut turn = Turn {
            more: self.receive(now),
            deadline: 0,
            fail: None,
        };
        turn.fail = self.commands(now);
        self.stack.unblock();
        for client in &mut self.clients {
            turn.more |= client.process(now, &mut self.stack, &self.identity);
        }
        if self.stack.deadline() <= now && self.stack.expire(now) {
            self.addresses_changed();
        }
        for _ in 0..ROUNDS {
            self.serve(now);
            if !self.looped(now) && self.stack.dirty.is_empty() {
                break;
            }
        }
        turn.more |=
            self.more_commands || !self.stack.dirty.is_empty() || self.stack.netifs[0].tx.has_looped();
        self.flush(now, &mut notify);
        turn.deadline = self.stack.deadline();
        turn
    }

    /// Announces sleep. `false`: there is news, take another turn.
    pub fn arm(&self) -> bool {
        self.ports.link.own_bell().arm()
            && self.control.link.own_bell().arm()
            && self.clients.iter().all(|client| client.own_bell().arm())
    }

    /// Takes frames from the driver; `true` when there may be more.
    fn receive(&mut self, now: u64) -> bool {
        let bell = self.ports.link.own_bell();
        bell.disarm();
        self.ports.pending |= bell.take();
        if self.ports.look(&mut self.stack.counters) == Change::Lost {
            self.take_rings_back();
            self.ports.reset();
            self.ports.look(&mut self.stack.counters);
        }
        if !self.ports.up {
            return false;
        }
        let mut more = false;
        for p in 0..PORTS_PER_BRANE {
            if self.ports.pending & port::port_bit(p) == 0 {
                continue;
            }
            let netif = self.stack.netifs.iter().position(|netif| netif.port() == Some(p));
            let mut taken = 0;
            while taken < FRAME_BUDGET {
                let port = &mut self.ports.port[p];
                let record = match port.rx.peek() {
                    Ok(Some(record)) => record,
                    Ok(None) => break,
                    Err(_) => {
                        self.stack.counters.driver_errors += 1;
                        self.ports.fail();
                        return false;
                    }
                };
                taken += 1;
                let size = brane_abi::ring::Consumer::size_of(&record);
                let meta = FrameMeta::from_words(record.meta);
                // SAFETY: the driver is trusted not to touch a record that it has published.
                let frame = unsafe { record.as_slice() };
                if meta.kind == port::KIND_FRAME {
                    if let Some(index) = netif {
                        let intact = meta.flags & (port::FLAG_NEEDS_CSUM | port::FLAG_DATA_VALID) != 0;
                        self.stack.counters.rx_frames += 1;
                        self.stack.counters.rx_bytes += frame.len() as u64;
                        hand_in(&mut self.stack, &mut self.clients, now, index, frame, intact);
                    }
                    self.ports.port[p].rx.pop(size);
                } else {
                    let info = PortInfo::read_from_bytes(frame).ok();
                    self.ports.port[p].rx.pop(size);
                    if let Some(info) = info {
                        self.ports.port[p].info = Some(info);
                        self.bind(now, p);
                    }
                }
            }
            self.ports.port[p].rx.release();
            if taken == FRAME_BUDGET {
                more = true;
            } else {
                self.ports.pending &= !port::port_bit(p);
            }
        }
        more
    }

    /// Gives the interface on a port what the driver said of it.
    fn bind(&mut self, now: u64, p: usize) {
        let seed = self.stack.random();
        let Some(netif) = self.stack.netifs.iter_mut().find(|netif| netif.port() == Some(p)) else {
            return;
        };
        let port = &mut self.ports.port[p];
        let (Some(info), Some(ring)) = (port.info, netif.tx.detach().or_else(|| port.tx.take())) else {
            return;
        };
        netif.tx.count(&mut self.stack.counters);
        let tx = Tx::port(ring, info.features, usize::from(info.mtu));
        netif.bind(info, tx, seed, now);
        self.addresses_changed();
    }

    fn take_rings_back(&mut self) {
        self.stack.forget_ways();
        for netif in &mut self.stack.netifs {
            if let Some(p) = netif.port() {
                netif.up = false;
                if let Some(ring) = netif.tx.detach() {
                    self.ports.port[p].tx = Some(ring);
                }
            }
        }
    }

    /// Obeys the manager, but for the failure that it may want.
    fn commands(&mut self, now: u64) -> Option<Failure> {
        let bell = self.control.link.own_bell();
        bell.disarm();
        let told = bell.take() != 0;
        let came_up = self.control.look();
        self.more_commands |= told || came_up;
        if !core::mem::take(&mut self.more_commands) {
            return None;
        }
        for turn in 0..COMMAND_BUDGET {
            let Some((token, command)) = self.control.take() else {
                break;
            };
            self.more_commands = turn + 1 == COMMAND_BUDGET;
            match command {
                Command::Configure(config) => {
                    let outcome = self.configure(now, config);
                    self.control.configured(token, outcome);
                }
                Command::Report => {
                    let status = self.status();
                    self.control.status(token, &status);
                }
                Command::Heartbeat => self.control.alive(token),
                Command::Crash => return Some(Failure::Fault),
                Command::Hang => return Some(Failure::Hang),
                Command::Bad(why) => {
                    self.stack.counters.manager_bad_commands += 1;
                    self.control.configured(token, Err(why));
                }
            }
        }
        None
    }

    /// Becomes what the configuration says. Error: why not.
    pub fn configure(&mut self, now: u64, config: BraneConfig) -> Result<(), String> {
        if let Some(present) = &self.config {
            // A manager that restarted says the same again.
            return if *present == config {
                Ok(())
            } else {
                Err(
                    "the brane is configured already; restart it to give it another configuration"
                        .to_string(),
                )
            };
        }
        check(&config)?;
        self.identity.id = config.id;
        self.identity.generation = config.generation;
        self.identity.primary = u8::from(config.primary);
        self.identity.ready = 1;
        let name = config.name.as_bytes();
        self.identity.name[..name.len()].copy_from_slice(name);
        for interface in &config.interfaces {
            self.stack.netifs.push(NetIf::unbound(interface.clone()));
        }
        self.config = Some(config);
        for p in 0..PORTS_PER_BRANE {
            self.bind(now, p);
        }
        self.addresses_changed();
        Ok(())
    }

    fn addresses_changed(&mut self) {
        self.stack.forget_ways();
        let mut addresses = [SockAddr::default(); IDENTITY_ADDRESSES];
        let mut count = 0;
        for cidr in self.stack.netifs.iter().skip(1).flat_map(NetIf::addresses) {
            if let Some(slot) = addresses.get_mut(count) {
                *slot = SockAddr::new(Some(cidr.address().into()), u16::from(cidr.prefix_len()));
                count += 1;
            }
        }
        let before = self.identity;
        self.identity.address_count = count as u32;
        self.identity.addresses = addresses;
        self.identity.mac = self.stack.netifs.get(1).map_or([0; 6], |netif| netif.mac);
        if before != self.identity || self.identity.ready == 1 {
            for client in &mut self.clients {
                client.identify(&self.identity);
            }
        }
    }

    /// What the brane says of itself.
    pub fn status(&mut self) -> BraneStatus {
        for netif in &mut self.stack.netifs {
            if !netif.is_loopback() {
                netif.tx.count(&mut self.stack.counters);
            }
        }
        let mut counters = self.stack.counters.report();
        let gauges = [
            ("tcp connections", self.stack.conns.len() as u64),
            ("tcp buffer bytes", self.stack.tcp_memory() as u64),
        ];
        counters.extend(gauges.map(|(name, value)| Counter {
            name: name.to_string(),
            value,
        }));
        BraneStatus {
            interfaces: self.stack.netifs.iter().map(NetIf::status).collect(),
            counters,
        }
    }

    /// Looks at the connections that have news.
    fn serve(&mut self, now: u64) {
        for _ in 0..self.stack.dirty.len() {
            let Some(id) = self.stack.dirty.pop_front() else {
                return;
            };
            let Some(conn) = self.stack.conns.get_mut(id) else {
                continue;
            };
            conn.queued = false;
            let state = conn.socket.state();
            if !conn.established
                && !matches!(
                    state,
                    State::Listen | State::SynSent | State::SynReceived | State::Closed
                )
            {
                conn.established = true;
                conn.socket.established();
            }
            match conn.owner {
                Owner::Slot { client, slot } => self.clients[client].serve(now, &mut self.stack, slot),
                Owner::Listener(_) if state == State::Closed => {
                    self.stack.remove(id);
                    continue;
                }
                Owner::Listener(listener) if conn.established => {
                    if let Some(client) = self.stack.listeners.get(listener).map(|l| l.client) {
                        self.clients[client].hand_over(&mut self.stack, listener);
                    }
                }
                _ => {}
            }
            self.stack.egress(now, id);
        }
    }

    /// Hands over what was sent to `lo0`; `true` when there was anything.
    fn looped(&mut self, now: u64) -> bool {
        let mut any = false;
        for _ in 0..LOOP_BUDGET {
            let Some(packet) = self.stack.netifs[0].tx.take_looped() else {
                break;
            };
            any = true;
            hand_in(&mut self.stack, &mut self.clients, now, 0, &packet, true);
            self.stack.netifs[0].tx.give_back(packet);
        }
        any
    }

    /// Makes everything visible to everybody.
    fn flush(&mut self, now: u64, notify: &mut impl FnMut(Peer)) {
        let mut bits = 0;
        for netif in &mut self.stack.netifs {
            if netif.tx.publish()
                && let Some(p) = netif.port()
            {
                bits |= port::port_bit(p);
            }
        }
        let woken = bits != 0 && self.ports.link.peer_bell().ring(bits);
        if core::mem::take(&mut self.ports.notify) | woken {
            notify(Peer::Driver);
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.flush(now, &mut self.stack) {
                notify(Peer::Client(index));
            }
        }
        if self.control.flush() {
            notify(Peer::Manager);
        }
    }
}

/// A frame has come in: to the stack with it, and to the client whose datagram it is.
fn hand_in(stack: &mut Stack, clients: &mut [Client], now: u64, index: usize, frame: &[u8], intact: bool) {
    match stack.frame(now, index, frame, intact) {
        Outcome::Done => {}
        Outcome::Datagram(udp, datagram) => {
            let payload = &frame[datagram.payload..datagram.payload + datagram.len];
            clients[udp.client].deliver(now, stack, udp.slot, &datagram, payload);
        }
        Outcome::Reassembled => {
            let whole = core::mem::take(&mut stack.whole);
            if let Outcome::Datagram(udp, datagram) = stack.frame(now, index, &whole, false) {
                let payload = &whole[datagram.payload..datagram.payload + datagram.len];
                clients[udp.client].deliver(now, stack, udp.slot, &datagram, payload);
            }
            stack.whole = whole;
        }
    }
}
