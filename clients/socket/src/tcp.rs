//! TCP listeners and streams.
//!
//! A stream's bytes flow through its two rings without messages. This module only marks the brane's doorbell. The loop rings it
//! when all woken tasks have run. The brane on the other side is checked by the rings and by the slot's state.

use crate::error::Error;
use crate::net_client::{NetClient, bytes};
use crate::slot::{Direction, Handle, RingSizes};
use brane_abi::net::SockAddr;
use brane_abi::ring::RingError;
use brane_abi::socket::{Accept, Endpoints, Listen, Open, request};
use brane_abi::stream::{StreamConsumer, StreamProducer};
use core::future::poll_fn;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::task::{Context, Poll};

/// Options of a listener.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenOptions {
    /// Rings of each accepted connection.
    pub rings: RingSizes,
    /// Most connections that wait for an accept; the brane caps it.
    pub backlog: u32,
    /// Bytes of receive buffer in the brane for each connection; 0 for its default.
    pub rx_buffer: u32,
    /// Bytes of transmit buffer in the brane for each connection; 0 for its default.
    pub tx_buffer: u32,
}

/// A port that accepts connections. Dropping it closes the port; accepted connections stay.
pub struct TcpListener {
    handle: Handle,
    options: ListenOptions,
    local: SocketAddr,
}

/// Converts an address. An unspecified address of either family means any address of both families.
pub(crate) fn to_abi(address: SocketAddr) -> SockAddr {
    let ip = address.ip();
    SockAddr::new((!ip.is_unspecified()).then_some(ip), address.port())
}

/// Converts an address. `[::]` stands for any address and for an unknown one.
pub(crate) fn from_abi(address: &SockAddr) -> SocketAddr {
    let ip = address
        .address()
        .ok()
        .flatten()
        .unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    SocketAddr::new(ip, address.port)
}

impl TcpListener {
    /// Listens on an address and a port. An unspecified address means every address of the brane, of both families.
    pub async fn bind(
        net: &NetClient,
        local: SocketAddr,
        options: ListenOptions,
    ) -> Result<TcpListener, Error> {
        if local.port() == 0 {
            return Err(Error::InvalidInput);
        }
        let handle = net.0.take_slot(None).await?;
        let listen = Listen {
            local: to_abi(local),
            backlog: options.backlog,
            rx_buffer: options.rx_buffer,
            tx_buffer: options.tx_buffer,
        };
        net.0.request(handle.slot, request::TCP_LISTEN, bytes(&listen))?;
        let endpoints = handle.opened().await?;
        Ok(TcpListener {
            handle,
            options,
            local: from_abi(&endpoints.local),
        })
    }

    /// Posts a slot for the next connection and waits for it. Several calls may wait at once; each returns its own connection.
    pub async fn accept(&self) -> Result<TcpStream, Error> {
        if let Some(error) = self.handle.error() {
            return Err(error);
        }
        let listener = self.handle.slot as u32;
        TcpStream::open(
            &NetClient(self.handle.shared.clone()),
            self.options.rings,
            request::TCP_ACCEPT,
            |rings| Request::Accept(Accept { listener, rings }),
        )
        .await
    }

    /// Returns the error that ended the listener, if any: the brane has restarted, was shut down, or has lost the address.
    pub fn error(&self) -> Option<Error> {
        self.handle.error()
    }

    /// Returns the address and port that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Payload of a request that opens a stream.
enum Request {
    Accept(Accept),
    Open(Open),
}

/// A TCP connection.
///
/// Dropping it closes it in order: written bytes are still sent, and received bytes are discarded.
pub struct TcpStream {
    handle: Handle,
    rx: StreamConsumer,
    tx: StreamProducer,
    /// A quarter of the receive ring, in bytes.
    quarter: usize,
    endpoints: Endpoints,
    shut: bool,
}

/// The reading half of a [`TcpStream`].
pub struct ReadHalf<'a> {
    handle: &'a Handle,
    rx: &'a mut StreamConsumer,
    quarter: usize,
}

/// The writing half of a [`TcpStream`].
pub struct WriteHalf<'a> {
    handle: &'a Handle,
    tx: &'a mut StreamProducer,
    shut: &'a mut bool,
}

