//! Branes on one NIC: the real switch of the driver between them, and a host outside that sends raw frames.

use super::*;
use brane_abi::port::FLAG_DATA_VALID;
use brane_abi::vif::{AddVif, BindVif, MODE_BRIDGE};
use nic_switch::{Device, Link as WireLink, Switch};
use std::collections::VecDeque;

pub const MEMBERS: usize = 3;

/// The outside of the NIC.
#[derive(Default)]
pub struct Outside {
    /// On their way in.
    pub coming: VecDeque<Vec<u8>>,
    /// What came out.
    pub sent: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Device for Outside {
    fn receive(&mut self, deliver: impl FnOnce(FrameMeta, &[&[u8]])) -> bool {
        let Some(frame) = self.coming.pop_front() else {
            return false;
        };
        // As a device that verifies checksums says of them, which lets the branes take their short way in.
        let meta = FrameMeta {
            flags: FLAG_DATA_VALID,
            ..FrameMeta::default()
        };
        deliver(meta, &[&frame]);
        true
    }
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        self.buffer = vec![0; len];
        Some(&mut self.buffer)
    }
    fn send(&mut self, len: usize, _: FrameMeta) {
        assert_eq!(len, self.buffer.len());
        self.sent.push(std::mem::take(&mut self.buffer));
    }
    fn kick(&mut self) {}
}

/// One brane with its manager and its client.
pub struct Member {
    pub brane: Brane,
    pub manager: Manager,
    pub stack: NetClient,
    pub executor: Executor,
    pub config: BraneConfig,
    ports: SharedRegion,
}

/// Several of them on a NIC.
pub struct Net {
    pub clock: Clock,
    pub switch: Switch<MEMBERS, 2>,
    pub outside: Outside,
    pub members: Vec<Member>,
    token: u32,
}

pub fn mac(end: u8) -> MacAddr {
    MacAddr([2, 0x77, 0, 0, 0, end])
}

impl Net {
    pub fn new() -> Net {
        let clock = Clock(Rc::new(Cell::new(SECOND)));
        let mut switch = Switch::new();
        switch.set_link(WireLink {
            features: 0,
            mtu: 1500,
            up: true,
        });
        let members = (0..MEMBERS)
            .map(|n| {
                let [ports, control, client] = [memory(ports::SIZE), memory(ctl::SIZE), memory(sock::SIZE)];
                assert!(switch.attach(n, ports));
                let seed = [n as u8 + 1; 32];
                Member {
                    brane: Brane::start(seed, clock.now(), &[ports], control, &[client]).unwrap(),
                    manager: Manager::start(control),
                    stack: NetClient::start(client, Box::new(clock.clone())).unwrap(),
                    executor: Executor::new(),
                    config: BraneConfig {
                        id: n as u32,
                        name: format!("brane{n}"),
                        ..BraneConfig::default()
                    },
                    ports,
                }
            })
            .collect();
        Net {
            clock,
            switch,
            outside: Outside::default(),
            members,
            token: 100,
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    pub fn add_vif(&mut self, vif: u32) {
        let request = AddVif {
            vif,
            mode: MODE_BRIDGE,
            mac: mac(vif as u8),
            ..AddVif::default()
        };
        self.switch.add(request).unwrap();
    }

    pub fn bind(&mut self, vif: u32, brane: u32, port: u32) {
        self.switch.bind(BindVif { vif, brane, port }).unwrap();
    }

    /// The driver alone works.
    pub fn drive(&mut self) {
        let now = self.now();
        // Nobody else wants the processor, so a brane that waits has its turn at once.
        self.switch.turn_came(now);
        self.switch.wake((1 << MEMBERS) - 1, &|| now);
        while !self.switch.receive(&mut self.outside, 64) {}
        while !self.switch.transmit(&mut self.outside, &|| now) {}
        self.switch.flush();
    }

    /// Lets one brane with its manager and client work until it rests.
    pub fn settle(&mut self, n: usize) {
        let now = self.now();
        let member = &mut self.members[n];
        let mut idle = 0;
        for _ in 0..200 {
            if member.manager.look() {
                let text = minicbor::to_vec(&member.config).unwrap();
                member.manager.command(command::CONFIGURE, 1, &text);
            }
            let turn = member.brane.turn(now, |_| {});
            member.stack.run(&member.executor);
            idle = if turn.more || !member.brane.arm() {
                0
            } else {
                idle + 1
            };
            if idle == 2 {
                return;
            }
        }
        panic!("brane {n} does not come to rest");
    }

    /// Everybody works for a while, in steps of a millisecond.
    pub fn run(&mut self, time: u64) {
        let end = self.now() + time;
        loop {
            for _ in 0..4 {
                self.drive();
                (0..MEMBERS).for_each(|n| self.settle(n));
            }
            self.drive();
            if self.now() >= end {
                return;
            }
            self.clock.0.set(self.now() + MS);
        }
    }

    /// Gives a brane an order and returns its answer.
    pub fn order(&mut self, n: usize, kind: u32, payload: &[u8]) -> Result<(), String> {
        self.token += 1;
        while self.members[n].manager.report().is_some() {}
        self.members[n].manager.command(kind, self.token, payload);
        self.settle(n);
        let (kind, token, text) = self.members[n].manager.report().expect("an answer");
        assert_eq!(token, self.token);
        match kind {
            report::DONE => Ok(()),
            report::REFUSED => Err(String::from_utf8(text).unwrap()),
            other => panic!("unexpected report {other}"),
        }
    }

    pub fn attach(&mut self, n: usize, interface: &InterfaceConfig) -> Result<(), String> {
        self.order(n, command::ATTACH, &minicbor::to_vec(interface).unwrap())
    }

    pub fn detach(&mut self, n: usize, name: &str) -> Result<(), String> {
        self.order(n, command::DETACH, name.as_bytes())
    }

    pub fn adjust(&mut self, n: usize, interface: &InterfaceConfig) -> Result<(), String> {
        self.order(n, command::ADJUST, &minicbor::to_vec(interface).unwrap())
    }

    pub fn spawn<T: 'static>(
        &self,
        n: usize,
        task: impl Future<Output = T> + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let task = async move {
            let value = task.await;
            *slot.borrow_mut() = Some(value);
        };
        self.members[n].executor.spawn(task).detach();
        result
    }

    /// Runs until the task is done; fails after `limit` of virtual time.
    pub fn until<T>(&mut self, task: &Rc<RefCell<Option<T>>>, limit: u64) -> T {
        let end = self.now() + limit;
        loop {
            if let Some(value) = task.borrow_mut().take() {
                return value;
            }
            assert!(self.now() < end, "not done in {limit} ns");
            self.run(MS);
        }
    }

    /// The region of a brane's ports.
    pub fn ports(&self, n: usize) -> SharedRegion {
        self.members[n].ports
    }
}
