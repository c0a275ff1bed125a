//! Where the headers of a packet lie. Packets come from others: nothing in them is believed beyond their end.

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;
/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are looked behind.
const MAX_EXTENSIONS: usize = 8;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];

/// Which Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
}

/// A protocol above IP that has a checksum over a pseudo-header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl Transport {
    /// Its number in IP headers.
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    /// Where its checksum is, from the start of its header.
    pub const fn checksum_offset(self) -> usize {
        match self {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }

    const fn from_number(number: u8) -> Option<Transport> {
        match number {
            6 => Some(Transport::Tcp),
            17 => Some(Transport::Udp),
            _ => None,
        }
    }

    const fn shortest_header(self) -> usize {
        match self {
            Transport::Tcp => 20,
            Transport::Udp => 8,
        }
    }
}

/// A whole TCP or UDP packet within an Ethernet frame. All offsets are from the start of the frame and lie within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// Which IP.
    pub network: Network,
    /// Where its header starts.
    pub network_start: usize,
    /// Which protocol above it.
    pub transport: Transport,
    /// Where its header starts.
    pub transport_start: usize,
    /// Where the packet ends, by its IP header. Behind it the frame may be padded.
    pub end: usize,
}

impl Headers {
    /// Finds the headers. `None` for everything but whole TCP and UDP packets: other protocols, fragments, and packets
    /// that say they are longer than the frame.
    pub fn find(frame: &[u8]) -> Option<Headers> {
        let (kind, network_start) = ether_type(frame)?;
        let headers = match kind {
            TYPE_IPV4 => ipv4(frame, network_start)?,
            TYPE_IPV6 => ipv6(frame, network_start)?,
            _ => return None,
        };
        let room = headers.end.checked_sub(headers.transport_start)?;
        (headers.end <= frame.len() && room >= headers.transport.shortest_header()).then_some(headers)
    }

    /// The two addresses: source, then destination.
    pub fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let (offset, bytes) = match self.network {
            Network::Ipv4 => (12, 8),
            Network::Ipv6 => (8, 32),
        };
        &frame[self.network_start + offset..][..bytes]
    }

    /// The two ports, as they are in the packet.
    pub fn ports<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.transport_start..][..4]
    }

    /// Where the data of a TCP packet starts, if its header fits into it.
    pub fn tcp_data(&self, frame: &[u8]) -> Option<usize> {
        // A UDP packet may end before this byte, and the frame with it.
        if self.transport != Transport::Tcp {
            return None;
        }
        let header = usize::from(frame.get(self.transport_start + 12)? >> 4) * 4;
        let start = self.transport_start + header;
        (header >= 20 && start <= self.end).then_some(start)
    }
}

/// A number of a packet's connection: the same for all its packets in one direction; 0 where there is none.
pub fn flow(frame: &[u8]) -> u32 {
    let Some(headers) = Headers::find(frame) else { return 0 };
    let bytes = headers.addresses(frame).iter().chain(headers.ports(frame));
    // FNV-1a.
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The big-endian number at `offset`.
pub fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The type behind the tags, and where what it names starts.
fn ether_type(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    for _ in 0..=MAX_TAGS {
        let kind = be16(frame, at)?;
        if !TYPES_VLAN.contains(&kind) {
            return Some((kind, at + 2));
        }
        at += 4;
    }
    None
}

fn ipv4(frame: &[u8], start: usize) -> Option<Headers> {
    let header = frame.get(start..)?.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0xf) * 4;
    // More fragments to come, or this isn't the first.
    let fragment = be16(header, 6)? & 0x3fff != 0;
    if header[0] >> 4 != 4 || length < 20 || fragment {
        return None;
    }
    Some(Headers {
        network: Network::Ipv4,
        network_start: start,
        transport: Transport::from_number(header[9])?,
        transport_start: start + length,
        end: start + usize::from(be16(header, 2)?),
    })
}

