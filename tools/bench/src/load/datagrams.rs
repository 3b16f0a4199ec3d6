//! UDP: echoes one at a time, echoes with many on their way, and a flood.
//!
//! On the other side: the guest. Only echoes one at a time are compared with the datagram that was sent. Others
//! are counted.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{ECHO, Outcome, datagram_socket};

/// Numbers of datagrams on their way.
const WINDOWS: [usize; 3] = [16, 64, 256];
/// Maximum number of datagrams that are received, or sent by a flood, in one turn.
const BATCH: usize = 64;
/// Time without a datagram after which all datagrams on their way count as lost.
const STALL: Duration = Duration::from_millis(200);

/// Measures echoes of `size` bytes, one at a time.
pub fn echoes(to: IpAddr, size: usize, count: usize) -> Result<Outcome> {
    let socket = datagram_socket(to, ECHO)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let (mut payload, mut buffer) = (vec![0; size], [0; 2048]);
    Outcome::of_each(count, Duration::from_secs(6), |i| {
        echo(&socket, &mut payload, &mut buffer, i as u32)
    })
}

/// Sends one numbered datagram and waits for its echo. Returns false if the echo does not come in time.
pub fn echo(socket: &UdpSocket, payload: &mut [u8], buffer: &mut [u8], number: u32) -> Result<bool> {
    payload[..4].copy_from_slice(&number.to_be_bytes());
    socket.send(payload)?;
    loop {
        match socket.recv(buffer) {
            Ok(len) if buffer[..len] == *payload => return Ok(true),
            Ok(_) => {}
            Err(e) if timed_out(&e) || e.kind() == ErrorKind::ConnectionRefused => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

fn timed_out(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Measures echoes of `size` bytes with 16, then 64, then 256 on their way, each for `duration`. The rate is
/// the best of the three.
pub fn windows(to: IpAddr, size: usize, duration: Duration) -> Result<Outcome> {
    let mut all = Outcome::default();
    for window in WINDOWS {
        let one = self::window(to, size, window, duration)?;
        all.units += one.units;
        all.rate = all.rate.max(one.rate);
        all.lost += one.lost;
    }
    Ok(all)
}

/// Measures echoes of `size` bytes with at most `window` on their way, for `duration`.
pub fn window(to: IpAddr, size: usize, window: usize, duration: Duration) -> Result<Outcome> {
    let socket = datagram_socket(to, ECHO)?;
    socket.set_nonblocking(true)?;
    let payload = vec![0; size];
    let send = |count: usize| (0..count).take_while(|_| socket.send(&payload).is_ok()).count();
    let mut outcome = Outcome::default();
    let (start, mut progress) = (Instant::now(), Instant::now());
    send(window);
    while start.elapsed() < duration {
        wait(&socket, Duration::from_millis(50))?;
        let received = drain(&socket, BATCH);
        if received > 0 {
            outcome.units += received as f64;
            progress = Instant::now();
            send(received);
        } else if progress.elapsed() > STALL {
            outcome.lost += window as u64;
            progress = Instant::now();
            send(window);
        }
    }
    outcome.rate = outcome.units / start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Sends datagrams of 64 bytes to the echo service as fast as possible for `duration`. Counts the datagrams
/// that return.
pub fn flood(to: IpAddr, duration: Duration) -> Result<Outcome> {
    let socket = datagram_socket(to, ECHO)?;
    socket.set_nonblocking(true)?;
    let payload = [0; 64];
    let mut answers = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        for _ in 0..BATCH / 2 {
            if socket.send(&payload).is_err() {
                break;
            }
        }
        answers += drain(&socket, BATCH);
    }
    let elapsed = start.elapsed();
    std::thread::sleep(Duration::from_millis(100));
    // Fewer datagrams than this are on their way at the end.
    answers += drain(&socket, 100_000);
    Ok(Outcome {
        units: answers as f64,
        rate: answers as f64 / elapsed.as_secs_f64(),
        ..Outcome::default()
    })
}

/// Receives datagrams until there are none, at most `most`. Returns their number.
fn drain(socket: &UdpSocket, most: usize) -> usize {
    let mut buffer = [0; 2048];
    (0..most).take_while(|_| socket.recv(&mut buffer).is_ok()).count()
}

/// Waits until a datagram arrives, at most for `limit`.
fn wait(socket: &UdpSocket, limit: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO);
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)?;
    Ok(())
}
