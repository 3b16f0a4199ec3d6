//! Capture of frames on the devices of a network namespace, in the form in which a forwarding machine would
//! send them.
//!
//! If a guest offloads a checksum (virtio 1.2, 5.1.6.2), the host's kernel receives the frame as it is,
//! together with the request to complete it. The kernel completes the frame only if it leaves by a device
//! without that offload. So a capture receives frame and request, and completes the frame itself.

use crate::ping::checksum;
use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read};
use std::time::Instant;

/// All protocols (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 3;
/// Bytes of `struct virtio_net_hdr`, which the kernel puts before each frame.
const HEADER: usize = 10;
/// Flag: complete the checksum (virtio 1.2, 5.1.6).
const NEEDS_CSUM: u8 = 1;

/// Socket option: the kernel puts `struct virtio_net_hdr` before each frame (`packet(7)`).
#[derive(Clone, Copy, Debug)]
struct VnetHeader;

setsockopt_impl!(
    VnetHeader,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    bool,
    nix::sys::socket::sockopt::SetBool
);

#[derive(Clone, Debug)]
pub struct Captured {
    /// The frame with its checksum completed.
    pub frame: Vec<u8>,
    /// True if the frame requested a checksum.
    pub offloaded: bool,
}

/// A socket that receives every frame of the namespace.
pub struct Capture(Socket);

impl Capture {
    /// Starts to capture in the network namespace of the calling thread.
    pub fn start() -> Result<Capture> {
        let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).context("opening a packet socket")?;
        socket.set_recv_buffer_size(16 << 20)?;
        setsockopt(&socket, VnetHeader, &true).context("asking for the header of each frame")?;
        Ok(Capture(socket))
    }

    /// Returns the next frame, or `None` at the deadline.
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Captured>> {
        let mut buffer = vec![0; 1 << 17];
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        self.0.set_read_timeout(Some(left))?;
        match self.0.read(&mut buffer) {
            Ok(len) => buffer.truncate(len),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
            Err(e) => return Err(e).context("capturing a frame"),
        }
        let mut frame = buffer.split_off(HEADER.min(buffer.len()));
        let word = |at: usize| -> Option<usize> {
            let bytes = buffer.get(at..at + 2)?.try_into().ok()?;
            Some(usize::from(u16::from_ne_bytes(bytes)))
        };
        let asks = buffer.first().is_some_and(|flags| flags & NEEDS_CSUM != 0);
        let offloaded = match (word(6), word(8)) {
            (Some(start), Some(offset)) if asks => complete(&mut frame, start, offset).is_some(),
            _ => false,
        };
        Ok(Some(Captured { frame, offloaded }))
    }
}

/// Stores the checksum over the frame from `start` on, at `offset` bytes after `start`.
fn complete(frame: &mut [u8], start: usize, offset: usize) -> Option<()> {
    let sum = checksum(frame.get(start..)?);
    let field = frame.get_mut(start + offset..start + offset + 2)?;
    field.copy_from_slice(&sum.to_be_bytes());
    Some(())
}
