//! The driver with a device that complies with the protocol, and with one that lies.

mod common;

use common::Bench;
use line_core::control::{CONTROL_RX, CONTROL_TX};
use line_core::device::{Failure, Features, PORT, RX, StartError, TX};
use line_core::memory::{CONTROL, QUEUE, RX_BUFFER, TX_BUFFER, TX_BUFFERS};
use line_core::pump::Pass;
use proptest::prelude::*;
use virtio_drivers::transport::{DeviceStatus, InterruptStatus};

fn message(port: u32, event: u16, value: u16) -> Vec<u8> {
    [
        &port.to_le_bytes()[..],
        &event.to_le_bytes(),
        &value.to_le_bytes(),
    ]
    .concat()
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + seed) as u8).collect()
}

const NOTHING: Pass = Pass {
    notify: false,
    more: false,
};

#[test]
fn the_port_is_opened_once_when_the_device_adds_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.fake.take(CONTROL_TX), Some(message(u32::MAX, 0, 1)));
    for _ in 0..2 * CONTROL {
        // Another port, an unknown event, and a message that is too short: nothing is opened.
        assert!(bench.fake.deliver(CONTROL_RX, &message(PORT + 1, 1, 1), 8));
        assert!(bench.fake.deliver(CONTROL_RX, &message(PORT, 77, 1), 8));
        assert!(bench.fake.deliver(CONTROL_RX, &message(PORT, 1, 1), 7));
        bench.pump.pass(&mut bench.driver);
    }
    assert_eq!(bench.fake.take(CONTROL_TX), None);
    for _ in 0..2 * CONTROL {
        assert!(bench.fake.deliver(CONTROL_RX, &message(PORT, 1, 1), 8));
        bench.pump.pass(&mut bench.driver);
    }
    let sent: Vec<_> = std::iter::from_fn(|| bench.fake.take(CONTROL_TX)).collect();
    assert_eq!(sent, [message(PORT, 3, 1), message(PORT, 6, 1)]);
}

#[test]
fn a_device_without_ports_or_of_another_version_is_refused() {
    for offered in [Features::VERSION_1, Features::MULTIPORT] {
        let refused = Bench::with(offered).err();
        assert_eq!(refused, Some(StartError::Features(offered)));
    }
}

#[test]
fn bytes_pass_unchanged_in_both_directions() {
    let mut bench = Bench::new();
    let all = bytes(3 * TX_BUFFERS * TX_BUFFER, 0);
    let (mut given, mut sent, mut received) = (0, Vec::new(), Vec::<u8>::new());
    let mut passes = 0;
    while sent.len() < all.len() || received.len() < all.len() {
        passes += 1;
        assert!(passes < 1000, "{} of {} bytes", sent.len(), all.len());
        let done = bench.output.write(&all[given..]).unwrap();
        given += done;
        let from = received.len();
        let mut buffer = vec![0; 3 * RX_BUFFER];
        for chunk in all[from..all.len().min(from + 5000)].chunks(1001) {
            assert!(bench.fake.deliver(RX, chunk, chunk.len() as u32));
        }
        bench.pump.pass(&mut bench.driver);
        let count = bench.input.read(&mut buffer).unwrap();
        received.extend(&buffer[..count]);
        sent.extend(std::iter::from_fn(|| bench.fake.take(TX)).flatten());
    }
    assert!(sent == all && received == all);
    assert_eq!(bench.pump.pass(&mut bench.driver), NOTHING);
    assert!(bench.fake.suppressed(TX) && !bench.fake.suppressed(RX));
}

#[test]
fn a_device_that_keeps_the_buffers_stops_the_ring_and_interrupts_when_it_returns_one() {
    let mut bench = Bench::new();
    let all = bytes(2 * TX_BUFFERS * TX_BUFFER, 1);
    let given = bench.output.write(&all).unwrap();
    assert_eq!(
        given,
        TX_BUFFERS * TX_BUFFER,
        "the ring holds as much as the buffers"
    );
    let pass = bench.pump.pass(&mut bench.driver);
    assert_eq!((pass.notify, pass.more), (true, false));
    assert!(bench.fake.suppressed(TX), "nothing waits");
    assert_eq!(bench.output.write(&all[given..]).unwrap(), given);
    for _ in 0..3 {
        assert_eq!(bench.pump.pass(&mut bench.driver), NOTHING);
    }
    assert_eq!(bench.output.write(&[1]).unwrap(), 0);
    assert!(!bench.fake.suppressed(TX), "the ring waits for a buffer");
    let first = bench.fake.take(TX).unwrap();
    assert_eq!(first, all[..TX_BUFFER]);
    let pass = bench.pump.pass(&mut bench.driver);
    assert_eq!((pass.notify, pass.more), (true, false));
    assert_eq!(bench.output.write(&[1; 2 * TX_BUFFER]).unwrap(), TX_BUFFER);
}

