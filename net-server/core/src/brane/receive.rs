//! Frames into the brane: from the rings of its ports, and from `lo0`.
//!
//! The driver is trusted for keeping frames apart: what stands in a port's ring after a [`PortInfo`] is for the vif that it
//! names, and goes to the interface over that vif or to nobody.

use super::{Brane, FRAME_BUDGET, LOOP_BUDGET};
use crate::eth::device::Tx;
use crate::family::Life;
use crate::ip::identification::Disguise;
use crate::link::client::{self, Client};
use crate::stack::{Known, Received, Stack};
use crate::transport::udp::rx_flow_cache::Delivery;
use alloc::boxed::Box;
use brane_abi::port::{self, FrameMeta, PortInfo};
use brane_abi::ring::RingError;
use zerocopy::FromBytes;

impl Brane {
    /// Takes frames from the drivers; `true` when there may be more.
    pub(super) fn receive(&mut self, now: u64) -> bool {
        let mut more = false;
        for nic in 0..self.ports.len() {
            more |= self.receive_from(now, nic);
        }
        more
    }

    fn receive_from(&mut self, now: u64, nic: usize) -> bool {
        let ports = &mut self.ports[nic];
        ports.pending |= ports.endpoint.wake();
        if !ports.poll(&mut self.stack.net.counters) {
            self.take_rings_back(nic);
            let ports = &mut self.ports[nic];
            ports.endpoint.accept();
            ports.poll(&mut self.stack.net.counters);
        }
        if !self.ports[nic].endpoint.is_up() {
            return false;
        }
        let mut more = false;
        for p in 0..self.ports_per_nic {
            if self.ports[nic].pending & port::port_bit(p) == 0 {
                continue;
            }
            let mut taken = 0;
            while taken < FRAME_BUDGET {
                let port = self.ports[nic].port(p);
                let record = match port.rx.peek() {
                    Ok(Some(record)) => record,
                    Ok(None) => break,
                    Err(_) => {
                        let violation = self.ports[nic].endpoint.violation();
                        self.stack.net.counters.driver_errors += u64::from(violation);
                        return false;
                    }
                };
                taken += 1;
                let size = brane_abi::ring::Consumer::size_of(&record);
                let meta = FrameMeta::from_words(record.meta);
                // SAFETY: the driver is trusted not to touch a record that it has published.
                let frame = unsafe { record.as_slice() };
                if meta.kind == port::KIND_FRAME {
                    if let Some(index) = port.user {
                        let intact = meta.flags & (port::FLAG_NEEDS_CSUM | port::FLAG_DATA_VALID) != 0;
                        self.stack.net.counters.rx_frames += 1;
                        self.stack.net.counters.rx_bytes += frame.len() as u64;
                        hand_in(&mut self.stack, &mut self.clients, now, index, frame, intact);
                    }
                    self.ports[nic].port(p).rx.pop(size);
                } else {
                    let info = PortInfo::read_from_bytes(frame).ok();
                    self.ports[nic].port(p).rx.pop(size);
                    if let Some(info) = info {
                        self.ports[nic].port(p).info = Some(info);
                        self.bind(now, nic, p);
                    }
                }
            }
            self.ports[nic].port(p).rx.release();
            if taken == FRAME_BUDGET {
                more = true;
            } else {
                self.ports[nic].pending &= !port::port_bit(p);
            }
        }
        more
    }