impl TcpStream {
    async fn open(
        net: &NetClient,
        sizes: RingSizes,
        kind: u32,
        payload: impl FnOnce(brane_abi::socket::Rings) -> Request,
    ) -> Result<TcpStream, Error> {
        let handle = net.0.take_slot(Some(sizes)).await?;
        let (rx, tx, places) = {
            let core = net.0.core.borrow();
            let [rx, tx] = core.fresh_rings(handle.slot).ok_or(Error::InvalidInput)?;
            let rx = StreamConsumer::new(rx.0, rx.1).ok_or(Error::InvalidInput)?;
            let tx = StreamProducer::new(tx.0, tx.1).ok_or(Error::InvalidInput)?;
            (rx, tx, core.slots[handle.slot].places())
        };
        match payload(places) {
            Request::Accept(accept) => net.0.request(handle.slot, kind, bytes(&accept))?,
            Request::Open(open) => net.0.request(handle.slot, kind, bytes(&open))?,
        }
        let endpoints = handle.opened().await?;
        Ok(TcpStream {
            handle,
            rx,
            tx,
            quarter: places.rx_len as usize / 4,
            endpoints,
            shut: false,
        })
    }

    /// Connects to `remote`, from an address and port that the brane chooses.
    pub async fn connect(net: &NetClient, remote: SocketAddr, rings: RingSizes) -> Result<TcpStream, Error> {
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(Error::InvalidInput);
        }
        let remote = to_abi(remote);
        TcpStream::open(net, rings, request::TCP_CONNECT, |rings| {
            Request::Open(Open {
                local: SockAddr::default(),
                remote,
                rings,
            })
        })
        .await
    }

    /// Returns the address and port of this end.
    pub fn local_addr(&self) -> SocketAddr {
        from_abi(&self.endpoints.local)
    }

    /// Returns the address and port of the other end.
    pub fn remote_addr(&self) -> SocketAddr {
        from_abi(&self.endpoints.remote)
    }

    /// Limits each wait for bytes or for room, in nanoseconds; the wait then ends with [`Error::TimedOut`]. `None`: no limit.
    pub fn set_timeout(&self, limit: Option<u64>) {
        self.handle.shared.core.borrow_mut().slots[self.handle.slot].timeout = limit.unwrap_or(u64::MAX);
    }

    /// Splits the stream into its two directions.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (
            ReadHalf {
                handle: &self.handle,
                rx: &mut self.rx,
                quarter: self.quarter,
            },
            WriteHalf {
                handle: &self.handle,
                tx: &mut self.tx,
                shut: &mut self.shut,
            },
        )
    }

    /// Reads the available bytes. Waits for at least one byte. Returns 0 if the remote has closed its direction.
    pub async fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        self.split().0.read(out).await
    }

    /// Writes as many bytes as there is room for. Waits for room for at least one byte.
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, Error> {
        self.split().1.write(data).await
    }

    /// Writes all bytes.
    pub async fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        self.split().1.write_all(data).await
    }

    /// Copies received bytes straight into the transmit ring. Waits for at least one byte and for room. Returns how many bytes it
    /// moved; 0 if the remote has closed its direction.
    pub async fn echo(&mut self) -> Result<usize, Error> {
        poll_fn(|cx| {
            if let Some(error) = self.handle.error() {
                return Poll::Ready(Err(error));
            }
            let (mut moved, mut waiting) = (0, 0);
            // Either ring can wrap once, so three runs move all bytes.
            for _ in 0..3 {
                waiting = match self.rx.available() {
                    Ok(n) => n,
                    Err(error) => return Poll::Ready(Err(self.handle.ring_error(error))),
                };
                if waiting == 0 {
                    break;
                }
                let tx = &mut self.tx;
                let step = self.rx.read_with(|from| {
                    match tx.write_with(|to| {
                        let n = from.len().min(to.len());
                        to[..n].copy_from_slice(&from[..n]);
                        (n, n)
                    }) {
                        Ok(n) => (n, Ok(n)),
                        Err(error) => (0, Err(error)),
                    }
                });
                match step {
                    Ok(Ok(0)) => break,
                    Ok(Ok(n)) => moved += n,
                    Ok(Err(error)) | Err(error) => return Poll::Ready(Err(self.handle.ring_error(error))),
                }
            }
            if moved != 0 {
                self.handle.mark();
                return Poll::Ready(Ok(moved));
            }
            if waiting != 0 {
                return self.handle.wait(cx, Direction::Tx, None);
            }
            self.handle.wait(cx, Direction::Rx, Some(0))
        })
        .await
    }

    /// Discards the received bytes. Waits for at least one byte. Returns how many there were; 0 if the remote has closed its
    /// direction.
    pub async fn discard(&mut self) -> Result<usize, Error> {
        poll_fn(|cx| self.split().0.poll_take(cx, |bytes| bytes.len())).await
    }

    /// Sends FIN after all written bytes; reading goes on.
    pub fn shutdown(&mut self) -> Result<(), Error> {
        self.split().1.shutdown()
    }

    /// Closes the stream in order, as dropping it does.
    pub fn close(self) {}

    /// Resets the connection.
    pub fn abort(mut self) {
        self.handle.abort = true;
    }
}

