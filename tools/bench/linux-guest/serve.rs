//! The services: echo, discard, source and a web page over TCP, echo and discard over UDP, all in one loop.
//!
//! On the other side: the host of the measurement, which is trusted.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Maximum number of datagrams that one system call receives or sends.
const BATCH: usize = 32;
/// Size of a datagram's buffer in bytes.
const DATAGRAM: usize = 2048;
/// Maximum number of bytes that one read takes from a connection.
const READ: usize = 16 << 10;
/// Maximum number of bytes of one read for the discard service, and of one write of the source service.
const BULK: usize = 64 << 10;
/// Maximum size of a request in bytes.
const MOST_REQUEST: usize = 4096;
/// Size of the page in bytes.
const PAGE: usize = 1024;
/// Maximum number of events of one wait.
const EVENTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Echo,
    Discard,
    Source,
    Page,
}

const TCP: [(u16, Service); 4] = [
    (7, Service::Echo),
    (9, Service::Discard),
    (19, Service::Source),
    (80, Service::Page),
];

enum Entry {
    Listener(TcpListener, Service),
    Connection(Connection),
    /// Datagrams are sent back to their senders.
    Echo(UdpSocket),
    Discard(UdpSocket),
}

struct Connection {
    stream: TcpStream,
    service: Service,
    /// Events that the connection waits for.
    interest: EpollFlags,
    /// Bytes of an incomplete request.
    request: Vec<u8>,
    /// Bytes that could not be sent yet.
    unsent: Vec<u8>,
}

/// Next step of a connection after an event.
#[derive(PartialEq)]
enum Then {
    Wait,
    Close,
}

/// Buffers that all connections share.
struct Buffers {
    bytes: Vec<u8>,
    page: Vec<u8>,
}

/// Opens the sockets and serves until the guest ends.
pub fn serve() -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut entries: HashMap<RawFd, Entry> = HashMap::new();
    for (port, service) in TCP {
        let listener =
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("port {port}"))?;
        listener.set_nonblocking(true)?;
        add(
            &epoll,
            &mut entries,
            listener.as_raw_fd(),
            EpollFlags::EPOLLIN,
            Entry::Listener(listener, service),
        )?;
    }
    for (port, entry) in [(7, Entry::Echo as fn(UdpSocket) -> Entry), (9, Entry::Discard)] {
        let socket =
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("port {port}"))?;
        socket.set_nonblocking(true)?;
        add(
            &epoll,
            &mut entries,
            socket.as_raw_fd(),
            EpollFlags::EPOLLIN,
            entry(socket),
        )?;
    }
    let mut buffers = Buffers {
        bytes: vec![0; BULK],
        page: page(),
    };
    let mut datagrams = Datagrams::new();
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        for event in &events[..count] {
            let descriptor = event.data() as RawFd;
            let mut accepted = Vec::new();
            let then = match entries.get_mut(&descriptor) {
                None => Then::Wait,
                Some(Entry::Listener(listener, service)) => {
                    accepted.extend(
                        std::iter::from_fn(|| listener.accept().ok()).map(|(stream, _)| (stream, *service)),
                    );
                    Then::Wait
                }
                Some(Entry::Echo(socket)) => datagrams.turn(socket, true),
                Some(Entry::Discard(socket)) => datagrams.turn(socket, false),
                Some(Entry::Connection(connection)) => {
                    let then = connection.turn(&mut buffers).unwrap_or(Then::Close);
                    if then == Then::Wait {
                        connection.change_interest(&epoll)?;
                    }
                    then
                }
            };
            if then == Then::Close {
                // Closing the socket removes it from epoll's set.
                entries.remove(&descriptor);
            }
            for (stream, service) in accepted {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                let interest = match service {
                    Service::Source => EpollFlags::EPOLLOUT,
                    _ => EpollFlags::EPOLLIN,
                };
                let descriptor = stream.as_raw_fd();
                let (request, unsent) = (Vec::new(), Vec::new());
                let connection = Connection {
                    stream,
                    service,
                    interest,
                    request,
                    unsent,
                };
                add(
                    &epoll,
                    &mut entries,
                    descriptor,
                    interest,
                    Entry::Connection(connection),
                )?;
            }
        }
    }
}

fn add(
    epoll: &Epoll,
    entries: &mut HashMap<RawFd, Entry>,
    descriptor: RawFd,
    interest: EpollFlags,
    entry: Entry,
) -> Result<()> {
    let event = EpollEvent::new(interest, descriptor as u64);
    match &entry {
        Entry::Listener(listener, _) => epoll.add(listener, event)?,
        Entry::Connection(connection) => epoll.add(&connection.stream, event)?,
        Entry::Echo(socket) | Entry::Discard(socket) => epoll.add(socket, event)?,
    }
    entries.insert(descriptor, entry);
    Ok(())
}

