//! Checksums of TCP and UDP (RFC 1071, RFC 9293 3.1, RFC 768, RFC 8200 8.1).
//!
//! Between two guests of one machine nothing spoils a packet on its way, so its checksum may be left *blank*: the field
//! holds the sum of the pseudo-header alone, and whoever sends the packet to a wire adds the rest.

use super::wire::{Headers, Network, Transport};

/// A one's complement sum of 16-bit words.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes. Only the last piece may have an odd number of them.
    #[must_use]
    pub fn add(mut self, bytes: &[u8]) -> Sum {
        // The sum is the same in either byte order, but for the order of its own bytes (RFC 1071, 2 B): words of the
        // machine are added four bytes at a time, which can't overflow below 16 GiB.
        let (words, rest) = bytes.as_chunks::<4>();
        for word in words {
            self.0 += u64::from(u32::from_ne_bytes(*word));
        }
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_ne_bytes(last));
        self
    }

    /// The sum as it is written into a packet, not inverted.
    pub fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [low, high, ..] = sum.to_le_bytes();
        u16::from_le_bytes([low, high]).to_ne_bytes()
    }

    /// The checksum: the sum inverted.
    pub fn checksum(self) -> [u8; 2] {
        self.fold().map(|byte| !byte)
    }
}

/// Writes the whole checksum into a TCP or UDP packet, whatever its field held. Whether there is such a packet.
pub fn complete(frame: &mut [u8]) -> bool {
    let Some(headers) = Headers::find(frame) else { return false };
    let checksum = match compute(frame, &headers).checksum() {
        // A UDP packet with 0 there has no checksum (RFC 768).
        [0, 0] if headers.transport == Transport::Udp => [0xff; 2],
        checksum => checksum,
    };
    field(frame, &headers).copy_from_slice(&checksum);
    true
}

/// Writes the sum of the pseudo-header into a TCP or UDP packet, and leaves the rest to others. Whether there is such a
/// packet.
pub fn leave_blank(frame: &mut [u8]) -> bool {
    let Some(headers) = Headers::find(frame) else { return false };
    let sum = pseudo_header(frame, &headers).fold();
    field(frame, &headers).copy_from_slice(&sum);
    true
}

/// Whether the checksum of a packet is right. Packets without one are.
pub fn is_right(frame: &[u8]) -> bool {
    let Some(headers) = Headers::find(frame) else { return true };
    let at = headers.transport_start + headers.transport.checksum_offset();
    let absent = headers.transport == Transport::Udp && headers.network == Network::Ipv4 && frame[at..at + 2] == [0; 2];
    absent || pseudo_header(frame, &headers).add(&frame[headers.transport_start..headers.end]).fold() == [0xff; 2]
}

/// Writes the checksum of an IPv4 header.
pub fn complete_ipv4_header(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = Sum::default().add(header).checksum();
    header[10..12].copy_from_slice(&checksum);
}

fn field<'a>(frame: &'a mut [u8], headers: &Headers) -> &'a mut [u8] {
    &mut frame[headers.transport_start + headers.transport.checksum_offset()..][..2]
}

/// The sum of the packet with 0 in its field.
fn compute(frame: &mut [u8], headers: &Headers) -> Sum {
    field(frame, headers).fill(0);
    pseudo_header(frame, headers).add(&frame[headers.transport_start..headers.end])
}

fn pseudo_header(frame: &[u8], headers: &Headers) -> Sum {
    // Below 64 KiB more than the longest IPv6 packet: the number fits.
    let length = u32::try_from(headers.end - headers.transport_start).unwrap_or(u32::MAX).to_be_bytes();
    Sum::default().add(headers.addresses(frame)).add(&length).add(&[0, headers.transport.number()])
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::{ipv4_frame, ipv6_frame};
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// The sum by the book, word by word.
    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        u16::try_from(sum).unwrap().to_be_bytes()
    }

    #[test]
    fn an_example_by_hand() {
        // RFC 1071, 3.
        assert_eq!(Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), [0xdd, 0xf2]);
        // A header with its checksum, as it is found in tutorials.
        let mut header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 0x01, 0xc0, 0xa8, 0, 0xc7];
        complete_ipv4_header(&mut header);
        assert_eq!(header[10..12], [0xb8, 0x61]);
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        // Ports and data are such that the sum is 0xffff.
        let mut frame = ipv4_frame(17, &[0, 0, 0, 0, 0, 10, 0, 0, 0, 0]);
        let headers = Headers::find(&frame).unwrap();
        let rest = compute(&mut frame, &headers).checksum();
        frame[42..44].copy_from_slice(&rest);
        assert!(complete(&mut frame));
        assert_eq!(frame[40..42], [0xff, 0xff]);
        assert!(is_right(&frame));
    }

    #[test]
    fn packets_without_checksums_are_left_alone() {
        let mut frame = ipv4_frame(1, &[7; 30]);
        let before = frame.clone();
        assert!(!complete(&mut frame) && !leave_blank(&mut frame) && is_right(&frame));
        assert_eq!(frame, before);
        assert!(is_right(&ipv4_frame(17, &[0, 1, 0, 2, 0, 8, 0, 0])), "UDP over IPv4 may have none");
        assert!(!is_right(&ipv6_frame(17, &[0, 1, 0, 2, 0, 8, 0, 0])), "over IPv6 it may not");
    }

    proptest! {
        #[test]
        fn as_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0usize..50) {
            let cut = (cut * 2).min(bytes.len());
            let (head, tail) = bytes.split_at(cut);
            let same = |a: [u8; 2], b: [u8; 2]| a == b || (a, b) == ([0xff; 2], [0; 2]) || (a, b) == ([0; 2], [0xff; 2]);
            prop_assert!(same(Sum::default().add(head).add(tail).fold(), naive(&bytes)));
        }

        /// A blank checksum that is completed later is the right one, and a change is found.
        #[test]
        fn blank_then_complete(
            body in proptest::collection::vec(any::<u8>(), 20..80), tcp in any::<bool>(), six in any::<bool>(),
            spoiled in any::<prop::sample::Index>(),
        ) {
            let protocol = if tcp { 6 } else { 17 };
            let mut frame: Vec<u8> = if six { ipv6_frame(protocol, &body) } else { ipv4_frame(protocol, &body) };
            prop_assert!(leave_blank(&mut frame));
            // What hardware does: sum up everything, the field included.
            let headers = Headers::find(&frame).unwrap();
            let sum = Sum::default().add(&frame[headers.transport_start..headers.end]).checksum();
            let mut whole = frame.clone();
            prop_assert!(complete(&mut whole));
            let at = headers.transport_start + headers.transport.checksum_offset();
            if sum != [0; 2] {
                prop_assert_eq!(&whole[at..at + 2], &sum);
            }
            prop_assert!(is_right(&whole));
            let at = headers.transport_start + spoiled.index(headers.end - headers.transport_start);
            whole[at] ^= 0x40;
            let field = headers.transport_start + headers.transport.checksum_offset();
            prop_assert!(!is_right(&whole) || (!six && !tcp && whole[field..field + 2] == [0; 2]));
        }
    }
}
