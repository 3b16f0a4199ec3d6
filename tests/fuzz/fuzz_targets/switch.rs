//! Fuzz target: the vif switch between hostile branes, a hostile wire, and a manager that makes mistakes. The
//! input is a list of steps, and the driver runs after each. Brane 3 is honest: its rings must always stay
//! valid, and no frame with a group source address may leave.
#![no_main]

#[path = "../../../drivers/nic/switch/tests/common/mod.rs"]
mod common;

use brane_abi::layout::ports;
use brane_abi::net::MacAddr;
use brane_abi::port::FrameMeta;
use brane_abi::shared::SharedRegion;
use brane_abi::vif::{self, DeviceInfo, MODE_BRIDGE};
use common::{BRANES, Bench, BraneSide, frame, mac};
use libfuzzer_sys::fuzz_target;
use virtio_net::header::{self, Header, Receive};
use zerocopy::FromBytes;

const HONEST: usize = BRANES - 1;
const STEPS: usize = 64;

thread_local! {
    static REGIONS: [SharedRegion; BRANES] = std::array::from_fn(|_| common::region());
}

/// The input, consumed piece by piece. Returns zeros after its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> usize {
        self.array::<1>()[0].into()
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }
    fn number(&mut self) -> usize {
        u16::from_le_bytes(self.array()).into()
    }
    fn words(&mut self) -> [u32; 3] {
        std::array::from_fn(|_| u32::from_le_bytes(self.array()))
    }
    fn address(&mut self) -> MacAddr {
        match self.byte() {
            n @ 0..=7 => mac(n),
            8 => MacAddr::BROADCAST,
            _ => MacAddr(self.array()),
        }
    }
}

fn clean(region: SharedRegion) {
    let heads = [(0, 0x2000)];
    let data = ports::RX
        .iter()
        .chain(&ports::TX)
        .map(|part| (part.offset, 0x1000));
    for (offset, len) in heads.into_iter().chain(data) {
        let part = region.part(offset, len).expect("inside the region");
        // SAFETY: `part` is inside the region, and no object of the previous run is alive.
        unsafe { part.base().write_bytes(0, len) };
    }
}

fn scribble(region: SharedRegion, offset: usize, bytes: [u8; 4]) {
    let part = region.part(offset, 4).expect("inside the region");
    // SAFETY: `part` is inside the region, and there is only one thread.
    unsafe { part.base().copy_from_nonoverlapping(bytes.as_ptr(), 4) }
}

fuzz_target!(|data: &[u8]| {
    let regions = REGIONS.with(|regions| *regions);
    regions.into_iter().for_each(clean);
    let mut bench = Bench::in_regions([MODE_BRIDGE; BRANES], regions);
    let mut input = Input(data);
    for _ in 0..STEPS {
        if input.0.is_empty() {
            break;
        }
        let what = input.byte();
        let brane = what / 16 % HONEST;
        match what % 8 {
            0 => scribble(regions[brane], 4 * (input.byte() % 64), input.array()),
            1 => scribble(regions[brane], 0x1000 + 64 * (input.byte() % 8), input.array()),
            2 => scribble(
                regions[brane],
                ports::TX[0].offset + 4 * input.byte(),
                input.array(),
            ),
            3 => {
                let mut sent = frame(input.address(), input.address(), input.number(), 0);
                let meta = FrameMeta::from_words(input.words());
                let head: [u8; 48] = input.array();
                let n = head.len().min(sent.len() - 12);
                sent[12..12 + n].copy_from_slice(&head[..n]);
                bench.branes[brane].send(what / 64 % 2, &sent, meta);
            }
            4 => {
                let header: Header = Header::read_from_bytes(&input.array::<12>()).expect("12 bytes");
                let receive = Receive {
                    csum: true,
                    tso4: true,
                    tso6: true,
                };
                let came = frame(input.address(), input.address(), input.number(), 0);
                if let Some(meta) = header::parse(&header, came.len(), receive) {
                    bench.device.received.push_back((meta, vec![came]));
                }
            }
            5 => {
                let label = input.byte() as u64 % 8;
                let mut message = [0; 960];
                message[..64].copy_from_slice(&input.array::<64>());
                let len = match label {
                    vif::SET_LIMITS => message.len(),
                    _ => input.byte() % 17,
                };
                // The honest brane keeps its vif, without limits.
                let honest = matches!(label, vif::REMOVE_VIF | vif::UNBIND_VIF | vif::SET_LIMITS)
                    && message[0] as usize == HONEST;
                if !honest {
                    bench
                        .switch
                        .call(label, len, &mut message, DeviceInfo::default(), &mut bench.device);
                }
            }
            6 => bench.branes[brane] = BraneSide::start(regions[brane]),
            _ => bench.device.room = input.byte(),
        }
        bench.branes[HONEST].send(
            0,
            &frame(MacAddr([2; 6]), mac(HONEST), 60, 0),
            FrameMeta::default(),
        );
        bench.run();
        bench.branes[HONEST].frames(0);
        bench.device.sent.clear();
        bench.device.room = usize::MAX;
        bench.run();
        let own = |(_, f): &(FrameMeta, Vec<u8>)| f.len() >= 14 && f[6] & 1 == 0;
        assert!(bench.device.sent.iter().all(own));
        bench.device.sent.clear();
        assert_eq!(
            bench.switch.vif_counters(HONEST as u32).map(|c| c.peer_errors),
            Ok(0)
        );
    }
});
