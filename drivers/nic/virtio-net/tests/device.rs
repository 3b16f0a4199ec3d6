//! The driver with a device that complies with the protocol: frames pass unchanged, and each buffer has one owner at a
//! time.

mod common;

use brane_abi::net::MacAddr;
use brane_abi::port::{
    FEATURE_TSO4, FEATURE_TX_CSUM, FLAG_NEEDS_CSUM, FrameMeta, GSO_NONE, GSO_TCPV4, MAX_FRAME,
};
use common::{Driver, FakeDevice, HostRegion, LINK_UP, MAC, RX, State, TX};
use nic_switch::{Device, VLAN_TAG};
use virtio_drivers::transport::DeviceStatus;
use virtio_net::header::HEADER;
use virtio_net::memory::{LARGE, QUEUE, RX_BUFFER, SMALL, SMALL_BYTES};
use virtio_net::{Failure, Features, StartError};

fn start() -> (FakeDevice, Driver) {
    FakeDevice::start(State::default()).unwrap()
}

/// Returns a frame of `len` bytes that differs from the frames of other marks.
fn frame(len: usize, mark: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + mark * 13) as u8).collect()
}

/// Receives all frames. Returns their metas and bytes.
fn receive(driver: &mut Driver) -> Vec<(FrameMeta, Vec<u8>)> {
    let mut frames = Vec::new();
    while driver.receive(|meta, parts| {
        assert!(parts.iter().all(|part| FakeDevice::owns(part)));
        frames.push((meta, parts.concat()));
    }) {}
    frames
}

fn send(driver: &mut Driver, frame: &[u8], meta: FrameMeta) -> bool {
    let Some(buffer) = driver.reserve(frame.len()) else {
        return false;
    };
    assert_eq!(buffer.len(), frame.len());
    buffer.copy_from_slice(frame);
    driver.send(frame.len(), meta);
    true
}

#[test]
fn the_device_is_started_with_all_receive_buffers() {
    let (device, driver) = start();
    assert_eq!(device.has[0].len(), QUEUE);
    assert!(device.has[0].values().all(|given| given.len == RX_BUFFER));
    let state = device.state.borrow();
    assert!(
        state
            .status
            .contains(DeviceStatus::DRIVER_OK | DeviceStatus::FEATURES_OK)
    );
    assert_eq!(state.accepted, Features::all().bits());
    assert_eq!(state.notified, [1, 0]);
    assert!(device.suppressed(TX), "sent frames do not interrupt");
    assert_eq!(driver.mac(), MacAddr(MAC));
    assert!(driver.link().up && driver.link().mtu == 1500);
    assert_eq!(driver.failure(), None);
}

#[test]
fn features_are_taken_only_with_those_that_they_need() {
    let cases = [
        (Features::VERSION_1, Features::VERSION_1),
        (
            Features::VERSION_1 | Features::HOST_TSO4 | Features::GUEST_TSO4,
            Features::VERSION_1,
        ),
        (
            Features::VERSION_1 | Features::CSUM | Features::HOST_TSO4,
            Features::VERSION_1 | Features::CSUM | Features::HOST_TSO4,
        ),
        (
            Features::VERSION_1 | Features::GUEST_CSUM | Features::GUEST_TSO4,
            Features::VERSION_1 | Features::GUEST_CSUM,
        ),
    ];
    for (offered, taken) in cases {
        let state = State {
            offered,
            ..State::default()
        };
        let (device, driver) = FakeDevice::start(state).unwrap();
        assert_eq!(driver.features(), taken, "of {offered:?}");
        assert_eq!(device.state.borrow().accepted, taken.bits());
        assert_eq!(driver.mac(), MacAddr([0; 6]), "it offers none");
        assert!(driver.link().up, "it does not tell");
    }
    let state = State {
        offered: Features::VERSION_1 | Features::CSUM | Features::HOST_TSO4,
        ..State::default()
    };
    let (_, driver) = FakeDevice::start(state).unwrap();
    assert_eq!(driver.link().features, FEATURE_TX_CSUM | FEATURE_TSO4);
}

