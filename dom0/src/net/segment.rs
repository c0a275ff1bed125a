//! Cutting a large TCP packet into packets that fit, for receivers that can't take it whole.

use super::packet::{Gso, MAX_FRAME, Packet};
use alloc::vec::Vec;
use guest_kernel::net::checksum;
use guest_kernel::net::wire::{Headers, Network};

/// The least data in a piece. Below, a guest could make hundreds of packets of each that it pays for; no TCP asks for
/// less (Linux: `TCP_MIN_SND_MSS`).
const MIN_SIZE: u16 = 48;

const FIN: u8 = 1 << 0;
const PSH: u8 = 1 << 3;
const CWR: u8 = 1 << 7;

/// The pieces of a packet, made one by one. Ends early if there is no memory for one.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    headers: Headers,
    /// Where the data starts, and where the next piece does.
    data: usize,
    next: usize,
    size: usize,
}

impl<'a> Segments<'a> {
    /// `None` if the packet isn't whole TCP over that IP, or the pieces would be too small, or longer than a frame may be:
    /// who takes no large packets, and a wire, would be given them.
    pub fn new(packet: &'a [u8], gso: Gso) -> Option<Segments<'a>> {
        let headers = Headers::find(packet)?;
        let data = headers.tcp_data(packet)?;
        let size = usize::from(gso.size);
        let fits = gso.size >= MIN_SIZE && data + size <= MAX_FRAME;
        let sound = headers.network == gso.network && fits && data < headers.end;
        sound.then_some(Segments { packet, headers, data, next: data, size })
    }

    /// A piece of the data from `start` to `end`, with headers of its own.
    fn piece(&self, start: usize, end: usize) -> Option<Vec<u8>> {
        let mut piece = Packet::buffer(self.data + end - start)?;
        let (head, body) = piece.split_at_mut(self.data);
        head.copy_from_slice(&self.packet[..self.data]);
        body.copy_from_slice(&self.packet[start..end]);
        self.number(&mut piece, start)?;
        let (first, last) = (start == self.data, end == self.headers.end);
        let flags = &mut piece[self.headers.transport_start + 13];
        *flags &= if last { 0xff } else { !(FIN | PSH) };
        *flags &= if first { 0xff } else { !CWR };
        self.lengthen(&mut piece, start)?;
        checksum::complete(&mut piece).then_some(piece)
    }

    /// The piece's place in the stream.
    fn number(&self, piece: &mut [u8], start: usize) -> Option<()> {
        let field: &mut [u8; 4] = piece[self.headers.transport_start + 4..].first_chunk_mut()?;
        let skipped = u32::try_from(start - self.data).ok()?;
        *field = u32::from_be_bytes(*field).wrapping_add(skipped).to_be_bytes();
        Some(())
    }

    /// The IP header: its length, and over IPv4 a number of its own and the checksum.
    fn lengthen(&self, piece: &mut [u8], start: usize) -> Option<()> {
        let from = self.headers.network_start;
        let length = piece.len() - from;
        let ip = &mut piece[from..self.headers.transport_start];
        match self.headers.network {
            Network::Ipv4 => {
                ip[2..4].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
                let index = u16::try_from((start - self.data) / self.size).ok()?;
                let number: &mut [u8; 2] = ip[4..].first_chunk_mut()?;
                *number = u16::from_be_bytes(*number).wrapping_add(index).to_be_bytes();
                checksum::complete_ipv4_header(ip);
            }
            Network::Ipv6 => ip[4..6].copy_from_slice(&u16::try_from(length - 40).ok()?.to_be_bytes()),
        }
        Some(())
    }
}

impl Iterator for Segments<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let start = self.next;
        if start >= self.headers.end {
            return None;
        }
        self.next = self.headers.end.min(start + self.size);
        self.piece(start, self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Abilities, Checksum};
    use proptest::prelude::*;
    use proptest::sample::Index;
    use std::vec;

    const FLAGS: u8 = FIN | PSH | CWR | 1 << 4;