impl Handle {
    /// Reports an impossible ring index to the stack.
    pub(crate) fn ring_error(&self, error: RingError) -> Error {
        if error == RingError::Peer {
            self.shared.violation();
        }
        Error::from_ring(error)
    }
}

impl ReadHalf<'_> {
    fn poll_take(
        &mut self,
        cx: &Context<'_>,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Poll<Result<usize, Error>> {
        let (mut taken, mut before) = (0, 0);
        // Two runs, because the ring wraps at most once.
        for _ in 0..2 {
            let step = match self.rx.available() {
                Ok(0) => break,
                Ok(n) => {
                    before = before.max(n);
                    self.rx.read_with(|bytes| {
                        let n = take(bytes);
                        (n, n)
                    })
                }
                Err(error) => Err(error),
            };
            match step {
                Ok(0) => break,
                Ok(n) => taken += n,
                Err(error) => return Poll::Ready(Err(self.handle.ring_error(error))),
            }
        }
        if taken == 0 {
            return self.handle.wait(cx, Direction::Rx, Some(0));
        }
        // The brane waits for room only if the ring is full. It may have filled the ring after `available` read the index. Then
        // it has also rung this side's doorbell, and the next poll finds at least three quarters.
        if before > self.quarter {
            self.handle.mark();
        }
        Poll::Ready(Ok(taken))
    }

    /// See [`TcpStream::read`].
    pub async fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if out.is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| {
            let mut done = 0;
            self.poll_take(cx, |bytes| {
                let n = bytes.len().min(out.len() - done);
                out[done..done + n].copy_from_slice(&bytes[..n]);
                done += n;
                n
            })
        })
        .await
    }
}

impl WriteHalf<'_> {
    /// Lets `fill` write into the free part of the ring in place. Passes a run of at least one byte; `fill` returns how many
    /// bytes it wrote. If it returns 0, the room stays free and the call ends.
    pub async fn write_with(&mut self, mut fill: impl FnMut(&mut [u8]) -> usize) -> Result<usize, Error> {
        poll_fn(|cx| {
            if *self.shut {
                return Poll::Ready(Err(Error::Closed));
            }
            if let Some(error) = self.handle.error() {
                return Poll::Ready(Err(error));
            }
            let written = self.tx.write_with(|room| {
                if room.is_empty() {
                    return (0, None);
                }
                let n = fill(room);
                (n, Some(n))
            });
            match written {
                Ok(Some(n)) => {
                    self.handle.mark();
                    Poll::Ready(Ok(n))
                }
                Ok(None) => self.handle.wait(cx, Direction::Tx, None),
                Err(error) => Poll::Ready(Err(self.handle.ring_error(error))),
            }
        })
        .await
    }

    /// See [`TcpStream::write`].
    pub async fn write(&mut self, data: &[u8]) -> Result<usize, Error> {
        if data.is_empty() {
            return Ok(0);
        }
        self.write_with(|room| {
            let n = room.len().min(data.len());
            room[..n].copy_from_slice(&data[..n]);
            n
        })
        .await
    }

    /// See [`TcpStream::write_all`].
    pub async fn write_all(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let n = self.write(data).await?;
            data = &data[n..];
        }
        Ok(())
    }

    /// See [`TcpStream::shutdown`].
    pub fn shutdown(&mut self) -> Result<(), Error> {
        if core::mem::replace(self.shut, true) {
            return Ok(());
        }
        self.handle
            .shared
            .request(self.handle.slot, request::SHUTDOWN, &[])
    }
}

macro_rules! io_traits {
    ($($read:ty)?; $($write:ty)?) => {
        $(impl embedded_io_async::Read for $read {
            async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
                <$read>::read(self, buf).await
            }
        })?
        $(impl embedded_io_async::Write for $write {
            async fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
                <$write>::write(self, buf).await
            }
            /// Returns at once, because all written bytes are on their way already.
            async fn flush(&mut self) -> Result<(), Error> {
                Ok(())
            }
        })?
    };
}

impl embedded_io_async::ErrorType for TcpStream {
    type Error = Error;
}
impl embedded_io_async::ErrorType for ReadHalf<'_> {
    type Error = Error;
}
impl embedded_io_async::ErrorType for WriteHalf<'_> {
    type Error = Error;
}
io_traits!(TcpStream; TcpStream);
io_traits!(ReadHalf<'_>; WriteHalf<'_>);
