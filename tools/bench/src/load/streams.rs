//! TCP with one connection: echoes of a byte, and transfers each way.
//!
//! On the other side: the guest. Every read and write has a time limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{DISCARD, ECHO, MIB, Outcome, SOURCE, quantile};

/// Size of one transfer in bytes.
const TRANSFER: usize = 32 * MIB;
/// Transfers in one measurement, if there is time for them.
const TRANSFERS: usize = 7;
/// Maximum number of bytes of one read or write.
const BLOCK: usize = MIB / 4;

/// Connects. Retries until `patience` is over, because a service may not be open yet. Each attempt, and each
/// later read or write, may take `answer`.
pub fn connect(to: SocketAddr, patience: Duration, answer: Duration) -> Result<TcpStream> {
    let end = Instant::now() + patience;
    let stream = loop {
        match TcpStream::connect_timeout(&to, answer) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused && Instant::now() < end => {
                sleep(Duration::from_millis(20));
            }
            other => break other.with_context(|| format!("connecting to {to}"))?,
        }
    };
    stream.set_read_timeout(Some(answer))?;
    stream.set_write_timeout(Some(answer))?;
    Ok(stream)
}

/// Connects to a guest that is known to serve.
pub fn open(to: IpAddr, port: u16) -> Result<TcpStream> {
    let stream = connect(SocketAddr::new(to, port), Duration::ZERO, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Measures echoes of one byte on one connection, one at a time.
pub fn tcp_echoes(to: IpAddr, count: usize) -> Result<Outcome> {
    let mut stream = open(to, ECHO)?;
    Outcome::of_each(count, Duration::from_secs(6), |_| {
        echo(&mut stream).map(|()| true)
    })
}

/// Sends one byte and reads it back.
pub fn echo(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    stream.write_all(b"x")?;
    stream.read_exact(&mut byte).context("reading a TCP echo")?;
    ensure!(byte == *b"x", "a TCP echo is another byte");
    Ok(())
}

/// Sends `block` repeatedly until `len` bytes are sent. The service must close after our FIN.
pub fn discard(stream: &mut TcpStream, block: &[u8], len: usize) -> Result<()> {
    let mut left = len;
    while left > 0 {
        let count = left.min(block.len());
        stream.write_all(&block[..count]).context("writing to discard")?;
        left -= count;
    }
    stream.shutdown(Shutdown::Write)?;
    ensure!(
        stream.read(&mut [0; 16])? == 0,
        "the discard service sent something"
    );
    Ok(())
}

/// Reads `len` bytes, in blocks of at most 256 KiB. Calls `seen` with the position of a block's first byte, and
/// the block.
pub fn source(
    stream: &mut TcpStream,
    len: usize,
    mut seen: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut buffer, mut at) = (vec![0; BLOCK], 0);
    while at < len {
        let count = stream
            .read(&mut buffer)
            .with_context(|| format!("reading the source at byte {at}"))?;
        ensure!(count != 0, "the source ended after {at} bytes");
        seen(at, &buffer[..count])?;
        at += count;
    }
    Ok(())
}

/// Measures transfers of 32 MiB, to the guest or from it: seven, or as many as begin within `limit`. The rate
/// is their median.
pub fn transfers(to: IpAddr, to_guest: bool, limit: Duration) -> Result<Outcome> {
    let block = vec![0; BLOCK];
    let (start, mut rates, mut bytes) = (Instant::now(), Vec::new(), 0);
    while rates.len() < TRANSFERS && (rates.is_empty() || start.elapsed() < limit) {
        let mut stream = open(to, if to_guest { DISCARD } else { SOURCE })?;
        let (begun, mut len) = (Instant::now(), TRANSFER);
        match to_guest {
            true => discard(&mut stream, &block, TRANSFER)?,
            false => source(&mut stream, TRANSFER, |at, part| {
                len = at + part.len();
                Ok(())
            })?,
        }
        rates.push(len as f64 / MIB as f64 / begun.elapsed().as_secs_f64());
        bytes += len;
        drop(stream);
        sleep(Duration::from_millis(50));
    }
    let rate = quantile(&rates, 0.5).unwrap_or_default();
    Ok(Outcome {
        units: bytes as f64 / MIB as f64,
        rate,
        ..Outcome::default()
    })
}