/// Returns the answer to a request for the page.
fn page() -> Vec<u8> {
    let mut page =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {PAGE}\r\n\r\n").into_bytes();
    page.extend(std::iter::repeat_n(b'x', PAGE));
    page
}

impl Connection {
    /// Continues after an event.
    ///
    /// # Errors
    /// The connection cannot be used any longer.
    fn turn(&mut self, buffers: &mut Buffers) -> io::Result<Then> {
        if !self.unsent.is_empty() && !self.flush()? {
            return Ok(Then::Wait);
        }
        match self.service {
            Service::Source => match self.stream.write(&buffers.bytes) {
                Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
                _ => Ok(Then::Wait),
            },
            Service::Discard => self.read(&mut buffers.bytes, |_, _| Ok(())),
            Service::Echo => self.read(&mut buffers.bytes[..READ], |connection, bytes| {
                connection.send(bytes)
            }),
            Service::Page => {
                let page = &buffers.page;
                self.read(&mut buffers.bytes[..MOST_REQUEST], |connection, bytes| {
                    connection.answer(bytes, page)
                })
            }
        }
    }

    /// Reads once and forwards the bytes.
    fn read(
        &mut self,
        buffer: &mut [u8],
        with: impl FnOnce(&mut Connection, &[u8]) -> io::Result<()>,
    ) -> io::Result<Then> {
        match self.stream.read(buffer) {
            Ok(0) => Ok(Then::Close),
            Ok(len) => with(self, &buffer[..len]).map(|()| Then::Wait),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Then::Wait),
            Err(e) => Err(e),
        }
    }

    /// Answers each complete request.
    fn answer(&mut self, bytes: &[u8], page: &[u8]) -> io::Result<()> {
        self.request.extend_from_slice(bytes);
        while let Some(end) = self.request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            self.request.drain(..end + 4);
            self.send(page)?;
        }
        match self.request.len() < MOST_REQUEST {
            true => Ok(()),
            false => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Sends bytes. Stores the bytes that the socket does not accept.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush().map(drop)
    }

    /// Sends the stored bytes. Returns true if none are left.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Waits for room if bytes are stored, otherwise for bytes.
    fn change_interest(&mut self, epoll: &Epoll) -> Result<()> {
        let wanted = match self.service == Service::Source || !self.unsent.is_empty() {
            true => EpollFlags::EPOLLOUT,
            false => EpollFlags::EPOLLIN,
        };
        if wanted != self.interest {
            self.interest = wanted;
            epoll.modify(
                &self.stream,
                &mut EpollEvent::new(wanted, self.stream.as_raw_fd() as u64),
            )?;
        }
        Ok(())
    }
}

/// Buffers for the datagrams of one system call. A turn allocates nothing, so that the server's own part of an echo stays small.
struct Datagrams {
    received: MultiHeaders<SockaddrStorage>,
    /// Separate from `received`, because sending leaves pointers to the addresses in the headers.
    sent: MultiHeaders<SockaddrStorage>,
    buffers: Box<[[u8; DATAGRAM]; BATCH]>,
    senders: Vec<Option<SockaddrStorage>>,
}

impl Datagrams {
    fn new() -> Datagrams {
        Datagrams {
            received: MultiHeaders::preallocate(BATCH, None),
            sent: MultiHeaders::preallocate(BATCH, None),
            buffers: Box::new([[0; DATAGRAM]; BATCH]),
            senders: Vec::with_capacity(BATCH),
        }
    }

    /// Receives at most one batch, and sends it back if `echo`. Drops datagrams that cannot be received or
    /// sent.
    fn turn(&mut self, socket: &UdpSocket, echo: bool) -> Then {
        let mut slices = self.buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let descriptor = socket.as_raw_fd();
        let Ok(received) = recvmmsg(descriptor, &mut self.received, slices.iter_mut(), flags, None) else {
            return Then::Wait;
        };
        self.senders.clear();
        let mut lens = [0; BATCH];
        for (message, len) in received.zip(&mut lens) {
            *len = message.bytes.min(DATAGRAM);
            self.senders.push(message.address);
        }
        let count = self.senders.len();
        if echo && count != 0 {
            let mut lens = lens.into_iter();
            let answers = self.buffers.each_ref().map(|buffer| {
                let len = lens.next().unwrap_or(0);
                [IoSlice::new(&buffer[..len])]
            });
            let _ = sendmmsg(
                descriptor,
                &mut self.sent,
                &answers[..count],
                &self.senders,
                [],
                flags,
            );
        }
        Then::Wait
    }
}
