//! UDP sockets.
//!
//! Datagrams are records in the socket's two rings, behind a [`DatagramHeader`]. One wake passes on all datagrams in the ring;
//! the replies are published once for the whole batch. The brane is not trusted: an impossible index or length ends the link.

use crate::error::Error;
use crate::multicast::GroupSettings;
use crate::net_client::{NetClient, bytes};
use crate::slot::{Direction, Handle, RingSizes};
use crate::tcp::{from_abi, to_abi};
use brane_abi::net::SockAddr;
use brane_abi::ring::{Consumer, Producer, Record, RingError};
use brane_abi::socket::{DatagramHeader, Open, request};
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;
use zerocopy::IntoBytes;

const HEADER: usize = size_of::<DatagramHeader>();

/// A UDP socket. Dropping it closes it; the brane still sends the datagrams in the transmit ring.
pub struct UdpSocket {
    pub(crate) handle: Handle,
    rx: Consumer,
    tx: Producer,
    local: SocketAddr,
    pub(crate) groups: GroupSettings,
}

/// A received datagram, still in the ring.
pub struct Incoming<'a> {
    record: &'a Record<'a>,
    header: DatagramHeader,
}

impl Incoming<'_> {
    /// Returns the length of its payload in bytes.
    pub fn len(&self) -> usize {
        self.record.len() - HEADER
    }

    /// Returns true if its payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the sender's address and port.
    pub fn remote(&self) -> SocketAddr {
        from_abi(&self.header.remote)
    }

    /// Returns the sender's port.
    pub fn remote_port(&self) -> u16 {
        self.header.remote.port
    }

    /// Returns the address and port that it was sent to.
    pub fn local(&self) -> SocketAddr {
        from_abi(&self.header.local)
    }

    /// Copies as much of the payload as fits. Returns how many bytes were copied.
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let n = self.len().min(out.len());
        if self.record.copy_at(HEADER, &mut out[..n]) {
            n
        } else {
            0
        }
    }
}

/// The socket's transmit ring during one batch. Its datagrams are published at the end of the batch.
pub struct Outgoing<'a> {
    tx: &'a mut Producer,
}

impl Outgoing<'_> {
    /// Enqueues a datagram to `remote`, from `local` or from an address that the brane chooses.
    pub fn send(
        &mut self,
        remote: SocketAddr,
        local: Option<SocketAddr>,
        data: &[u8],
    ) -> Result<(), RingError> {
        let local = local.map_or(SockAddr::default(), to_abi);
        let header = DatagramHeader {
            remote: to_abi(remote),
            local,
        };
        self.tx.push(&[header.as_bytes(), data], [0; 3])
    }

    /// Enqueues a datagram's payload to its sender, from the address that it was sent to. Copies once, from ring to ring.
    pub fn echo(&mut self, incoming: &Incoming<'_>) -> Result<(), RingError> {
        let len = incoming.record.len();
        let room = self.tx.reserve(len)?;
        // The header's `remote` is the other end in both directions, so record and reply are equal. The header comes from our
        // copy, which is the copy that was checked.
        room[..HEADER].copy_from_slice(incoming.header.as_bytes());
        incoming.record.copy_at(HEADER, &mut room[HEADER..]);
        self.tx.commit(len, [0; 3]);
        Ok(())
    }
}

/// Reason for the end of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All available datagrams are taken, or as many as were requested.
    Taken,
    /// The transmit ring is full.
    Full,
    /// A ring has an impossible index or length.
    Broken,
}

impl UdpSocket {
    /// Binds to an address and a port. An unspecified address means every address of the brane, of both families. For port 0 the
    /// brane chooses a port. A socket at the address of a group receives what is sent to this group, once it has joined, and
    /// nothing else. It may have the port of other sockets, and the port must not be 0.
    pub async fn bind(net: &NetClient, local: SocketAddr, sizes: RingSizes) -> Result<UdpSocket, Error> {
        let handle = net.0.take_slot(Some(sizes)).await?;
        let (rx, tx, rings) = {
            let core = net.0.core.borrow();
            let [rx, tx] = core.fresh_rings(handle.slot).ok_or(Error::InvalidInput)?;
            let rx = Consumer::new(rx.0, rx.1).ok_or(Error::InvalidInput)?;
            let tx = Producer::new(tx.0, tx.1).ok_or(Error::InvalidInput)?;
            (rx, tx, core.slots[handle.slot].places())
        };
        let open = Open {
            local: to_abi(local),
            remote: SockAddr::default(),
            rings,
        };
        net.0.request(handle.slot, request::UDP_BIND, bytes(&open))?;
        let endpoints = handle.opened().await?;
        Ok(UdpSocket {
            handle,
            rx,
            tx,
            local: from_abi(&endpoints.local),
            groups: GroupSettings::default(),
        })
    }

    /// Returns the address and port that it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the longest payload that it can send, in bytes.
    pub fn max_payload(&self) -> usize {
        self.tx.max_payload() - HEADER
    }

