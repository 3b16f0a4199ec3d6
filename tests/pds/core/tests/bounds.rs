//! Tests of the hostile programs: they do what their descriptions state, reach no byte outside of their
//! regions, and repeat.

use brane_abi::control::{command, report};
use brane_abi::layout::{ctl, ports, sock};
use brane_abi::link::{Link, LinkState, Side};
use brane_abi::net::MacAddr;
use brane_abi::port::{FrameMeta, KIND_INFO, PortInfo};
use brane_abi::ring::{Consumer, Producer, RingIndices};
use brane_abi::shared::SharedRegion;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use test_pds_core::brane::{ETHERTYPE, FORGED, FORGING_ROUNDS, HONEST, HostileBrane};
use test_pds_core::client::{HostileClient, KINDS};
use zerocopy::IntoBytes;

const GUARD: usize = 4096;

/// A region between two guards.
struct Fenced(NonNull<u8>, usize);

impl Fenced {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len + 2 * GUARD, GUARD).unwrap()
    }
    fn new(len: usize) -> Fenced {
        // SAFETY: the layout has a size above zero.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::layout(len)) }).unwrap();
        Fenced(base, len)
    }
    fn region(&self) -> SharedRegion {
        // SAFETY: inside the allocation, which lives as long as `self`. The tests keep it longer than its
        // users.
        unsafe { SharedRegion::new(self.0.add(GUARD), self.1) }
    }
    fn bytes(&self) -> &[u8] {
        // SAFETY: the whole allocation. Nothing writes to it while the slice is used.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.1 + 2 * GUARD) }
    }
    fn fences_stand(&self) -> bool {
        let bytes = self.bytes();
        bytes[..GUARD]
            .iter()
            .chain(&bytes[GUARD + self.1..])
            .all(|&b| b == 0)
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.0.as_ptr(), Self::layout(self.1)) }
    }
}

fn indices(region: SharedRegion, at: usize) -> &'static RingIndices {
    // SAFETY: `RingIndices` consists of atomics only.
    unsafe { region.object(at) }.unwrap()
}

fn client_rounds(seed: u64) -> Vec<u8> {
    let memory = Fenced::new(sock::SIZE);
    let mut client = HostileClient::new(memory.region(), seed);
    let mut connected = 0;
    for _ in 0..200 * KINDS {
        client.start_over();
        let mut brane = Link::start(memory.region(), Side::A).unwrap();
        client.connect();
        if brane.poll() == LinkState::PeerRestarted {
            brane.acknowledge();
        }
        connected += u64::from(client.connect());
        assert!(client.round() > 0);
    }
    assert!(
        connected > 150 * KINDS,
        "most rounds start with a link that is up: {connected}"
    );
    assert!(memory.fences_stand());
    memory.bytes().to_vec()
}

#[test]
fn the_client_stays_in_its_region_and_repeats() {
    let first = client_rounds(1);
    assert!(first == client_rounds(1), "the same seed does the same");
    assert!(first != client_rounds(2), "another seed does something else");
}

#[test]
fn the_brane_behaves_first_then_forges_then_writes_rubbish() {
    let (port_memory, ctl_memory) = (Fenced::new(ports::SIZE), Fenced::new(ctl::SIZE));
    let (p, c) = (port_memory.region(), ctl_memory.region());
    let mut brane = HostileBrane::new(p, c, 0);
    brane.start();
    assert!(!brane.round().driver, "nothing before the port is known");
    let mut driver = Link::start(p, Side::A).unwrap();
    let mut manager = Link::start(c, Side::A).unwrap();
    brane.behave();
    for link in [&mut driver, &mut manager] {
        assert_eq!(link.poll(), LinkState::PeerRestarted);
        link.acknowledge();
        assert_eq!(link.poll(), LinkState::Up);
    }

    let own = MacAddr([2, 0x77, 0, 0, 0, 2]);
    let mut to_brane = Producer::new(
        indices(p, ports::rx_indices(0)),
        p.part(ports::RX[0].offset, ports::RX[0].len).unwrap(),
    )
    .unwrap();
    let info = PortInfo {
        bound: 1,
        mac: own,
        ..PortInfo::default()
    };
    let meta = FrameMeta {
        kind: KIND_INFO,
        ..FrameMeta::default()
    };
    to_brane.push(&[info.as_bytes()], meta.to_words()).unwrap();
    to_brane.publish();
    let mut commands = Producer::new(
        indices(c, ctl::COMMAND_INDICES),
        c.part(ctl::COMMANDS.offset, ctl::COMMANDS.len).unwrap(),
    )
    .unwrap();
    commands.push(&[b"any"], [command::CONFIGURE, 77, 0]).unwrap();
    commands.publish();
    assert!(brane.behave().manager);
    assert_eq!(brane.mac(), Some(own));
    let mut reports = Consumer::new(
        indices(c, ctl::REPORT_INDICES),
        c.part(ctl::REPORTS.offset, ctl::REPORTS.len).unwrap(),
    )
    .unwrap();
    assert_eq!(
        reports.take(|r| (r.meta, r.len())),
        Ok(Some(([report::CONFIGURED, 77, 0], 0)))
    );

    let mut frames = Consumer::new(
        indices(p, ports::tx_indices(0)),
        p.part(ports::TX[0].offset, ports::TX[0].len).unwrap(),
    )
    .unwrap();
    for _ in 0..FORGING_ROUNDS {
        brane.round();
        let (mut honest, mut forged, mut claims) = (0, 0, 0);
        while let Some(frame) = frames.take(|r| r.copy_to(&mut [0; 2048]).to_vec()).unwrap() {
            let payload = &frame[14..];
            if frame[6..12] == own.0 && frame[12..14] != ETHERTYPE.to_be_bytes() {
                claims += 1;
            } else if frame[6..12] == own.0 {
                assert!(payload.starts_with(HONEST));
                honest += 1;
            } else {
                assert!(payload.starts_with(FORGED));
                forged += 1;
            }
        }
        frames.release();
        assert_eq!((honest, forged, claims), (2, 7, 7));
    }
    let (mut caught, mut managed) = (false, 0);
    for _ in 0..600 {
        brane.behave();
        let notify = brane.round();
        assert!(notify.driver != notify.manager);
        managed += u64::from(notify.manager);
        caught |= frames.peek().is_err();
        brane.start_over();
    }
    assert!(caught, "the rubbish is seen as such");
    assert_eq!(managed, 25, "the manager gets its share");
    assert!(port_memory.fences_stand() && ctl_memory.fences_stand());
}
