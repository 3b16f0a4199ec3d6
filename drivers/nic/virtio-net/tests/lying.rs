//! A device that lies. Used elements have numbers out of range or come twice, lengths exceed the buffer, the index
//! jumps, and the configuration changes at any time. The driver never panics, and reads and writes only inside its
//! region. In one wake it does no more work than it gave buffers, and it stops using a device that returns a buffer it
//! does not have.

mod common;

use brane_abi::port::{FrameMeta, MAX_FRAME};
use common::{Driver, FakeDevice, HostRegion, RX, State, TX};
use nic_switch::{Device, ETHERNET_HEADER, MAX_PARTS, VLAN_TAG};
use proptest::prelude::*;
use virtio_drivers::transport::DeviceStatus;
use virtio_net::Failure;
use virtio_net::header::HEADER;
use virtio_net::memory::{QUEUE, RX_BUFFER};

fn start() -> (FakeDevice, Driver) {
    FakeDevice::start(State::default()).unwrap()
}

/// Receives all frames and returns their number. Each must be inside the region and no longer than a frame.
fn receive(driver: &mut Driver) -> usize {
    let (mut frames, mut turns) = (0, 0);
    while driver.receive(|_, parts| {
        frames += 1;
        assert!((1..=MAX_PARTS).contains(&parts.len()));
        assert!(parts.iter().all(|part| FakeDevice::owns(part)));
        assert!(parts[0].len() >= ETHERNET_HEADER);
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len <= MAX_FRAME + VLAN_TAG, "{len} bytes");
    }) {
        turns += 1;
        assert!(turns <= QUEUE, "more frames than the device had buffers");
    }
    frames
}

fn send(driver: &mut Driver, len: usize) -> bool {
    match driver.reserve(len) {
        Some(buffer) => {
            buffer.fill(7);
            driver.send(len, FrameMeta::default());
            true
        }
        None => false,
    }
}

/// Checks that the driver does not use the device any more.
fn given_up(driver: &mut Driver) {
    assert_eq!(driver.failure(), Some(Failure::UnknownBuffer));
    assert!(!driver.link().up);
    assert_eq!(receive(driver), 0);
    assert!(driver.reserve(60).is_none());
    assert!(!driver.rx_interrupts(true) && !driver.tx_interrupts(true));
    driver.reclaim();
    assert_eq!(driver.refill(), 0);
    HostRegion::check_guards();
}

#[test]
fn a_received_buffer_that_the_device_does_not_have_is_a_failure() {
    // Out of range, no buffer at all, and the lowest 16 bits of such numbers.
    for id in [QUEUE as u32, 0xffff, 0x7fff_ffff, u32::MAX] {
        let (mut device, mut driver) = start();
        device.push_used(RX, id, 60);
        assert_eq!(receive(&mut driver), 0);
        given_up(&mut driver);
    }
}

#[test]
fn a_received_buffer_that_is_returned_twice_is_a_failure() {
    let (mut device, mut driver) = start();
    device.push_used(RX, 5, 60);
    device.push_used(RX, 5, 60);
    assert_eq!(receive(&mut driver), 1, "the first one is a frame");
    given_up(&mut driver);
}

#[test]
fn a_sent_buffer_that_the_device_does_not_have_is_a_failure() {
    for id in [1, QUEUE as u32, 0xffff, u32::MAX] {
        let (mut device, mut driver) = start();
        assert!(send(&mut driver, 60));
        device.push_used(TX, id, 0);
        driver.reclaim();
        given_up(&mut driver);
    }
    let (mut device, mut driver) = start();
    assert!(send(&mut driver, 60));
    device.push_used(TX, 0, 0);
    device.push_used(TX, 0, 0);
    driver.reclaim();
    given_up(&mut driver);
}

#[test]
fn an_index_that_jumps_is_followed_for_as_many_buffers_as_there_are() {
    for by in [QUEUE as u16 + 1, 0x8000, u16::MAX] {
        let (mut device, mut driver) = start();
        // The elements that the jump reveals all name buffer 0.
        device.jump(RX, by);
        assert!(receive(&mut driver) <= 1);
        given_up(&mut driver);
        let (mut device, mut driver) = start();
        assert!(send(&mut driver, 60));
        device.jump(TX, by);
        driver.reclaim();
        given_up(&mut driver);
    }
}

#[test]
fn a_length_beyond_the_buffer_is_cut_to_the_buffer() {
    for len in [RX_BUFFER as u32 + 1, 0x10000, u32::MAX] {
        let (mut device, mut driver) = start();
        assert!(device.deliver(&[0; 100], len));
        let mut got = 0;
        assert!(driver.receive(|_, parts| got = parts.concat().len()));
        assert_eq!(got, RX_BUFFER - HEADER);
        assert_eq!(driver.failure(), None);
    }
}

#[test]
fn a_frame_without_room_for_its_headers_is_dropped_and_counted() {
    let (mut device, mut driver) = start();
    for len in 0..(HEADER + ETHERNET_HEADER) as u32 {
        assert!(device.deliver(&[0; 64], len));
    }
    assert_eq!(receive(&mut driver), 0);
    assert_eq!(driver.counters().rx_malformed as usize, HEADER + ETHERNET_HEADER);
    assert_eq!(driver.failure(), None);
}

