//! Probes of the services in the image: UDP and TCP echo, discard, source, HTTP. Each checks the answer.

use crate::patience::{ANSWER, PATIENCE};
use anyhow::{Context, Result, bail, ensure};
use branes_bench::load;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Connects. Retries if the service is not open yet, because its brane answers while its client is still
/// starting.
fn connect(to: SocketAddr) -> Result<TcpStream> {
    load::connect(to, PATIENCE, ANSWER)
}

/// Returns pseudo-random bytes that depend only on the seed, so that a test can recognise them.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Sends datagrams of several sizes to a UDP echo service. Each must return unchanged, and is repeated for
/// [`PATIENCE`].
pub fn udp_echo(to: SocketAddr) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    for (seed, len) in [0, 1, 64, 512, 1400].into_iter().enumerate() {
        let sent = noise(seed as u64, len);
        let mut buffer = [0; 2048];
        let end = Instant::now() + PATIENCE;
        loop {
            match socket.send(&sent).and_then(|_| socket.recv(&mut buffer)) {
                Ok(n) if buffer[..n] == sent[..] => break,
                // A service that is not open yet refuses at once.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                Ok(_) | Err(_) => {}
            }
            ensure!(Instant::now() < end, "no UDP echo of {len} bytes from {to}");
        }
    }
    Ok(())
}

/// Sends `len` bytes to a TCP echo service while reading them back. Compares them, closes, and expects the
/// end of the stream.
pub fn tcp_echo(to: SocketAddr, len: usize) -> Result<()> {
    let stream = connect(to)?;
    let sent = noise(len as u64, len);
    let back = std::thread::scope(|scope| -> Result<Vec<u8>> {
        let writer = scope.spawn(|| -> Result<()> {
            (&stream).write_all(&sent)?;
            stream.shutdown(Shutdown::Write)?;
            Ok(())
        });
        let mut back = Vec::with_capacity(len);
        let read = (&stream).read_to_end(&mut back);
        writer
            .join()
            .expect("the writing thread")
            .context("writing to TCP echo")?;
        read.with_context(|| format!("reading TCP echo of {to}"))?;
        Ok(back)
    })?;
    ensure!(
        back == sent,
        "TCP echo of {to}: {} of {len} bytes came back, or other ones",
        back.len()
    );
    Ok(())
}

/// Sends `len` bytes to a discard service, which must close after the host's FIN. Returns MiB/s.
pub fn tcp_discard(to: SocketAddr, len: usize) -> Result<f64> {
    let mut stream = connect(to)?;
    let block = noise(9, 1 << 18);
    let start = Instant::now();
    load::discard(&mut stream, &block, len).with_context(|| format!("discard of {to}"))?;
    Ok(len as f64 / (1 << 20) as f64 / start.elapsed().as_secs_f64())
}

/// Returns a byte of the character generator's pattern (RFC 864): lines of 72 printable characters, each
/// starting one further.
pub fn chargen(position: usize) -> u8 {
    let (line, column) = (position / 74, position % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => b' ' + ((line + column) % 95) as u8,
    }
}

/// Reads `len` bytes from a source service and compares each with the pattern. Returns MiB/s.
pub fn tcp_source(to: SocketAddr, len: usize) -> Result<f64> {
    let mut stream = connect(to)?;
    let pattern: Vec<u8> = (0..74 * 95).map(chargen).collect();
    let start = Instant::now();
    let mut seen = 0;
    load::source(&mut stream, len, |at, bytes| {
        for (i, byte) in bytes.iter().enumerate() {
            let want = pattern[(at + i) % pattern.len()];
            ensure!(*byte == want, "byte {} is {byte:#x}, not {want:#x}", at + i);
        }
        seen = at + bytes.len();
        Ok(())
    })
    .with_context(|| format!("source of {to}"))?;
    Ok(seen as f64 / (1 << 20) as f64 / start.elapsed().as_secs_f64())
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Body, of the length that `Content-Length` gives.
    pub body: String,
}

/// A keep-alive connection to an HTTP service.
pub struct Http(TcpStream);

impl Http {
    pub fn connect(to: SocketAddr) -> Result<Http> {
        Ok(Http(connect(to)?))
    }

    /// Sends `GET path` on this connection.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.0
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: brane\r\n\r\n").as_bytes())?;
        self.answer()
    }

    /// Sends bytes on this connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Reads one response.
    pub fn answer(&mut self) -> Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(head.len() < 4096, "endless HTTP head");
            let mut byte = [0];
            ensure!(
                self.0.read(&mut byte)? == 1,
                "connection closed after {:?}",
                String::from_utf8_lossy(&head)
            );
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?;
        let Some(status) = head.split(' ').nth(1).and_then(|s| s.parse().ok()) else {
            bail!("no status in {head:?}")
        };
        let length = head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, v)| v.trim().parse().ok())
            .with_context(|| format!("no Content-Length in {head:?}"))?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).context("reading the body")?;
        Ok(Answer {
            status,
            body: String::from_utf8(body)?,
        })
    }
}

/// Gets the page of a brane. It must have status 200 and exactly 1024 bytes, and contain the brane's name and
/// each of `mentions`.
pub fn page(to: SocketAddr, mentions: &[&str]) -> Result<()> {
    let answer = Http::connect(to)?
        .get("/")
        .with_context(|| format!("GET / of {to}"))?;
    ensure!(
        answer.status == 200 && answer.body.len() == 1024,
        "{to}: {} with {} bytes",
        answer.status,
        answer.body.len()
    );
    for text in mentions {
        ensure!(
            answer.body.contains(text),
            "the page of {to} does not mention {text}:\n{}",
            answer.body
        );
    }
    Ok(())
}