#[test]
fn a_device_that_cannot_be_used_is_refused() {
    let refused = |state| FakeDevice::start(state).err();
    let old = State {
        offered: Features::MAC,
        ..State::default()
    };
    assert_eq!(refused(old), Some(StartError::Features(Features::MAC)));
    let state = State {
        agrees: false,
        ..State::default()
    };
    assert_eq!(refused(state), Some(StartError::Features(Features::all())));
    let small = State {
        entries: QUEUE as u32 / 2,
        ..State::default()
    };
    let why = virtio_drivers::Error::InvalidParam;
    assert_eq!(refused(small), Some(StartError::Queue(RX, why)));
}

#[test]
fn received_frames_are_delivered_in_order_and_their_buffers_given_back() {
    let (mut device, mut driver) = start();
    let mut mark = 0;
    // Several times around the ring.
    for round in 0..5 {
        let frames: Vec<_> = (0..QUEUE)
            .map(|n| frame(14 + (n * 37) % 1500, round * QUEUE + n))
            .collect();
        for frame in &frames {
            device.deliver_frame([0; HEADER], frame, RX_BUFFER);
            mark += 1;
        }
        assert!(!device.deliver(&[], 0), "the device has no buffer left");
        let received = receive(&mut driver);
        assert!(received.iter().all(|(meta, _)| *meta == FrameMeta::default()));
        assert!(received.iter().map(|(_, bytes)| bytes).eq(&frames));
        assert_eq!(driver.refill(), QUEUE);
        assert_eq!(driver.refill(), 0);
        assert_eq!(device.take(RX).len(), QUEUE);
    }
    assert_eq!(mark, 5 * QUEUE);
    assert_eq!(driver.counters().rx_malformed, 0);
    HostRegion::check_guards();
}

#[test]
fn a_long_frame_comes_in_several_buffers() {
    let (mut device, mut driver) = start();
    let mut tagged = frame(MAX_FRAME + VLAN_TAG, 3);
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    for frame in [frame(RX_BUFFER + 1, 1), frame(MAX_FRAME, 2), tagged] {
        device.deliver_frame([0; HEADER], &frame, RX_BUFFER);
        let received = receive(&mut driver);
        assert_eq!(received.len(), 1);
        assert!(received[0].1 == frame, "{} bytes", frame.len());
        driver.refill();
        device.take(RX);
    }
    // As long as a tagged frame may be, but without a tag.
    device.deliver_frame([0; HEADER], &frame(MAX_FRAME + 1, 4), RX_BUFFER);
    // More buffers than the driver accepts for one frame.
    device.deliver_frame([0; HEADER], &frame(40 * 100, 5), 100);
    device.deliver_frame([0; HEADER], &frame(60, 6), RX_BUFFER);
    let received = receive(&mut driver);
    assert_eq!(received.len(), 1, "the last one alone");
    assert!(received[0].1 == frame(60, 6));
    assert_eq!(driver.counters().rx_malformed, 2);
    driver.refill();
    device.take(RX);
    assert_eq!(device.has[0].len(), QUEUE, "no buffer is lost");
}

#[test]
fn the_header_of_a_received_frame_becomes_its_meta() {
    let (mut device, mut driver) = start();
    let mut header = [0; HEADER];
    (header[0], header[1]) = (FLAG_NEEDS_CSUM, GSO_TCPV4);
    header[2..4].copy_from_slice(&54u16.to_le_bytes());
    header[4..6].copy_from_slice(&1400u16.to_le_bytes());
    header[6..8].copy_from_slice(&34u16.to_le_bytes());
    header[8..10].copy_from_slice(&16u16.to_le_bytes());
    device.deliver_frame(header, &frame(9000, 1), RX_BUFFER);
    let (meta, bytes) = receive(&mut driver).remove(0);
    assert_eq!(
        (meta.flags, meta.gso_type, meta.gso_size),
        (FLAG_NEEDS_CSUM, GSO_TCPV4, 1400)
    );
    assert_eq!((meta.header_len, meta.csum_start, meta.csum_offset), (54, 34, 16));
    assert_eq!(bytes.len(), 9000);
}

