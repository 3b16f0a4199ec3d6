//! Division of the socket region's slots and data area among the services. It is defined and checked here
//! only.

use brane_abi::layout::sock;
use brane_socket::{ListenOptions, RingSizes};

/// Echo, RFC 862.
pub const ECHO: u16 = 7;
/// Discard, RFC 863.
pub const DISCARD: u16 = 9;
/// Character generator (RFC 864), called "source" here.
pub const SOURCE: u16 = 19;
/// HTTP.
pub const HTTP: u16 = 80;

/// Share of a TCP service.
pub struct TcpPlan {
    pub port: u16,
    /// Maximum of connections, closing ones included. Each has a slot and a posted accept.
    pub connections: usize,
    /// Rings of each connection.
    pub rings: RingSizes,
    /// Connections that may wait for a slot.
    pub backlog: u32,
    /// Bytes of receive and send buffers in the brane for each connection.
    pub buffers: (u32, u32),
}

/// Share of a UDP service.
pub struct UdpPlan {
    pub port: u16,
    pub rings: RingSizes,
}

const KIB: usize = 1024;

/// Echo over TCP: many connections with little traffic.
pub const TCP_ECHO: TcpPlan = TcpPlan {
    port: ECHO,
    connections: 22,
    rings: RingSizes {
        rx: 16 * KIB,
        tx: 16 * KIB,
    },
    backlog: 32,
    buffers: (16 << 10, 16 << 10),
};

/// HTTP: many connections, small requests, responses of one page.
pub const TCP_HTTP: TcpPlan = TcpPlan {
    port: HTTP,
    connections: 22,
    rings: RingSizes {
        rx: 8 * KIB,
        tx: 8 * KIB,
    },
    backlog: 32,
    buffers: (8 << 10, 8 << 10),
};

/// Discard over TCP: few connections at the maximum rate, inwards.
pub const TCP_DISCARD: TcpPlan = TcpPlan {
    port: DISCARD,
    connections: 6,
    rings: RingSizes {
        rx: 128 * KIB,
        tx: KIB,
    },
    backlog: 8,
    buffers: (256 << 10, 4 << 10),
};

/// Source over TCP: few connections at the maximum rate, outwards.
pub const TCP_SOURCE: TcpPlan = TcpPlan {
    port: SOURCE,
    connections: 6,
    rings: RingSizes {
        rx: KIB,
        tx: 128 * KIB,
    },
    backlog: 8,
    buffers: (4 << 10, 256 << 10),
};

/// Echo over UDP: rings for 256 datagrams of 1472 bytes in each direction.
pub const UDP_ECHO: UdpPlan = UdpPlan {
    port: ECHO,
    rings: RingSizes {
        rx: 512 * KIB,
        tx: 512 * KIB,
    },
};

/// Discard over UDP.
pub const UDP_DISCARD: UdpPlan = UdpPlan {
    port: DISCARD,
    rings: RingSizes {
        rx: 256 * KIB,
        tx: KIB,
    },
};

impl TcpPlan {
    /// Returns the listener's options.
    pub fn options(&self) -> ListenOptions {
        ListenOptions {
            rings: self.rings,
            backlog: self.backlog,
            rx_buffer: self.buffers.0,
            tx_buffer: self.buffers.1,
        }
    }
}

const TCP: [&TcpPlan; 4] = [&TCP_ECHO, &TCP_HTTP, &TCP_DISCARD, &TCP_SOURCE];

/// Returns the slots and bytes that all plans need together.
const fn needs() -> (usize, usize) {
    let (mut slots, mut bytes) = (TCP.len() + 2, 0);
    let mut i = 0;
    while i < TCP.len() {
        slots += TCP[i].connections;
        bytes += TCP[i].connections * (TCP[i].rings.rx + TCP[i].rings.tx);
        i += 1;
    }
    bytes += UDP_ECHO.rings.rx + UDP_ECHO.rings.tx + UDP_DISCARD.rings.rx + UDP_DISCARD.rings.tx;
    (slots, bytes)
}

const _: () = assert!(
    needs().0 <= sock::SLOTS,
    "the services plan more slots than there are"
);
const _: () = assert!(
    needs().1 <= sock::DATA.len,
    "the services plan more ring memory than there is"
);