    /// Waits for datagrams and passes each available datagram, up to `budget`, to `each` together with the transmit ring. If
    /// `each` finds that ring full, the datagram stays and is passed again when there is room. Returns how many datagrams were
    /// taken, at least one.
    pub async fn exchange(
        &mut self,
        budget: usize,
        mut each: impl FnMut(&Incoming<'_>, &mut Outgoing<'_>) -> Result<(), RingError>,
    ) -> Result<usize, Error> {
        poll_fn(|cx| match self.take_batch(budget, &mut each) {
            Ok((0, waits_for)) => self.handle.wait(cx, waits_for, None),
            Ok((taken, _)) => Poll::Ready(Ok(taken)),
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }

    /// Passes every datagram to `each`, as [`Self::exchange`] does, until the socket ends. After each `budget` of datagrams other
    /// tasks run. Returns the error that ended the socket.
    pub async fn serve(
        &mut self,
        budget: usize,
        mut each: impl FnMut(&Incoming<'_>, &mut Outgoing<'_>) -> Result<(), RingError>,
    ) -> Error {
        poll_fn(|cx| match self.take_batch(budget, &mut each) {
            Ok((taken, _)) if taken == budget => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // No datagram is left, and a new one rings the doorbell: wait without a second poll.
            Ok((_, waits_for)) => match self.handle.wait::<()>(cx, waits_for, None) {
                Poll::Ready(Err(error)) => Poll::Ready(error),
                _ => Poll::Pending,
            },
            Err(error) => Poll::Ready(error),
        })
        .await
    }

    /// Passes on the available datagrams, up to `budget`. Returns how many there were, and the direction to wait for.
    fn take_batch(
        &mut self,
        budget: usize,
        each: &mut impl FnMut(&Incoming<'_>, &mut Outgoing<'_>) -> Result<(), RingError>,
    ) -> Result<(usize, Direction), Error> {
        let (mut taken, mut bad) = (0, 0);
        let end = loop {
            if taken == budget {
                break End::Taken;
            }
            let record = match self.rx.peek() {
                Ok(Some(record)) => record,
                Ok(None) => break End::Taken,
                Err(_) => break End::Broken,
            };
            let size = Consumer::size_of(&record);
            let mut header = DatagramHeader::default();
            if record.copy_at(0, header.as_mut_bytes()) {
                match each(
                    &Incoming {
                        record: &record,
                        header,
                    },
                    &mut Outgoing { tx: &mut self.tx },
                ) {
                    Ok(()) => {}
                    Err(RingError::Full) => break End::Full,
                    Err(RingError::TooLong) => bad += 1,
                    Err(RingError::Peer) => break End::Broken,
                }
            } else {
                bad += 1;
            }
            self.rx.pop(size);
            taken += 1;
        };
        // The brane never waits for room in this ring (it drops), so giving room back needs no doorbell.
        self.rx.release();
        if end == End::Full {
            // The brane notifies of room by the amount that it has taken, so no unusable room may remain.
            self.tx.skip_to_start();
        }
        if self.tx.publish() {
            self.handle.mark();
        }
        if bad != 0 {
            self.handle.shared.core.borrow_mut().counters.bad_datagrams += bad;
        }
        match end {
            End::Taken => Ok((taken, Direction::Rx)),
            End::Full => Ok((taken, Direction::Tx)),
            End::Broken => Err(self.handle.ring_error(RingError::Peer)),
        }
    }

    /// Waits for one datagram. Returns its length, its sender, and the address that it was sent to. Bytes that do not fit in
    /// `out` are lost.
    pub async fn recv_from(&mut self, out: &mut [u8]) -> Result<(usize, SocketAddr, SocketAddr), Error> {
        let mut from = None;
        self.exchange(1, |incoming, _| {
            incoming.copy_to(out);
            from = Some((incoming.len(), incoming.remote(), incoming.local()));
            Ok(())
        })
        .await?;
        from.ok_or(Error::Protocol)
    }

    /// Sends one datagram. If the ring has no room, waits for it.
    pub async fn send_to(&mut self, data: &[u8], remote: SocketAddr) -> Result<(), Error> {
        self.send_from(data, None, remote).await
    }

    /// Sends one datagram from the local address `from`; `None` lets the brane choose.
    pub async fn send_from(
        &mut self,
        data: &[u8],
        from: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<(), Error> {
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(Error::InvalidInput);
        }
        poll_fn(|cx| {
            if let Some(error) = self.handle.error() {
                return Poll::Ready(Err(error));
            }
            match (Outgoing { tx: &mut self.tx }).send(remote, from, data) {
                Ok(()) => {
                    self.tx.publish();
                    self.handle.mark();
                    Poll::Ready(Ok(()))
                }
                Err(RingError::Full) => {
                    // The brane notifies of room by the amount that it has taken, so no unusable room may remain.
                    self.tx.skip_to_start();
                    if self.tx.publish() {
                        self.handle.mark();
                    }
                    self.handle.wait(cx, Direction::Tx, None)
                }
                Err(error) => Poll::Ready(Err(self.handle.ring_error(error))),
            }
        })
        .await
    }
}