#[test]
fn frames_are_sent_as_they_are_with_one_notification_for_a_batch() {
    let (mut device, mut driver) = start();
    let lengths = [
        14,
        60,
        1514,
        SMALL_BYTES - HEADER,
        SMALL_BYTES,
        MAX_FRAME + VLAN_TAG,
    ];
    for (n, len) in lengths.into_iter().enumerate() {
        assert!(send(&mut driver, &frame(len, n), FrameMeta::default()));
    }
    driver.kick();
    driver.kick();
    assert_eq!(device.state.borrow().notified, [1, 1]);
    let sent = device.transmit();
    assert_eq!(sent.len(), lengths.len());
    for (n, (sent, len)) in sent.iter().zip(lengths).enumerate() {
        assert_eq!(sent[..HEADER], [0; HEADER]);
        assert!(sent[HEADER..] == frame(len, n), "{len} bytes");
    }
    let meta = FrameMeta {
        flags: FLAG_NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        gso_type: GSO_NONE,
        ..FrameMeta::default()
    };
    driver.reclaim();
    assert!(send(&mut driver, &frame(60, 9), meta));
    let sent = device.transmit().remove(0);
    assert_eq!(sent[..HEADER], [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
    HostRegion::check_guards();
}

#[test]
fn a_device_that_never_answers_gets_each_buffer_once_and_then_no_more() {
    let (mut device, mut driver) = start();
    let mut sent = 0;
    while send(&mut driver, &frame(60, sent), FrameMeta::default()) {
        sent += 1;
        assert!(sent <= SMALL + LARGE);
    }
    assert_eq!(
        sent,
        SMALL + LARGE,
        "ordinary frames may use the large buffers too"
    );
    driver.reclaim();
    assert!(driver.reserve(60).is_none() && driver.reserve(MAX_FRAME).is_none());
    assert!(!driver.tx_interrupts(true), "nothing has been sent yet");
    assert!(!device.suppressed(TX));
    assert_eq!(driver.failure(), None);
    // When the device answers, sending continues.
    assert_eq!(device.transmit().len(), SMALL + LARGE);
    assert!(driver.tx_interrupts(true));
    driver.reclaim();
    assert!(!driver.tx_interrupts(false) && device.suppressed(TX));
    for _ in 0..LARGE {
        assert!(send(&mut driver, &frame(MAX_FRAME, 1), FrameMeta::default()));
    }
    assert!(driver.reserve(SMALL_BYTES).is_none() && driver.reserve(60).is_some());
}

#[test]
fn a_reserved_buffer_that_is_not_sent_is_free_again() {
    let (mut device, mut driver) = start();
    for len in [60, MAX_FRAME] {
        for _ in 0..3 * QUEUE {
            assert!(driver.reserve(len).is_some());
        }
    }
    driver.send(60, FrameMeta::default());
    driver.send(60, FrameMeta::default());
    assert_eq!(device.transmit().len(), 1, "one was reserved");
}

#[test]
fn received_frames_interrupt_only_if_that_is_wanted() {
    let (mut device, mut driver) = start();
    assert!(!driver.rx_interrupts(false));
    assert!(device.suppressed(RX));
    device.deliver_frame([0; HEADER], &frame(60, 1), RX_BUFFER);
    assert!(!driver.rx_interrupts(false));
    assert!(driver.rx_interrupts(true), "a frame has come already");
    assert!(!device.suppressed(RX));
    assert_eq!(receive(&mut driver).len(), 1);
    assert!(!driver.rx_interrupts(true));
}

#[test]
fn the_link_follows_the_configuration() {
    let (mut device, mut driver) = start();
    assert!(!driver.interrupt_reason());
    device.state.borrow_mut().config[6] = 0;
    device.config_changed();
    assert!(driver.interrupt_reason());
    assert!(!driver.link().up);
    assert!(!driver.interrupt_reason(), "the reason is read once");
    device.state.borrow_mut().config[6] = LINK_UP;
    device.config_changed();
    assert!(driver.interrupt_reason() && driver.link().up);
}

#[test]
fn a_device_that_asks_for_a_reset_has_failed() {
    let (mut device, mut driver) = start();
    device
        .state
        .borrow_mut()
        .status
        .insert(DeviceStatus::DEVICE_NEEDS_RESET);
    device.deliver_frame([0; HEADER], &frame(60, 1), RX_BUFFER);
    device.config_changed();
    assert!(driver.interrupt_reason());
    assert_eq!(driver.failure(), Some(Failure::NeedsReset));
    assert!(!driver.link().up);
    assert!(receive(&mut driver).is_empty() && driver.reserve(60).is_none());
}
