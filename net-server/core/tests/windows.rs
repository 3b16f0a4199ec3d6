//! Segments at and beyond the edge of the receive window: none makes the brane panic, and a client reads what was sent to it.

mod common;
#[path = "common/packets.rs"]
mod packets;

use brane_socket::{ListenOptions, RingSizes, TcpListener, TcpStream};
use common::*;
use packets::*;
use std::cell::RefCell;
use std::rc::Rc;

/// The client's receive buffer in the brane, in bytes.
const BUFFER: u32 = 256 << 10;
/// The peer's first sequence number.
const ISS: u32 = 1000;

/// A connection of the peer to port 9.
struct Peer {
    host: Host,
    /// The brane's next sequence number.
    ack: u32,
    /// The window scale that the brane's SYN ACK has announced.
    scale: u8,
    /// The window of the brane's last segment, as it stands there.
    window: u16,
    stream: Rc<RefCell<Option<TcpStream>>>,
}

impl Peer {
    fn connect() -> Peer {
        let mut host = echo_host();
        let stack = host.stack.clone();
        let stream = Rc::new(RefCell::new(None));
        let slot = stream.clone();
        host.spawn(async move {
            let options = ListenOptions {
                rings: RingSizes { rx: 4096, tx: 4096 },
                rx_buffer: BUFFER,
                ..ListenOptions::default()
            };
            let listener = TcpListener::bind(&stack, "[::]:9".parse().unwrap(), options)
                .await
                .unwrap();
            *slot.borrow_mut() = Some(listener.accept().await.unwrap());
            std::future::pending::<()>().await;
        });
        host.settle();
        let mut syn = [1000u16.to_be_bytes(), 9u16.to_be_bytes()].concat();
        syn.extend(ISS.to_be_bytes());
        // The largest segments, and a window scale.
        syn.extend([
            0,
            0,
            0,
            0,
            0x60 + 0x10,
            2,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
            2,
            4,
            0xff,
            0xff,
            3,
            3,
            7,
            1,
        ]);
        let sent = answers(&mut host, packet("10.0.2.9", "10.0.2.1", 6, &syn), 0);
        assert_eq!(sent[0][47] & 0x12, 0x12, "SYN ACK");
        let scale = sent[0][54..].windows(3).find(|option| option[..2] == [3, 3]);
        let mut peer = Peer {
            host,
            ack: u32::from_be_bytes(sent[0][38..42].try_into().unwrap()) + 1,
            scale: scale.expect("the SYN ACK has a window scale")[2],
            window: 0,
            stream,
        };
        peer.send(0, 0);
        assert!(peer.stream.borrow().is_some(), "nobody has accepted");
        peer
    }

    /// Sends `len` bytes that begin at byte `at` of the stream.
    fn send(&mut self, at: usize, len: usize) {
        let mut bytes = [1000u16.to_be_bytes(), 9u16.to_be_bytes()].concat();
        bytes.extend((ISS + 1 + at as u32).to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend((at..at + len).map(byte));
        let mut sent = answers(&mut self.host, packet("10.0.2.9", "10.0.2.1", 6, &bytes), 0);
        // Longer than an acknowledgement may be delayed.
        self.host.clock.0.set(self.host.now() + 20 * MS);
        self.host.settle();
        sent.extend(self.host.driver.sent(0).into_iter().map(|(frame, _)| frame));
        let segment = |frame: &&Vec<u8>| frame[12..14] == [8, 0] && frame[23] == 6;
        if let Some(last) = sent.iter().rfind(segment) {
            self.window = u16::from_be_bytes([last[48], last[49]]);
        }
    }

    /// Sends what lies between two bytes of the stream in order.
    fn fill(&mut self, from: usize, to: usize, step: usize) {
        for at in (from..to).step_by(step) {
            self.send(at, step.min(to - at));
        }
    }

    /// Lets the client read bytes `from` to `to` of the stream.
    fn read(&mut self, from: usize, to: usize) {
        let slot = self.stream.clone();
        let done = self.host.spawn(async move {
            let mut stream = slot.borrow_mut().take().unwrap();
            let (mut at, mut buffer) = (from, [0; 1000]);
            while at < to {
                let n = stream.read(&mut buffer[..1000.min(to - at)]).await.unwrap();
                assert!(n != 0, "the stream ended at {at}");
                for (offset, got) in buffer[..n].iter().enumerate() {
                    assert_eq!(*got, byte(at + offset), "at {}", at + offset);
                }
                at += n;
            }
            *slot.borrow_mut() = Some(stream);
        });
        for _ in 0..2000 {
            self.host.settle();
            self.host.driver.sent(0);
            self.host.clock.0.set(self.host.now() + MS);
            if done.borrow().is_some() {
                return;
            }
        }
        panic!("the client waits for bytes");
    }
}

/// What stands at a place of the stream.
fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

#[test]
fn the_window_that_a_peer_computes_is_what_the_buffer_has_free() {
    let mut peer = Peer::connect();
    // More than the client's ring takes stays in the buffer.
    peer.fill(0, 100_000, 1460);
    let window = usize::from(peer.window) << peer.scale;
    let free = BUFFER as usize - 100_000;
    assert!(
        (free..=free + 4096).contains(&window),
        "{window} for {free} bytes"
    );
}

#[test]
fn a_segment_beyond_the_receive_buffer_is_not_taken_for_received() {
    let mut peer = Peer::connect();
    // The window of the SYN ACK is not scaled, those of later segments are.
    peer.send(300_000, 60_000);
    peer.fill(0, 262_000, 1460);
    peer.read(0, 60_000);
    peer.fill(262_000, 300_000, 1460);
    peer.read(60_000, 300_000);
    peer.fill(300_000, 400_000, 1460);
    peer.read(300_000, 400_000);
}

#[test]
fn a_segment_up_to_the_edge_of_the_window_that_is_reached_by_odd_steps_does_no_harm() {
    let mut peer = Peer::connect();
    // Nearly the whole buffer, the end first.
    let edge = BUFFER as usize;
    peer.send(edge - 1000, 1000);
    peer.fill(0, edge - 1000, 1459);
    peer.read(0, edge - 5000);
    peer.fill(edge - 1000, edge + 100_000, 1460);
    peer.read(edge - 5000, edge + 100_000);
}
