//! The bytes at a guest's RIP.

use zerocopy::IntoBytes;

use crate::addr::PAGE_SIZE;
use crate::guest::GuestCopy;

/// The longest instruction (SDM volume 2, 2.3.11).
pub const MAX_LENGTH: usize = 15;

/// Up to 15 bytes of guest code, copied once.
pub struct Code {
    /// Words, which are compared with fewer steps than bytes.
    words: [u64; 2],
    /// How many bytes are valid; all of them where none is of another page.
    len: usize,
}

const ROOM: usize = size_of::<[u64; 2]>();

impl Code {
    /// Copies what can be read at `rip`: fewer than 15 bytes if the next page can't be, none if `rip` can't be.
    #[inline(always)]
    pub fn fetch(memory: &mut impl GuestCopy, rip: u64) -> Code {
        Code::fetch_in_page(memory, rip).unwrap_or_else(|| Code::fetch_at_end(memory, rip))
    }

    /// [`Code::fetch`], if 16 bytes of the page can be read from there on.
    #[inline(always)]
    pub fn fetch_in_page(memory: &mut impl GuestCopy, rip: u64) -> Option<Code> {
        if in_page(rip) < ROOM {
            return None;
        }
        let words = memory.read(rip).ok()?;
        Some(Code { words, len: ROOM })
    }

    /// [`Code::fetch`] where the page ends, or can't be read.
    #[cold]
    #[inline(never)]
    fn fetch_at_end(memory: &mut impl GuestCopy, rip: u64) -> Code {
        let mut code = Code { words: [0; 2], len: 0 };
        let bytes = &mut code.words.as_mut_bytes()[..MAX_LENGTH];
        let (first, second) = bytes.split_at_mut(in_page(rip).min(MAX_LENGTH));
        if memory.read_bytes(rip, first).is_ok() {
            code.len = first.len();
            let next_page = rip.wrapping_add(first.len() as u64);
            if !second.is_empty() && memory.read_bytes(next_page, second).is_ok() {
                code.len = MAX_LENGTH;
            }
        }
        code
    }

    /// The bytes and the one that follows them as numbers, if all are of one page: so what follows an instruction at their
    /// start is at a guest address too.
    #[inline]
    pub fn words(&self) -> Option<[u64; 2]> {
        (self.len == ROOM).then_some(self.words)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len.min(MAX_LENGTH)).unwrap_or_default()
    }
}

/// Bytes from `rip` to the end of its page.
#[inline]
fn in_page(rip: u64) -> usize {
    PAGE_SIZE - (rip & 0xfff) as usize
}
