//! Named counters of a brane: every refusal and every drop, by reason.
//!
//! Owned by the brane alone; the manager reads them as part of a status report and takes them for what an untrusted
//! brane says of itself.

use alloc::string::ToString;
use alloc::vec::Vec;
use brane_abi::control::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// Counts since the brane started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            /// All of them by name, in a fixed order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames received.
    rx_frames = "rx frames",
    /// Their bytes.
    rx_bytes = "rx bytes",
    /// Frames sent; one that the device cuts into segments counts once.
    tx_frames = "tx frames",
    /// Their bytes.
    tx_bytes = "tx bytes",
    /// Frames not sent because the driver's ring was full.
    tx_ring_full = "tx ring full",
    /// Frames dropped because they make no sense: the sum of the next five.
    malformed = "malformed",
    /// Shorter than the headers they begin.
    truncated = "truncated",
    /// A length field contradicts another or the frame.
    bad_length = "bad length",
    /// Wrong version, header length or options.
    bad_header = "bad header",
    /// A source or destination address that no such packet may have.
    bad_address = "bad address",
    /// A fragment that cannot be part of any packet.
    bad_fragment = "bad fragment",
    /// Frames dropped for a wrong checksum of IPv4, TCP, UDP or ICMP.
    bad_checksum = "bad checksum",
    /// Frames of a protocol that no brane speaks.
    unknown_ethertype = "unknown ethertype",
    /// Frames to another station.
    not_for_us = "not for us",
    /// Frames of a family that the brane does not have, or does not serve now.
    no_family = "no family",
    /// Packets of a protocol that the brane does not have.
    no_protocol = "no protocol",
    /// Received packets that a rule of the brane's filter dropped or rejected.
    filter_dropped_in = "filter dropped in",
    /// Packets of the brane that a rule of its filter dropped or rejected before they left.
    filter_dropped_out = "filter dropped out",
    /// Binds, connects and incoming connections that a rule of the brane's filter refused.
    filter_refused_calls = "filter refused calls",
    /// ICMP errors not sent because there were too many.
    errors_limited = "icmp errors limited",
    /// ICMP errors received about packets that the brane may have sent.
    icmp_errors = "icmp errors received",
    /// ICMP errors received about no packet, socket or connection of the brane.
    icmp_errors_stray = "icmp errors stray",
    /// Fragments received.
    fragments = "fragments",
    /// Packets put together from fragments.
    reassembled = "reassembled",
    /// Packets of which not all fragments came in time, or which gave way to others, or whose fragments overlap.
    reassembly_failed = "reassembly failed",
    /// Packets, datagrams and answers dropped because there was no memory for them.
    no_memory = "no memory",
    /// Datagrams given to a client.
    udp_received = "udp received",
    /// Datagrams of clients sent.
    udp_sent = "udp sent",
    /// Datagrams dropped because the client's ring was full.
    udp_rx_full = "udp rx ring full",
    /// Datagrams of clients refused: header or length make no sense.
    udp_bad_request = "udp bad request",
    /// Datagrams dropped because no interface leads to their destination.
    udp_no_route = "udp no route",
    /// Datagrams dropped because a neighbour did not answer in time, or too many waited for one.
    udp_unreachable = "udp neighbour unreachable",
    /// Datagrams that waited for a neighbour and were tried again.
    udp_retried = "udp retried",
    /// Requests to join a group that were refused because a table or the client's share of it was full.
    groups_refused = "groups refused",
    /// ICMP errors received about datagrams of clients.
    udp_icmp_errors = "udp icmp errors",
    /// Connections that came in and were established.
    tcp_accepted = "tcp accepted",
    /// Connections that clients opened and that were established.
    tcp_connected = "tcp connected",
    /// SYNs answered with a cookie because the queue of half-open connections, or their source's share of it, was full.
    tcp_syn_cookies = "tcp syn cookies",
    /// Handshakes not completed because the listener's backlog was full.
    tcp_backlog_full = "tcp backlog full",
    /// Handshakes not completed because the socket or memory quota was used up.
    tcp_no_memory = "tcp no memory",
    /// Handshakes not completed because their source held its share of connections.
    tcp_source_full = "tcp source full",
    /// Connections reset because their source held more than others that found no room.
    tcp_evicted = "tcp evicted",
    /// ICMP errors received about connections.
    tcp_icmp_errors = "tcp icmp errors",
    /// Connections reset or timed out.
    tcp_resets = "tcp resets",
    /// Connections reset because their interface or address was taken from the brane.
    tcp_stranded = "tcp stranded",
    /// Closed connections that were forgotten early for the sake of new ones.
    tcp_lingering_evicted = "tcp lingering evicted",
    /// Clients cut off for breaking the ring protocol or for too many requests without sense.
    client_errors = "client protocol errors",
    /// Requests without sense.
    client_bad_requests = "client bad requests",
    /// Requests about an earlier use of a slot.
    client_stale = "client stale requests",
    /// Links to clients that came up.
    client_links = "client links",
    /// Impossible ring contents from the driver.
    driver_errors = "driver protocol errors",
    /// Links to the driver that came up.
    driver_links = "driver links",
    /// Commands of the manager that made no sense.
    manager_bad_commands = "manager bad commands",
}

impl Counters {
    /// As a status report carries them.
    pub fn report(&self) -> Vec<Counter> {
        self.iter()
            .map(|(name, value)| Counter {
                name: name.to_string(),
                value,
            })
            .collect()
    }

    /// Counts a frame that was dropped before the stack saw it.
    pub fn dropped(&mut self, reason: crate::headers::Reason) {
        use crate::headers::Reason;
        let (count, malformed) = match reason {
            Reason::Truncated => (&mut self.truncated, 1),
            Reason::Length => (&mut self.bad_length, 1),
            Reason::Header => (&mut self.bad_header, 1),
            Reason::Address => (&mut self.bad_address, 1),
            Reason::Fragment => (&mut self.bad_fragment, 1),
            Reason::Checksum => (&mut self.bad_checksum, 0),
            Reason::Ethertype => (&mut self.unknown_ethertype, 0),
            Reason::NotForUs => (&mut self.not_for_us, 0),
        };
        *count += 1;
        self.malformed += malformed;
    }
}
