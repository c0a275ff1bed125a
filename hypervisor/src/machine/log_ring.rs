//! The last that was logged, for the control domain to read (`XEN_SYSCTL_readconsole`).

/// Bytes that are kept.
pub const LOG_SIZE: u32 = 16 << 10;

/// A ring of bytes. A place in it is the number of bytes ever written before it, which wraps.
#[derive(Debug)]
pub struct LogRing<const N: usize> {
    bytes: [u8; N],
    /// The first byte that may be read.
    start: u32,
    /// Where the next goes.
    end: u32,
}

impl<const N: usize> LogRing<N> {
    /// Nothing was logged.
    pub const fn new() -> LogRing<N> {
        // So that numbers may wrap.
        assert!(N.is_power_of_two() && N < u32::MAX as usize);
        LogRing { bytes: [0; N], start: 0, end: 0 }
    }

    /// Adds bytes; the oldest make room for them.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes[self.end as usize % N] = byte;
            self.end = self.end.wrapping_add(1);
            if self.length() > N as u32 {
                self.start = self.start.wrapping_add(1);
            }
        }
    }

    /// Copies bytes from `from` on, if that is there, else from the first; how many, and the place behind them.
    pub fn read(&self, from: Option<u32>, into: &mut [u8]) -> (usize, u32) {
        let start = from.filter(|from| self.has(*from)).unwrap_or(self.start);
        let count = into.len().min(self.end.wrapping_sub(start) as usize);
        for (byte, at) in into.iter_mut().zip(start as usize..).take(count) {
            *byte = self.bytes[at % N];
        }
        // At most N.
        (count, start.wrapping_add(count as u32))
    }

    /// Forgets what is before `before`, if that is there.
    pub fn clear(&mut self, before: u32) {
        if self.has(before) {
            self.start = before;
        }
    }

    fn length(&self) -> u32 {
        self.end.wrapping_sub(self.start)
    }

    /// Is a place between the first byte and the end, which it may be?
    fn has(&self, place: u32) -> bool {
        place.wrapping_sub(self.start) <= self.length()
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of all that was ever written, with numbers that wrap.
        #[test]
        fn the_last_bytes_are_kept(
            start in prop_oneof![Just(0u32), Just(u32::MAX - 20)],
            writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0u32..60, 0usize..20), 0..20),
            cleared in prop::option::of(0usize..20),
        ) {
            let mut ring = LogRing::<16>::new();
            (ring.start, ring.end) = (start, start);
            let mut all: Vec<u8> = vec![];
            let mut first = 0;
            for (number, (bytes, from, room)) in writes.into_iter().enumerate() {
                ring.write(&bytes);
                all.extend(&bytes);
                first = first.max(all.len().saturating_sub(16));
                if cleared == Some(number) {
                    ring.clear(start.wrapping_add(all.len() as u32));
                    first = all.len();
                }
                let begin = if (first..=all.len()).contains(&(from as usize)) { from as usize } else { first };
                let mut into = vec![0; room];
                let (count, next) = ring.read(Some(start.wrapping_add(from)), &mut into);
                prop_assert_eq!(&into[..count], &all[begin..all.len().min(begin + room)]);
                prop_assert_eq!(next.wrapping_sub(start) as usize, begin + count);
                let (count, _) = ring.read(None, &mut into);
                prop_assert_eq!(&into[..count], &all[first..all.len().min(first + room)]);
            }
        }
    }
}