    fn large(network: Network, options: usize, data: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0x1f, 0x90, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, FLAGS, 1, 0, 0, 0, 0, 0];
        tcp[12] = u8::try_from(5 + options).unwrap() << 4;
        tcp.extend(vec![1; options * 4]);
        tcp.extend(data);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let length = |more: usize| u16::try_from(more + tcp.len()).unwrap().to_be_bytes();
        match network {
            Network::Ipv4 => {
                frame.extend([8, 0, 0x45, 0, length(20)[0], length(20)[1], 0xff, 0xff, 0x40, 0, 64, 6, 0, 0]);
                frame.extend([10, 0, 2, 15, 10, 0, 2, 2]);
            }
            Network::Ipv6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, length(0)[0], length(0)[1], 6, 64]);
                frame.extend(1..=32);
            }
        }
        frame.extend(tcp);
        frame
    }

    proptest! {
        /// The pieces are right TCP packets, and together the stream of the large one.
        #[test]
        fn the_stream_is_the_same(
            six in any::<bool>(), options in 0usize..=10, size: Index,
            data in proptest::collection::vec(any::<u8>(), 1..20_000),
        ) {
            let network = if six { Network::Ipv6 } else { Network::Ipv4 };
            let frame = large(network, options, &data);
            // From the least to the most.
            let most = MAX_FRAME - (frame.len() - data.len());
            let size = u16::try_from(usize::from(MIN_SIZE) + size.index(most - usize::from(MIN_SIZE) + 1)).unwrap();
            let pieces: Vec<_> = Segments::new(&frame, Gso { network, size }).unwrap().collect();
            let mut stream: Vec<u8> = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                let headers = Headers::find(piece).unwrap();
                prop_assert_eq!(headers.end, piece.len());
                prop_assert!(piece.len() <= MAX_FRAME);
                prop_assert!(checksum::is_right(piece));
                if !six {
                    prop_assert_eq!(checksum::Sum::default().with(&piece[14..34]).fold(), [0xff; 2]);
                    let number = u16::from_be_bytes([piece[18], piece[19]]);
                    prop_assert_eq!(usize::from(number.wrapping_add(1)), index);
                }
                let at = headers.transport_start;
                let sequence = u32::from_be_bytes(*piece[at + 4..].first_chunk().unwrap());
                prop_assert_eq!(sequence.wrapping_sub(0xffff_ff00) as usize, stream.len());
                let flags = piece[at + 13];
                let (first, last) = (index == 0, index + 1 == pieces.len());
                prop_assert_eq!(flags & CWR != 0, first);
                prop_assert_eq!(flags & (FIN | PSH) != 0, last);
                let body = &piece[headers.tcp_data(piece).unwrap()..];
                prop_assert!(body.len() == usize::from(size) || last);
                stream.extend(body);
            }
            prop_assert_eq!(stream, data);
        }

        /// Whatever a guest calls a large packet: no panic, no endless pieces, and none that is longer than a frame may be.
        #[test]
        fn any_bytes_are_cut_or_refused(
            six in any::<bool>(), udp in any::<bool>(), options in 0usize..=10, size: u16,
            data in proptest::collection::vec(any::<u8>(), 0..100), cut in 0usize..200, odd: (usize, u8),
        ) {
            let network = if six { Network::Ipv6 } else { Network::Ipv4 };
            let mut frame = large(network, options, &data);
            frame.truncate(frame.len().saturating_sub(cut));
            // So that it is whole again, as short as it may be.
            let start = if six { 54 } else { 34 };
            if let Some(room) = frame.len().checked_sub(start) {
                let room = if six { room } else { room + 20 };
                let length = u16::try_from(room).unwrap().to_be_bytes();
                let at = if six { 18 } else { 16 };
                frame[at..at + 2].copy_from_slice(&length);
                if udp {
                    frame[if six { 20 } else { 23 }] = 17;
                }
            }
            let at = odd.0 % (2 * frame.len().max(1));
            if let Some(byte) = frame.get_mut(at) {
                *byte = odd.1;
            }
            if let Some(segments) = Segments::new(&frame, Gso { network, size }) {
                let pieces: Vec<_> = segments.collect();
                prop_assert!(pieces.len() <= frame.len() / usize::from(MIN_SIZE) + 1);
                prop_assert!(pieces.iter().all(|piece| piece.len() <= MAX_FRAME));
            }
        }
    }

    #[test]
    fn the_shortest_udp_packet_is_not_cut() {
        for network in [Network::Ipv4, Network::Ipv6] {
            let mut frame = large(network, 0, &[]);
            frame.truncate(frame.len() - 12);
            let [length, protocol] = if network == Network::Ipv4 { [17, 23] } else { [19, 20] };
            frame[length] -= 12;
            frame[protocol] = 17;
            assert!(Headers::find(&frame).is_some_and(|found| found.end == frame.len()));
            assert!(Segments::new(&frame, Gso { network, size: 1448 }).is_none());
        }
    }

    #[test]
    fn a_lie_about_a_packet_makes_none() {
        let gso = Gso { network: Network::Ipv4, size: 1448 };
        let frame = large(Network::Ipv4, 0, &[0; 5000]);
        assert!(Segments::new(&frame, Gso { network: Network::Ipv6, ..gso }).is_none());
        assert!(Segments::new(&frame, Gso { size: MIN_SIZE - 1, ..gso }).is_none());
        // Its data starts at 54.
        assert!(Segments::new(&frame, Gso { size: 1468, ..gso }).is_some());
        assert!([1469, 9000, u16::MAX].iter().all(|size| Segments::new(&frame, Gso { size: *size, ..gso }).is_none()));
        assert!(Segments::new(&frame[..1000], gso).is_none());
        assert!(Segments::new(&large(Network::Ipv4, 0, &[]), gso).is_none());
        let mut udp = frame;
        udp[23] = 17;
        assert!(Segments::new(&udp, gso).is_none());
    }

    #[test]
    fn a_receiver_gets_what_it_can_take() {
        let all = Abilities { scattered: true, blank_ipv4: true, blank_ipv6: true, gso_ipv4: true, gso_ipv6: true };
        let gso = Gso { network: Network::Ipv4, size: 1000 };
        let packet = Packet { data: large(Network::Ipv4, 0, &[3; 2500]), checksum: Checksum::Blank, gso: Some(gso) };
        let fit = |packet: &Packet, abilities| {
            let mut got = Vec::new();
            packet.clone().fit(abilities, |packet| {
                got.push(packet);
                true
            });
            got
        };
        assert_eq!(fit(&packet, all), core::slice::from_ref(&packet));
        for less in [
            Abilities { gso_ipv4: false, ..all },
            Abilities { scattered: false, ..all },
            Abilities { blank_ipv4: false, ..all },
            Abilities::default(),
        ] {
            let got = fit(&packet, less);
            assert_eq!(got.len(), 3);
            assert!(got.iter().all(|piece| piece.checksum == Checksum::Right && piece.gso.is_none()));
        }
        let small = Packet { data: large(Network::Ipv4, 0, &[3; 100]), checksum: Checksum::Blank, gso: None };
        assert_eq!(fit(&small, all)[0], small);
        let whole = &fit(&small, Abilities { blank_ipv6: true, ..Abilities::default() })[0];
        assert!(whole.checksum == Checksum::Right && checksum::is_right(&whole.data));
    }

    #[test]
    fn no_more_pieces_than_the_receiver_takes() {
        let gso = Gso { network: Network::Ipv4, size: MIN_SIZE };
        let packet =
            Packet { data: large(Network::Ipv4, 0, &vec![3; 60_000]), checksum: Checksum::Blank, gso: Some(gso) };
        let mut taken = 0;
        packet.fit(Abilities::default(), |_| {
            taken += 1;
            taken < 5
        });
        assert_eq!(taken, 5);
    }
}
