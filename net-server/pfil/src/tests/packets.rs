//! Packets for tests: each field by hand, and random ones.

use super::*;

/// Fields of a packet.
#[derive(Clone, Debug)]
pub struct Fields {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Source port, or the identifier of ICMP.
    pub from: u16,
    pub to: u16,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub kind: u8,
    pub code: u8,
    /// Words of IPv4 options.
    pub options: u8,
    pub payload: Vec<u8>,
}

impl Fields {
    pub fn new(protocol: u8, source: &str, from: u16, destination: &str, to: u16) -> Fields {
        Fields {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            from,
            to,
            flags: 0,
            sequence: 0,
            acknowledgement: 0,
            kind: 0,
            code: 0,
            options: 0,
            payload: Vec::new(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self.protocol {
            6 => {
                body.extend([self.from, self.to].map(u16::to_be_bytes).concat());
                body.extend(
                    [self.sequence, self.acknowledgement]
                        .map(u32::to_be_bytes)
                        .concat(),
                );
                body.extend([5 << 4, self.flags, 0, 0, 0, 0, 0, 0]);
            }
            17 => body.extend(
                [self.from, self.to, 8 + self.payload.len() as u16, 0]
                    .map(u16::to_be_bytes)
                    .concat(),
            ),
            1 | 58 => {
                body.extend([self.kind, self.code, 0, 0]);
                body.extend([self.from, 0].map(u16::to_be_bytes).concat());
            }
            _ => {}
        }
        body.extend(&self.payload);
        let mut packet = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + 4 * usize::from(self.options);
                packet.extend([0x45 + self.options, 0]);
                packet.extend(((header + body.len()) as u16).to_be_bytes());
                packet.extend([0, 0, 0, 0, 64, self.protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.resize(header, 1);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((body.len() as u16).to_be_bytes());
                packet.extend([self.protocol, 64]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
            }
            other => panic!("{other:?}"),
        }
        packet.extend(body);
        packet
    }
}

/// Random packets of both families, with fields that the rules of [`super::packet_rule`] often name.
pub fn fields() -> impl Strategy<Value = Fields> {
    select(&Family::ALL).prop_flat_map(|family| {
        (
            (address(family), address(family), protocol(family)),
            (port(), port()),
            any::<(u8, u32, u32)>(),
            (prop_oneof![0u8..16, 128u8..140], 0u8..3),
            0u8..=10,
            vec(any::<u8>(), 0..20),
        )
            .prop_map(
                |(
                    (source, destination, protocol),
                    (from, to),
                    (flags, sequence, acknowledgement),
                    (kind, code),
                    options,
                    payload,
                )| Fields {
                    source,
                    destination,
                    protocol,
                    from,
                    to,
                    flags,
                    sequence,
                    acknowledgement,
                    kind,
                    code,
                    options,
                    payload,
                },
            )
    })
}