fn ipv6(frame: &[u8], start: usize) -> Option<Headers> {
    let header = frame.get(start..)?.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let end = start + 40 + usize::from(be16(header, 4)?);
    let (mut next, mut at) = (header[6], start + 40);
    for _ in 0..=MAX_EXTENSIONS {
        if let Some(transport) = Transport::from_number(next) {
            let network = Network::Ipv6;
            return Some(Headers { network, network_start: start, transport, transport_start: at, end });
        }
        // Hop-by-hop, routing, destination options. A fragment header is none of them.
        if ![0, 43, 60].contains(&next) {
            return None;
        }
        let [following, length] = *frame.get(at..)?.first_chunk()?;
        next = following;
        at += (usize::from(length) + 1) * 8;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// An Ethernet frame with an IPv4 packet.
    pub fn ipv4_frame(protocol: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, length[0], length[1], 0, 7, 0x40, 0, 64, protocol, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        frame.extend(body);
        frame
    }

    /// An Ethernet frame with an IPv6 packet, with an extension header before its body.
    pub fn ipv6_frame(protocol: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, length[0], length[1], 60, 64]);
        frame.extend(1..=32);
        frame.extend([protocol, 0, 1, 4, 0, 0, 0, 0]);
        frame.extend(body);
        frame
    }

    #[test]
    fn finds_both_protocols_behind_tags_and_extensions() {
        let plain = ipv4_frame(6, &[0; 20]);
        let want = Headers {
            network: Network::Ipv4,
            network_start: 14,
            transport: Transport::Tcp,
            transport_start: 34,
            end: 54,
        };
        assert_eq!(Headers::find(&plain), Some(want));
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(Headers::find(&tagged).map(|found| found.transport_start), Some(38));
        let long = ipv6_frame(17, &[0; 9]);
        let found = Headers::find(&long).unwrap();
        assert_eq!((found.transport, found.transport_start, found.end), (Transport::Udp, 62, 71));
        assert_eq!(found.addresses(&long), (1..=32).collect::<Vec<u8>>());
    }

    #[test]
    fn padding_is_no_part_of_the_packet() {
        let mut frame = ipv4_frame(17, &[0; 8]);
        frame.resize(60, 0);
        assert_eq!(Headers::find(&frame).map(|found| found.end), Some(42));
    }

    #[test]
    fn fragments_and_short_frames_are_not_whole_packets() {
        let mut frame = ipv4_frame(6, &[0; 20]);
        frame[20] = 0x20;
        assert_eq!(Headers::find(&frame), None);
        let frame = ipv4_frame(6, &[0; 20]);
        for length in 0..frame.len() {
            assert_eq!(Headers::find(&frame[..length]), None);
        }
        assert_eq!(Headers::find(&ipv4_frame(6, &[0; 19])), None);
        assert_eq!(Headers::find(&ipv4_frame(1, &[0; 20])), None);
    }

    #[test]
    fn the_shortest_udp_packet_has_no_tcp_data() {
        for frame in [ipv4_frame(17, &[0; 8]), ipv6_frame(17, &[0; 8])] {
            let found = Headers::find(&frame).unwrap();
            assert_eq!((found.end, found.tcp_data(&frame)), (frame.len(), None));
        }
    }

    #[test]
    fn a_flow_has_one_direction_and_ignores_data() {
        let a = ipv4_frame(6, &[1; 20]);
        let mut b = ipv4_frame(6, &[1; 40]);
        b[60] = 9;
        assert_eq!(flow(&a), flow(&b));
        b[34] = 2;
        assert_ne!(flow(&a), flow(&b));
        assert_eq!(flow(&[0; 60]), 0);
    }

    proptest! {
        /// Whatever is in a frame, what is found lies within it.
        #[test]
        fn nothing_is_found_outside(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), six in any::<bool>()) {
            for (at, value) in [(12, if six { 0x86 } else { 8 }), (13, if six { 0xdd } else { 0 }), (14, if six { 0x60 } else { 0x45 })] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(found) = Headers::find(&bytes) {
                prop_assert!(found.transport_start + 8 <= found.end && found.end <= bytes.len());
                found.addresses(&bytes);
                found.ports(&bytes);
                prop_assert!(found.tcp_data(&bytes).is_none_or(|data| data <= found.end));
            }
            flow(&bytes);
        }
    }
}
