//! Constants of wire formats, each written once.

/// Length of an Ethernet header in bytes.
pub const ETHERNET: usize = 14;
/// Length of an ARP message for IPv4 over Ethernet in bytes (RFC 826).
pub const ARP_MESSAGE: usize = 28;
/// Length of an IPv4 header without options in bytes (RFC 791, 3.1).
pub const IPV4_HEADER: usize = 20;
/// Length of the fixed IPv6 header in bytes (RFC 8200, 3).
pub const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options in bytes (RFC 9293, 3.1).
pub const TCP_HEADER: usize = 20;
/// Length of a UDP header in bytes (RFC 768).
pub const UDP_HEADER: usize = 8;
/// Length of the part that all ICMP messages but the shortest have, in bytes (RFC 792, RFC 4443).
pub const ICMP_HEADER: usize = 8;

/// Types of Ethernet frames.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// Protocol numbers of IPv4 packets and next header values of IPv6 packets, as IANA assigns them.
pub mod number {
    /// Options for each hop (RFC 8200, 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// Routing header (RFC 8200, 4.4).
    pub const ROUTING: u8 = 43;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// Nothing follows (RFC 8200, 4.7).
    pub const NOTHING: u8 = 59;
    /// Options for the destination (RFC 8200, 4.6).
    pub const DESTINATION: u8 = 60;
}

/// TCP flag bits (RFC 9293, 3.1).
pub mod flags {
    /// The sender has no more data.
    pub const FIN: u8 = 1;
    /// Synchronises sequence numbers.
    pub const SYN: u8 = 2;
    /// Resets the connection.
    pub const RST: u8 = 4;
    /// The acknowledgement field is valid.
    pub const ACK: u8 = 16;
}
