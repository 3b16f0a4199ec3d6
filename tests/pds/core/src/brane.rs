//! A brane that forges frames, then violates the protocols towards driver and manager.
//!
//! At first it behaves: links come up, it accepts its configuration, it learns its MAC address. Then, round by
//! round, it sends frames with foreign source addresses (between two with its own address). After
//! [`FORGING_ROUNDS`] it writes rubbish. The other sides are the real driver and manager, which must not trust
//! it.

mod flood;

pub use flood::{Flood, Flooding};

use crate::Random;
use crate::offload::{Addresses, rewrites};
use crate::region::{Head, indices, scribble, write_word};
use brane_abi::control::{self, report};
use brane_abi::layout::{ctl, ports};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::MacAddr;
use brane_abi::port::{FLAG_NEEDS_CSUM, FrameMeta, GSO_TCPV4, KIND_INFO, PortInfo, port_bit};
use brane_abi::ring::{Consumer, Producer};
use brane_abi::shared::SharedRegion;
use zerocopy::IntoBytes;

/// EtherType of all frames here: the first of IEEE 802's two for local experiments.
pub const ETHERTYPE: u16 = 0x88b5;

/// Payload of a frame with a forged source address. No such frame may leave.
pub const FORGED: &[u8] = b"forged by hostile-brane, must never be seen";

/// Payload of a malformed frame, sent from the brane's own address.
pub const MALFORMED: &[u8] = b"malformed by hostile-brane";

/// Payload of a frame with the brane's own source address. Such frames may leave.
pub const HONEST: &[u8] = b"honest frame of hostile-brane";

/// Payload of an IP packet whose source address is not the brane's. No such packet may leave if the vif has
/// allowed addresses.
pub const CLAIMED: &[u8] = b"sent by hostile-brane from an address that is nobody's";

/// Addresses of the brane in the default boot configuration.
const OWN_IP: [u8; 4] = [10, 0, 2, 17];
const OWN_IP6: [u8; 16] = [0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x17];

/// IP addresses that no brane has.
pub const CLAIMED_IP: [u8; 4] = [10, 0, 2, 66];
const CLAIMED_IP6: [u8; 16] = [0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];

/// Number of forging rounds in the first incarnation, before the rubbish starts.
pub const FORGING_ROUNDS: u64 = 100;

/// Number of forging rounds in later incarnations. It is small, because there are many: the manager restarts
/// the brane at each protocol violation.
const LATER_FORGING_ROUNDS: u64 = 5;

/// Rounds of rubbish towards the driver for each round towards the manager.
const DRIVER_ROUNDS: u64 = 24;

/// Seed of the pseudo-random numbers of the first incarnation.
const SEED: u64 = 0x6272_616e_6573;

/// Maximum number of records that one step consumes from a ring.
const BUDGET: usize = 64;

/// The addresses of the other branes in the default boot configuration, and others that never belong to a
/// brane.
const FOREIGN: [MacAddr; 6] = [
    MacAddr([0x02, 0x77, 0, 0, 0, 0]),
    MacAddr([0x02, 0x77, 0, 0, 0, 1]),
    MacAddr([0x02, 0x77, 0, 0, 1, 0]),
    MacAddr::BROADCAST,
    MacAddr([0; 6]),
    MacAddr([0x01, 0x00, 0x5e, 0, 0, 1]),
];

/// The sides to notify after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    pub driver: bool,
    pub manager: bool,
}

/// The hostile brane.
pub struct HostileBrane {
    ports: SharedRegion,
    ctl: SharedRegion,
    random: Random,
    driver: Option<Link>,
    manager: Option<Link>,
    rx: Option<Consumer>,
    tx: Option<Producer>,
    commands: Option<Consumer>,
    reports: Option<Producer>,
    mac: Option<MacAddr>,
    configured: bool,
    /// The head of the driver's link before the brane overwrote it.
    spoilt: Option<Head>,
    incarnation: u64,
    round: u64,
    /// State of [`Self::flood`].
    pub flooding: Flooding,
}

/// Resets the driver's link, and with it the flood.
fn start_reset(brane: &mut HostileBrane) {
    let replays = brane.flooding.replays;
    brane.flooding = Flooding::default();
    brane.flooding.replays = replays;
    brane.start_over();
}

fn producer(region: SharedRegion, at: usize, data: brane_abi::layout::Part) -> Option<Producer> {
    Producer::new(indices(region, at)?, region.part(data.offset, data.len)?)
}

