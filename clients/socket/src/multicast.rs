//! Groups of UDP sockets: joining, leaving, and how datagrams to groups are sent.
//!
//! The names of the functions are those of `std::net::UdpSocket`. The brane answers each request. It is not trusted: an answer without
//! its request is counted and ignored.

use crate::error::Error;
use crate::net_client::bytes;
use crate::slot::Direction;
use crate::tcp::to_abi;
use crate::udp::UdpSocket;
use brane_abi::net::SockAddr;
use brane_abi::socket::{self, GroupOptions, INTERFACE_NAME, Membership, request};
use core::future::poll_fn;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;

/// An interface of the brane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface<'a> {
    /// The interface that the brane's routes select.
    #[default]
    Any,
    /// The interface of this name, such as `net0`.
    Name(&'a str),
    /// The interface with this address.
    Address(IpAddr),
}

impl Interface<'_> {
    fn to_abi(self) -> Result<socket::Interface, Error> {
        let mut out = socket::Interface::default();
        match self {
            Interface::Any => {}
            Interface::Name(name) if name.is_empty() || name.len() > INTERFACE_NAME => {
                return Err(Error::InvalidInput);
            }
            Interface::Name(name) => out.name[..name.len()].copy_from_slice(name.as_bytes()),
            Interface::Address(address) => out.address = SockAddr::new(Some(address), 0),
        }
        Ok(out)
    }
}

/// How a socket sends to groups, as the brane knows it.
#[derive(Clone, Copy)]
pub(crate) struct GroupSettings {
    ttl: u8,
    loops: bool,
    interface: socket::Interface,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            ttl: 1,
            loops: true,
            interface: socket::Interface::default(),
        }
    }
}

impl UdpSocket {
    /// Joins a group at an interface. From then on the socket receives datagrams for the group and its own port. It leaves all groups
    /// when it is dropped.
    ///
    /// # Errors
    /// - [`Error::InvalidInput`]: the address is no group, or its family is not that of the socket's address.
    /// - [`Error::AddressInUse`]: the socket has joined the group at this interface already.
    /// - [`Error::AddressNotAvailable`]: the brane has no such interface.
    /// - [`Error::Unreachable`]: no interface leads to the group.
    /// - [`Error::NoResources`]: the brane's table of groups, or the client's share of it, is full.
    /// - [`Error::NotSupported`]: the brane runs without the family.
    pub async fn join_multicast(&mut self, group: IpAddr, interface: Interface<'_>) -> Result<(), Error> {
        self.membership(request::JOIN_GROUP, group, interface).await
    }

    /// Leaves a group at an interface.
    ///
    /// # Errors
    /// As for [`Self::join_multicast`]; [`Error::AddressNotAvailable`] also if the socket has not joined the group there.
    pub async fn leave_multicast(&mut self, group: IpAddr, interface: Interface<'_>) -> Result<(), Error> {
        self.membership(request::LEAVE_GROUP, group, interface).await
    }

    /// Sets the time to live or hop limit of datagrams to groups. It is 1 in a new socket. With 0 they stay inside the brane.
    pub async fn set_multicast_ttl(&mut self, ttl: u8) -> Result<(), Error> {
        let settings = GroupSettings { ttl, ..self.groups };
        self.set(settings).await
    }

    /// Decides whether sockets of the same brane that have joined a group get a copy of what this socket sends to it. They do in a new
    /// socket.
    pub async fn set_multicast_loop(&mut self, loops: bool) -> Result<(), Error> {
        let settings = GroupSettings { loops, ..self.groups };
        self.set(settings).await
    }

    /// Sets the interface that datagrams to groups leave by. A datagram with a source address leaves by the interface of this address.
    ///
    /// # Errors
    /// - [`Error::AddressNotAvailable`]: the brane has no such interface.
    pub async fn set_multicast_if(&mut self, interface: Interface<'_>) -> Result<(), Error> {
        let interface = interface.to_abi()?;
        let settings = GroupSettings {
            interface,
            ..self.groups
        };
        self.set(settings).await
    }

    async fn membership(&mut self, kind: u32, group: IpAddr, interface: Interface<'_>) -> Result<(), Error> {
        let interface = interface.to_abi()?;
        let group = to_abi(SocketAddr::new(group, 0));
        self.ask(kind, |token| {
            let membership = Membership {
                token,
                group,
                interface,
            };
            let mut out = [0; size_of::<Membership>()];
            out.copy_from_slice(bytes(&membership));
            out
        })
        .await
    }

    async fn set(&mut self, settings: GroupSettings) -> Result<(), Error> {
        self.ask(request::GROUP_OPTIONS, |token| {
            let options = GroupOptions {
                token,
                ttl: settings.ttl,
                loops: settings.loops.into(),
                reserved: [0; 2],
                interface: settings.interface,
            };
            let mut out = [0; size_of::<GroupOptions>()];
            out.copy_from_slice(bytes(&options));
            out
        })
        .await?;
        self.groups = settings;
        Ok(())
    }

    /// Sends a request and waits for its answer. A socket has one such request under way. So if a caller has given up its wait, the next
    /// request waits for that answer first.
    async fn ask<const N: usize>(&mut self, kind: u32, text: impl Fn(u32) -> [u8; N]) -> Result<(), Error> {
        let mut sent = None;
        poll_fn(|cx| {
            let (asked, (answered, error)) = {
                let core = self.handle.shared.core.borrow();
                let slot = &core.slots[self.handle.slot];
                (slot.asked, slot.answered)
            };
            if asked == answered {
                if sent == Some(answered) {
                    return Poll::Ready(match error {
                        0 => Ok(()),
                        code => Err(Error::from_code(code)),
                    });
                }
                let token = asked.wrapping_add(1);
                let shared = &self.handle.shared;
                if let Err(error) = shared.request(self.handle.slot, kind, &text(token)) {
                    return Poll::Ready(Err(error));
                }
                shared.core.borrow_mut().slots[self.handle.slot].asked = token;
                sent = Some(token);
            }
            self.handle.wait(cx, Direction::Rx, None)
        })
        .await
    }
}
