//! The last lines of a console, as many as fit. Pure.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes kept for a console.
const CAPACITY: usize = 64 << 10;
/// Counted for each line beside its text.
const PER_LINE: usize = size_of::<Vec<u8>>();

/// Lines without their ends, the oldest first.
#[derive(Default, Debug)]
pub struct History {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl History {
    /// No lines.
    pub const fn new() -> History {
        History { lines: VecDeque::new(), bytes: 0 }
    }

    /// Adds a line; the oldest ones give way.
    pub fn push(&mut self, line: &[u8]) {
        self.bytes += line.len() + PER_LINE;
        self.lines.push_back(line.to_vec());
        while self.bytes > CAPACITY
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len() + PER_LINE;
        }
    }

    /// The last `count` lines, the oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count)).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whatever_their_lengths() {
        let mut history = History::new();
        for number in 0..100_000_u32 {
            history.push(&number.to_le_bytes());
        }
        let kept: Vec<&[u8]> = history.last(usize::MAX).collect();
        assert_eq!(kept.len(), CAPACITY / (4 + PER_LINE));
        assert_eq!(kept.last(), Some(&&99_999_u32.to_le_bytes()[..]));
        assert_eq!(history.last(2).collect::<Vec<_>>(), [99_998_u32.to_le_bytes(), 99_999_u32.to_le_bytes()]);
        history.push(&[7; CAPACITY]);
        assert_eq!(history.last(9).count(), 0, "what is longer than all of it is not kept");
        (0..CAPACITY).for_each(|_| history.push(b""));
        assert!(history.last(usize::MAX).count() <= CAPACITY / PER_LINE);
    }
}