fn consumer(region: SharedRegion, at: usize, data: brane_abi::layout::Part) -> Option<Consumer> {
    Consumer::new(indices(region, at)?, region.part(data.offset, data.len)?)
}

impl HostileBrane {
    /// Creates a brane on the regions that it shares with driver and manager. `incarnation` is the number of its
    /// incarnation, from 0. Each incarnation does other things.
    pub fn new(ports: SharedRegion, ctl: SharedRegion, incarnation: u64) -> HostileBrane {
        HostileBrane {
            ports,
            ctl,
            random: Random::new(SEED.wrapping_add(incarnation)),
            driver: None,
            manager: None,
            rx: None,
            tx: None,
            commands: None,
            reports: None,
            mac: None,
            configured: false,
            spoilt: None,
            incarnation,
            round: 0,
            flooding: Flooding::default(),
        }
    }

    /// Returns the number of rounds in this incarnation.
    pub fn rounds(&self) -> u64 {
        self.round
    }

    /// Returns the port's MAC address as the driver announced it.
    pub fn mac(&self) -> Option<MacAddr> {
        self.mac
    }

    /// Returns true if the brane has accepted its configuration.
    pub fn configured(&self) -> bool {
        self.configured
    }

    /// Starts both links. The caller must notify both sides afterwards.
    pub fn start(&mut self) {
        self.start_over();
        self.manager = Link::start(self.ctl, Side::B);
    }

    /// Resets the driver's link, which the driver has quarantined. The caller must notify the driver
    /// afterwards.
    pub fn start_over(&mut self) {
        if let Some(driver) = self.spoilt.take() {
            driver.restore(self.ports);
        }
        self.driver = Link::start(self.ports, Side::B);
        (self.rx, self.tx) = (None, None);
    }

    /// Returns true if the next round forges frames. Rounds of rubbish follow later.
    pub fn forges(&self) -> bool {
        self.round
            < if self.incarnation == 0 {
                FORGING_ROUNDS
            } else {
                LATER_FORGING_ROUNDS
            }
    }

    /// Does the work of an honest brane after a wake: polls both links, learns its port, accepts its
    /// configuration.
    pub fn behave(&mut self) -> Notify {
        let mut notify = Notify::default();
        if let Some(link) = &mut self.driver {
            if link.poll() == LinkState::PeerRestarted {
                for p in 0..ports::count(ports::SIZE) {
                    let rings =
                        [ports::rx_indices(p), ports::tx_indices(p)].map(|at| indices(self.ports, at));
                    rings.into_iter().flatten().for_each(|ring| ring.reset());
                }
                (self.rx, self.tx) = (None, None);
                link.acknowledge();
                notify.driver = true;
            }
            if link.poll() == LinkState::Up && self.tx.is_none() {
                self.rx = consumer(self.ports, ports::rx_indices(0), ports::RX[0]);
                self.tx = producer(self.ports, ports::tx_indices(0), ports::TX[0]);
            }
            let _ = link.own_bell().take();
        }
        if let Some(link) = &mut self.manager {
            if link.poll() == LinkState::PeerRestarted {
                let rings = [ctl::COMMAND_INDICES, ctl::REPORT_INDICES].map(|at| indices(self.ctl, at));
                rings.into_iter().flatten().for_each(|ring| ring.reset());
                (self.commands, self.reports) = (None, None);
                link.acknowledge();
                notify.manager = true;
            }
            if link.poll() == LinkState::Up && self.reports.is_none() {
                self.commands = consumer(self.ctl, ctl::COMMAND_INDICES, ctl::COMMANDS);
                self.reports = producer(self.ctl, ctl::REPORT_INDICES, ctl::REPORTS);
            }
            let _ = link.own_bell().take();
        }
        self.take_frames();
        notify.manager |= self.take_commands();
        notify
    }

