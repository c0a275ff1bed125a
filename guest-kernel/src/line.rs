//! A line editor for a serial console: collects keys until Enter, with backspace, Ctrl-U and Ctrl-C.
//!
//! Pure: it is told keys and answers what to send back to the terminal.

/// Longest line, in bytes. Keys beyond it are ignored.
pub const CAPACITY: usize = 120;

/// A line being typed.
pub struct LineEditor {
    bytes: [u8; CAPACITY],
    len: usize,
    /// Whether the key before was a carriage return, so that the line feed of a CR LF pair isn't a second Enter.
    after_return: bool,
}

/// What a key did, and so what the terminal is to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Nothing to show.
    Ignored,
    /// The printable character was appended.
    Typed(u8),
    /// The last `n` characters were removed.
    Erased(usize),
    /// The line was thrown away.
    Cancelled,
    /// The line is complete: [`LineEditor::take`] it.
    Entered,
}

impl LineEditor {
    /// An empty line.
    pub const fn new() -> LineEditor {
        LineEditor { bytes: [0; CAPACITY], len: 0, after_return: false }
    }

    /// Feeds one byte from the terminal.
    pub fn key(&mut self, byte: u8) -> Key {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => Key::Ignored,
            b'\r' | b'\n' => Key::Entered,
            0x08 | 0x7f => self.erase(1),
            0x15 => self.erase(self.len),
            0x03 => {
                self.len = 0;
                Key::Cancelled
            }
            0x20..0x7f => match self.bytes.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                    Key::Typed(byte)
                }
                None => Key::Ignored,
            },
            _ => Key::Ignored,
        }
    }

    /// Hands the finished line to `with` and starts an empty one.
    pub fn take<R>(&mut self, with: impl FnOnce(&str) -> R) -> R {
        // Only printable ASCII was stored, so the conversion can't fail.
        let result = with(core::str::from_utf8(&self.bytes[..self.len]).unwrap_or(""));
        self.len = 0;
        result
    }

    fn erase(&mut self, count: usize) -> Key {
        let count = count.min(self.len);
        self.len -= count;
        if count == 0 { Key::Ignored } else { Key::Erased(count) }
    }
}

impl Default for LineEditor {
    fn default() -> LineEditor {
        LineEditor::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn typed(keys: &[u8]) -> String {
        let mut line = LineEditor::new();
        for key in keys {
            line.key(*key);
        }
        line.take(|text| text.to_string())
    }

    #[test]
    fn edits() {
        assert_eq!(typed(b"hellp\x7fo"), "hello");
        assert_eq!(typed(b"\x08\x7fa"), "a");
        assert_eq!(typed(b"gone\x15here"), "here");
        assert_eq!(typed(b"gone\x03here"), "here");
        assert_eq!(typed(b"a\x1b[Ab\xff\0"), "a[Ab");
    }

    #[test]
    fn answers_for_the_terminal() {
        let mut line = LineEditor::new();
        assert_eq!(line.key(b'x'), Key::Typed(b'x'));
        assert_eq!(line.key(0x7f), Key::Erased(1));
        assert_eq!(line.key(0x7f), Key::Ignored);
        line.key(b'a');
        line.key(b'b');
        assert_eq!(line.key(0x15), Key::Erased(2));
    }

    #[test]
    fn a_cr_lf_pair_is_one_enter() {
        let mut line = LineEditor::new();
        assert_eq!(line.key(b'\r'), Key::Entered);
        assert_eq!(line.key(b'\n'), Key::Ignored);
        assert_eq!(line.key(b'\n'), Key::Entered);
    }

    #[test]
    fn a_full_line_takes_no_more() {
        let mut line = LineEditor::new();
        for _ in 0..CAPACITY {
            assert_eq!(line.key(b'x'), Key::Typed(b'x'));
        }
        assert_eq!(line.key(b'x'), Key::Ignored);
        assert_eq!(line.take(str::len), CAPACITY);
        assert_eq!(line.take(str::len), 0);
    }
}