#[test]
fn a_ring_that_nobody_reads_stops_the_device() {
    let mut bench = Bench::new();
    let mut delivered = Vec::new();
    let mut stopped = 0;
    while stopped < 3 {
        let chunk = bytes(RX_BUFFER, delivered.len() / RX_BUFFER);
        if bench.fake.deliver(RX, &chunk, RX_BUFFER as u32) {
            delivered.extend(chunk);
            stopped = 0;
        } else {
            stopped += 1;
        }
        let pass = bench.pump.pass(&mut bench.driver);
        assert!(!pass.more);
    }
    let mut received: Vec<u8> = Vec::new();
    let mut buffer = [0; 999];
    loop {
        let count = bench.input.read(&mut buffer).unwrap();
        received.extend(&buffer[..count]);
        bench.pump.pass(&mut bench.driver);
        if count == 0 {
            break;
        }
    }
    assert!(delivered.len() > QUEUE * RX_BUFFER && received == delivered);
}

#[test]
fn a_device_that_lies_about_buffers_or_asks_for_a_reset_has_failed() {
    let lies: [fn(&mut Bench); 4] = [
        |bench| bench.fake.push_used(TX, 3, 0),
        |bench| bench.fake.push_used(RX, QUEUE as u32, 1),
        |bench| {
            bench.output.write(b"text").unwrap();
            bench.pump.pass(&mut bench.driver);
            let (id, ..) = bench.fake.next(TX).unwrap();
            bench.fake.push_used(TX, id.into(), 0);
            bench.fake.push_used(TX, id.into(), 0);
        },
        |bench| bench.fake.push_used(CONTROL_RX, u32::MAX, 8),
    ];
    for lie in lies {
        let mut bench = Bench::new();
        lie(&mut bench);
        bench.pump.pass(&mut bench.driver);
        assert_eq!(bench.driver.failure(), Some(Failure::UnknownBuffer));
        let _ = bench.output.write(b"text");
        assert!(!bench.pump.pass(&mut bench.driver).more);
        assert_eq!(bench.fake.take(TX), None);
    }
    let mut bench = Bench::new();
    bench.fake.0.borrow_mut().status |= DeviceStatus::DEVICE_NEEDS_RESET;
    bench.fake.0.borrow_mut().interrupt = InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT;
    bench.driver.acknowledge();
    assert_eq!(bench.driver.failure(), Some(Failure::NeedsReset));
}

#[test]
fn a_length_beyond_the_buffer_is_cut() {
    let mut bench = Bench::new();
    assert!(bench.fake.deliver(RX, &bytes(RX_BUFFER, 5), u32::MAX));
    bench.pump.pass(&mut bench.driver);
    let mut buffer = vec![0; 2 * RX_BUFFER];
    assert_eq!(bench.input.read(&mut buffer).unwrap(), RX_BUFFER);
    assert_eq!(buffer[..RX_BUFFER], bytes(RX_BUFFER, 5));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// The device returns any buffers with any lengths and overwrites its rings. No pass panics, reaches outside of the region, or
    /// moves more than the buffers hold.
    #[test]
    fn whatever_the_device_does_a_pass_is_bounded(
        steps in proptest::collection::vec((0..4_u8, 0..6_u16, any::<u32>(), any::<u32>()), 1..60)
    ) {
        let mut bench = Bench::new();
        for (step, queue, a, b) in steps {
            let queue = [RX, TX, CONTROL_RX, CONTROL_TX, RX, TX][usize::from(queue)];
            match step {
                0 => bench.fake.push_used(queue, a % 40, b % 10_000),
                1 => bench.fake.scribble(queue, a.into(), b.to_le_bytes()),
                2 => {
                    // A device that scribbled may have spoilt the descriptors, which are in its memory.
                    let _ = bench.output.write(&bytes((a % 100_000) as usize, 0));
                }
                _ => {
                    let mut buffer = vec![0; (a % 100_000) as usize];
                    bench.input.read(&mut buffer).unwrap();
                }
            }
            let before = bench.input.available().unwrap();
            bench.pump.pass(&mut bench.driver);
            let moved = bench.input.available().unwrap() - before;
            prop_assert!(moved <= QUEUE * RX_BUFFER);
            prop_assert!(!bench.pump.is_quarantined());
        }
    }
}