    /// Empties the receive ring. Stores what the records announce about the port.
    fn take_frames(&mut self) {
        let Some(rx) = &mut self.rx else { return };
        for _ in 0..BUDGET {
            let mut info = PortInfo::default();
            let taken = rx.take(|record| {
                FrameMeta::from_words(record.meta).kind == KIND_INFO && record.copy_at(0, info.as_mut_bytes())
            });
            match taken {
                Ok(Some(true)) => self.mac = (info.bound == 1).then_some(info.mac),
                Ok(Some(false)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        rx.release();
    }

    /// Confirms a configuration, and answers heartbeats. Returns true if the manager must be notified.
    fn take_commands(&mut self) -> bool {
        let (Some(commands), Some(reports)) = (&mut self.commands, &mut self.reports) else {
            return false;
        };
        let mut answered = false;
        for _ in 0..BUDGET {
            let Ok(Some([kind, token, _])) = commands.take(|record| record.meta) else {
                break;
            };
            if kind == control::command::CONFIGURE {
                answered |= reports.push(&[], [report::CONFIGURED, token, 0]).is_ok();
                self.configured = true;
            } else if kind == control::command::HEARTBEAT {
                // If the ring is full, the manager repeats the heartbeat or restarts the brane.
                let _ = reports.push(&[], [report::ALIVE, token, 0]);
            }
        }
        commands.release();
        reports.publish();
        if answered && let Some(link) = &self.manager {
            let _ = link.peer_bell().ring(control::CONTROL_BIT);
        }
        answered
    }

    /// Sends the manager an unsolicited report. The caller must notify the manager afterwards.
    pub fn report_unasked(&mut self) {
        let Some(reports) = &mut self.reports else { return };
        // If the ring is full, the manager does not consume the reports any more, which is allowed.
        let _ = reports.push(&[], [report::STATUS, u32::MAX, 0]);
        reports.publish();
        if let Some(link) = &self.manager {
            let _ = link.peer_bell().ring(control::CONTROL_BIT);
        }
    }

    /// Runs one round: forged frames at first, then rubbish. Does nothing (and counts nothing) before the port
    /// is known.
    pub fn round(&mut self) -> Notify {
        if self.mac.is_none() {
            return Notify::default();
        }
        let forges = self.forges();
        self.round += 1;
        if forges {
            self.forge();
            return Notify {
                driver: true,
                manager: false,
            };
        }
        let manager = self.round.is_multiple_of(DRIVER_ROUNDS);
        let link = if manager {
            self.rubbish_for_manager();
            &self.manager
        } else {
            self.rubbish_for_driver();
            &self.driver
        };
        if let Some(link) = link {
            let _ = link.peer_bell().ring(u64::MAX);
        }
        Notify {
            driver: !manager,
            manager,
        }
    }

    fn rubbish_for_driver(&mut self) {
        match (self.incarnation + self.round) % 5 {
            0 => self.bad_frames(),
            1 => {
                let word = self.random.awkward();
                write_word(self.ports, ports::tx_indices(0), word);
            }
            2 => {
                let word = self.random.awkward();
                write_word(self.ports, ports::rx_indices(self.random.below(2)) + 64, word);
            }
            3 => {
                scribble(self.ports, &mut self.random, ports::TX[0].offset, 0x1000);
                write_word(self.ports, ports::tx_indices(0), 0x1000);
            }
            _ => {
                // Everything but the data, including the link's head.
                self.spoilt = Head::save(self.ports);
                scribble(self.ports, &mut self.random, 0, ports::RX[0].offset);
            }
        }
    }

    fn rubbish_for_manager(&mut self) {
        match self.incarnation % 4 {
            0 => self.bad_reports(),
            1 => {
                let (tail, head) = (self.random.awkward(), self.random.awkward());
                write_word(self.ctl, ctl::REPORT_INDICES, tail);
                write_word(self.ctl, ctl::COMMAND_INDICES + 64, head);
            }
            2 => {
                scribble(self.ctl, &mut self.random, ctl::REPORTS.offset, 0x1000);
                write_word(self.ctl, ctl::REPORT_INDICES, 0x1000);
            }
            // Everything but the manager's side of the link's head, which the next incarnation could not
            // restore.
            _ => scribble(
                self.ctl,
                &mut self.random,
                64,
                ctl::REPORTS.offset + ctl::REPORTS.len - 64,
            ),
        }
    }

    fn frame(&mut self, source: MacAddr, payload: &[u8], meta: FrameMeta) {
        self.frame_of(ETHERTYPE, source, payload, meta);
    }

    fn frame_of(&mut self, kind: u16, source: MacAddr, payload: &[u8], meta: FrameMeta) {
        let mut header = [0xff; 14];
        header[6..12].copy_from_slice(&source.0);
        header[12..].copy_from_slice(&kind.to_be_bytes());
        if let Some(tx) = &mut self.tx {
            // If the ring is full, the driver does not consume the frames any more, which is allowed.
            let _ = tx.push(&[&header, payload, &[0; 32]], meta.to_words());
        }
    }

    fn forge(&mut self) {
        let Some(own) = self.mac else { return };
        self.frame(own, HONEST, FrameMeta::default());
        for foreign in FOREIGN {
            if foreign != own {
                self.frame(foreign, FORGED, FrameMeta::default());
            }
        }
        let mut any = own;
        any.0[5] ^= 1 << self.random.below(8);
        self.frame(any, FORGED, FrameMeta::default());
        self.frame(own, HONEST, FrameMeta::default());
        self.claim(own);
        self.rewrite(own);
        self.publish();
    }

    /// Sends frames from the brane's own MAC address with foreign addresses, in every field that a receiver
    /// believes. First sends an honest IPv4 packet.
    fn claim(&mut self, own: MacAddr) {
        let meta = FrameMeta::default();
        for (source, text) in [(OWN_IP, HONEST), (CLAIMED_IP, CLAIMED)] {
            let mut ip = [0; 80];
            let len = (20 + text.len()).min(ip.len());
            // Protocol 253 is for experiments (RFC 3692).
            ip[..12].copy_from_slice(&[0x45, 0, 0, len as u8, 0, 0, 0x40, 0, 1, 253, 0, 0]);
            ip[12..16].copy_from_slice(&source);
            ip[16..20].copy_from_slice(&[255; 4]);
            ip[20..len].copy_from_slice(&text[..len - 20]);
            self.frame_of(0x0800, own, &ip[..len], meta);
        }
        // An ARP request with the sender address of another station.
        let mut arp = [0; 28];
        arp[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        arp[8..14].copy_from_slice(&own.0);
        arp[14..18].copy_from_slice(&CLAIMED_IP);
        arp[24..28].copy_from_slice(&[10, 0, 2, 99]);
        self.frame_of(0x0806, own, &arp, meta);
        // A neighbor advertisement (RFC 4861, 4.4) from the brane's link-local address, about another address.
        let [a, b, c, d, e, f] = own.0;
        let mut ip = [0; 64];
        ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 24, 58, 255]);
        ip[8..16].copy_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        ip[16..24].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        (ip[24], ip[25], ip[39]) = (0xff, 2, 1);
        ip[40] = 136;
        ip[48..].copy_from_slice(&CLAIMED_IP6);
        self.frame_of(0x86dd, own, &ip, meta);
    }

    /// Sends frames from the brane's own addresses, with offload requests by which the device would write other
    /// addresses.
    fn rewrite(&mut self, own: MacAddr) {
        let addresses = Addresses {
            mac: own,
            to: MacAddr::BROADCAST,
            ip: OWN_IP,
            ip6: OWN_IP6,
            claimed: CLAIMED_IP,
        };
        for rewrite in rewrites(addresses) {
            if let Some(tx) = &mut self.tx {
                let _ = tx.push(&[&rewrite.frame], rewrite.meta.to_words());
            }
        }
    }

    fn publish(&mut self) {
        if let Some(tx) = &mut self.tx {
            tx.publish();
        }
        if let Some(link) = &self.driver {
            let _ = link.peer_bell().ring(port_bit(0));
        }
    }

    /// Sends records that are complete but no frames: too short, too long, offload fields that fit nothing.
    fn bad_frames(&mut self) {
        let Some(own) = self.mac else { return };
        for _ in 0..8 {
            let meta = FrameMeta {
                kind: self.random.pick(&[0, 0, 1, 2, 255]),
                flags: self.random.word() as u8 | FLAG_NEEDS_CSUM,
                gso_type: self.random.pick(&[0, GSO_TCPV4, 3, 255]),
                csum_start: self.random.awkward() as u16,
                csum_offset: self.random.awkward() as u16,
                gso_size: self.random.awkward() as u16,
                header_len: self.random.awkward() as u16,
            };
            self.frame(own, MALFORMED, meta);
            if let Some(tx) = &mut self.tx {
                let _ = tx.push(
                    &[&[0xff; 13][..self.random.below(14)]],
                    FrameMeta::default().to_words(),
                );
                let _ = tx.push(&[&[0xff; 4000]], FrameMeta::default().to_words());
            }
        }
        self.publish();
    }

    /// Sends reports that are no CBOR, of no known kind, or for no known request.
    fn bad_reports(&mut self) {
        let mut bytes = [0; control::MAX_MESSAGE + 100];
        self.random.fill(&mut bytes);
        for _ in 0..4 {
            let kind = self
                .random
                .pick(&[report::STATUS, report::REFUSED, report::CONFIGURED, 0, u32::MAX]);
            let len = self.random.below(bytes.len());
            if let Some(reports) = &mut self.reports {
                let _ = reports.push(&[&bytes[..len]], [kind, self.random.awkward(), 0]);
                reports.publish();
            }
        }
    }
}
