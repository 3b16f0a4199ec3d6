//! The traits of `embedded-nal-async`, so that crates written for them run over a brane unchanged. The module owns no state.

use crate::error::Error;
use crate::net_client::NetClient;
use crate::slot::RingSizes;
use crate::tcp::TcpStream;
use crate::udp::UdpSocket;
use core::net::SocketAddr;
use embedded_nal_async::{ConnectedUdp, TcpConnect, UdpStack, UnconnectedUdp};

impl TcpConnect for NetClient {
    type Error = Error;
    type Connection<'a> = TcpStream;

    async fn connect(&self, remote: SocketAddr) -> Result<TcpStream, Error> {
        TcpStream::connect(self, remote, RingSizes::default()).await
    }
}

/// A UDP socket with one remote. Datagrams of other senders are discarded.
pub struct ConnectedSocket {
    socket: UdpSocket,
    remote: SocketAddr,
}

impl ConnectedUdp for ConnectedSocket {
    type Error = Error;

    async fn send(&mut self, data: &[u8]) -> Result<(), Error> {
        self.socket.send_to(data, self.remote).await
    }

    async fn receive_into(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            let (len, remote, _) = self.socket.recv_from(buffer).await?;
            if remote == self.remote {
                return Ok(len);
            }
        }
    }
}

impl UnconnectedUdp for UdpSocket {
    type Error = Error;

    async fn send(&mut self, local: SocketAddr, remote: SocketAddr, data: &[u8]) -> Result<(), Error> {
        self.send_from(data, Some(local), remote).await
    }

    async fn receive_into(&mut self, buffer: &mut [u8]) -> Result<(usize, SocketAddr, SocketAddr), Error> {
        let (len, remote, local) = self.recv_from(buffer).await?;
        Ok((len, local, remote))
    }
}

impl UdpStack for NetClient {
    type Error = Error;
    type Connected = ConnectedSocket;
    type UniquelyBound = UdpSocket;
    type MultiplyBound = UdpSocket;

    async fn connect_from(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(SocketAddr, ConnectedSocket), Error> {
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(Error::InvalidInput);
        }
        let socket = UdpSocket::bind(self, local, RingSizes::default()).await?;
        Ok((socket.local_addr(), ConnectedSocket { socket, remote }))
    }

    /// Binds to `local`. If its address is unspecified, uses the brane's first address of that family.
    async fn bind_single(&self, local: SocketAddr) -> Result<(SocketAddr, UdpSocket), Error> {
        let mut local = local;
        if local.ip().is_unspecified() {
            let identity = self.identity();
            let found = identity
                .addresses
                .iter()
                .find(|a| a.ip.is_ipv4() == local.is_ipv4());
            local.set_ip(found.ok_or(Error::AddressNotAvailable)?.ip);
        }
        let socket = UdpSocket::bind(self, local, RingSizes::default()).await?;
        Ok((socket.local_addr(), socket))
    }

    async fn bind_multiple(&self, local: SocketAddr) -> Result<UdpSocket, Error> {
        UdpSocket::bind(self, local, RingSizes::default()).await
    }
}