    /// Joins a port and the interface that it is to carry, where the driver has said that the port is for that one. A binding
    /// that a detached interface had is nobody's.
    pub(super) fn bind(&mut self, now: u64, nic: usize, p: usize) {
        let port = self.ports[nic].port(p);
        port.user = None;
        let (Some(index), Some(info)) = (self.stack.net.at_port(nic * self.ports_per_nic + p), port.info)
        else {
            return;
        };
        let seed = self.stack.net.random();
        let disguise = Disguise::new(self.stack.net.rng());
        let netif = &mut self.stack.net.netifs[index];
        netif.tx.count(&mut self.stack.net.counters);
        let serves = matches!(self.life, Life::Started(_) | Life::Draining(_));
        if serves && netif.fits(&info) && port.retired != Some(info.generation) {
            let Some(mut ring) = netif.tx.detach().or_else(|| port.tx.take()) else {
                return;
            };
            if netif.binding() != Some(info.generation) {
                // Answers to what came by the binding before.
                ring.retract();
                self.stack.externals.forget(index);
            }
            let mut tx = Tx::port(ring, info.features, usize::from(info.mtu));
            tx.disguise = Some(Box::new(disguise));
            port.user = Some(index);
            netif.bind(info, tx, seed, now);
            self.stack.attach_outlets();
        } else if let Some(ring) = netif.unbind() {
            port.tx = Some(ring);
        }
        self.addresses_changed();
    }

    fn take_rings_back(&mut self, nic: usize) {
        self.stack.invalidate_caches();
        let per_nic = self.ports_per_nic;
        for (_, netif) in self.stack.net.netifs.iter_mut() {
            let port = netif.port().filter(|port| port / per_nic == nic);
            if let Some(port) = port
                && let Some(ring) = netif.unbind()
            {
                self.ports[nic].port(port % per_nic).tx = Some(ring);
            }
        }
    }

    /// Hands over what was sent to `lo0`; `true` when there was anything.
    pub(super) fn looped(&mut self, now: u64) -> bool {
        let mut any = false;
        for _ in 0..LOOP_BUDGET {
            let Some(packet) = self.stack.net.netifs[0].tx.take_looped() else {
                break;
            };
            any = true;
            hand_in(&mut self.stack, &mut self.clients, now, 0, &packet, true);
            self.stack.net.netifs[0].tx.give_back(packet);
        }
        any
    }
}

/// A frame has come in: to the stack with it, and to the client whose datagram it is.
pub(super) fn hand_in(
    stack: &mut Stack,
    clients: &mut [Client],
    now: u64,
    index: usize,
    frame: &[u8],
    intact: bool,
) {
    if intact && let Some(known) = stack.known(now, index, frame) {
        let Known::Datagram(delivery, payload) = known else {
            return;
        };
        let client = delivery.client;
        let done = clients[client].deliver(delivery, payload);
        return note(stack, clients, now, client, done);
    }
    let outcome = stack.frame(now, index, frame, intact);
    client::lose_evicted(now, stack, clients);
    match outcome {
        Received::Done => {}
        Received::Datagram(delivery, payload) => {
            deliver(stack, clients, now, &delivery, &frame[payload]);
        }
        Received::Reassembled => {
            let whole = stack.take_whole(index, frame);
            hand_in_whole(stack, clients, now, index, &whole, false);
            stack.give_back(whole);
        }
        Received::Stripped { intact } => {
            let stripped = stack.take_stripped();
            hand_in_whole(stack, clients, now, index, &stripped, intact);
            stack.give_back_stripped(stripped);
        }
    }
}

/// A packet has come in a second time, put together from fragments or without its extension headers. It is no fragment and has no
/// such headers any more, so it does not come again.
fn hand_in_whole(
    stack: &mut Stack,
    clients: &mut [Client],
    now: u64,
    index: usize,
    whole: &[u8],
    intact: bool,
) {
    if let Received::Datagram(delivery, payload) = stack.frame(now, index, whole, intact) {
        deliver(stack, clients, now, &delivery, &whole[payload]);
    }
}

fn deliver(stack: &mut Stack, clients: &mut [Client], now: u64, delivery: &Delivery, payload: &[u8]) {
    let done = clients[delivery.client].deliver(delivery, payload);
    note(stack, clients, now, delivery.client, done);
}

#[inline]
fn note(stack: &mut Stack, clients: &mut [Client], now: u64, client: usize, done: Result<bool, RingError>) {
    match done {
        Ok(delivered) => stack.net.counters.udp_received += u64::from(delivered),
        Err(error) => clients[client].undelivered(now, stack, error),
    }
}