#[test]
fn a_frame_of_more_buffers_than_came_is_dropped_and_counted() {
    for buffers in [2u16, 9, u16::MAX] {
        let (mut device, mut driver) = start();
        let mut bytes = [0; 100];
        bytes[10..12].copy_from_slice(&buffers.to_le_bytes());
        assert!(device.deliver(&bytes, 100));
        assert_eq!(receive(&mut driver), 0);
        assert_eq!(driver.counters().rx_malformed, 1);
        assert_eq!(driver.failure(), None);
        driver.refill();
        device.take(RX);
        assert_eq!(device.has[0].len(), QUEUE, "no buffer is lost");
    }
}

#[test]
fn a_configuration_that_is_too_short_says_nothing() {
    let state = State {
        config_len: 4,
        ..State::default()
    };
    let (_, driver) = FakeDevice::start(state).unwrap();
    assert_eq!(driver.mac().0, [0; 6]);
    assert!(!driver.link().up);
}

/// Next action of the device or the driver.
#[derive(Clone, Debug)]
enum Step {
    /// The device returns a receive buffer with these bytes and a length of its own.
    Deliver(Vec<u8>, u32),
    /// The device sends its frames.
    Transmit,
    Used(u16, u32, u32),
    Jump(u16, u16),
    Scribble(u16, usize, [u8; 4]),
    ScribbleOwn(u16, usize, [u8; 4]),
    Config([u8; 8], usize),
    Status(u8),
    /// The driver wakes and has this number of frames of this length to send.
    Wake(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = || 0u16..2;
    let id = || prop_oneof![0u32..300, any::<u32>()];
    let step = prop_oneof![
        4 => (proptest::collection::vec(any::<u8>(), 12..80), prop_oneof![0u32..200, any::<u32>()])
            .prop_map(|(bytes, len)| Step::Deliver(bytes, len)),
        2 => Just(Step::Transmit),
        1 => (queue(), id(), any::<u32>()).prop_map(|(q, id, len)| Step::Used(q, id, len)),
        1 => (queue(), prop_oneof![0u16..4, any::<u16>()]).prop_map(|(q, by)| Step::Jump(q, by)),
        1 => (queue(), 0usize..600, any::<[u8; 4]>()).prop_map(|(q, n, b)| Step::Scribble(q, n, b)),
        1 => (queue(), 0usize..2000, any::<[u8; 4]>()).prop_map(|(q, n, b)| Step::ScribbleOwn(q, n, b)),
        1 => (any::<[u8; 8]>(), 0usize..9).prop_map(|(config, len)| Step::Config(config, len)),
        1 => any::<u8>().prop_map(Step::Status),
        6 => (0usize..40, prop_oneof![0usize..2100, 0usize..=MAX_FRAME + VLAN_TAG])
            .prop_map(|(frames, len)| Step::Wake(frames, len)),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_device_does_the_driver_stays_within_its_bounds(steps in steps()) {
        let (mut device, mut driver) = start();
        let mut failed = None;
        // After the device has overwritten the descriptors, it does not read them any more.
        let mut blind = false;
        for step in steps {
            match step {
                Step::Deliver(bytes, len) => {
                    device.deliver(&bytes, len);
                }
                Step::Transmit if !blind => drop(device.transmit()),
                Step::Transmit => {}
                Step::Used(queue, id, len) => {
                    device.honest = false;
                    device.push_used(queue, id, len);
                }
                Step::Jump(queue, by) => {
                    device.honest = false;
                    device.jump(queue, by);
                }
                Step::Scribble(queue, n, bytes) => device.scribble(queue, n, bytes),
                Step::ScribbleOwn(queue, n, bytes) => {
                    blind = true;
                    device.scribble_own(queue, n, bytes);
                }
                Step::Config(config, len) => {
                    let mut state = device.state.borrow_mut();
                    (state.config, state.config_len) = (config, len);
                    drop(state);
                    device.config_changed();
                }
                Step::Status(bits) => {
                    device.state.borrow_mut().status = DeviceStatus::from_bits_truncate(bits.into());
                    device.config_changed();
                }
                Step::Wake(frames, len) => {
                    driver.interrupt_reason();
                    driver.rx_interrupts(false);
                    receive(&mut driver);
                    driver.reclaim();
                    for _ in 0..frames {
                        if !send(&mut driver, len) {
                            driver.tx_interrupts(true);
                            break;
                        }
                    }
                    driver.kick();
                    driver.rx_interrupts(true);
                    prop_assert!(driver.refill() <= QUEUE);
                    if !blind {
                        device.take(RX);
                    }
                }
            }
            driver.mac();
            if failed.is_some() {
                prop_assert_eq!(driver.failure(), failed, "a failure is final");
                prop_assert!(!driver.link().up);
                prop_assert_eq!(receive(&mut driver), 0);
                prop_assert!(driver.reserve(60).is_none());
            }
            failed = driver.failure();
            let honest = device.honest && !device.state.borrow().status.contains(DeviceStatus::DEVICE_NEEDS_RESET);
            prop_assert!(failed.is_none() || !honest || failed == Some(Failure::NeedsReset));
        }
        HostRegion::check_guards();
    }
}
