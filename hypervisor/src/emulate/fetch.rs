//! The bytes at a guest's RIP.

use crate::addr::PAGE_SIZE;
use crate::guest::GuestCopy;

/// The longest instruction (SDM volume 2, 2.3.11).
pub const MAX_LENGTH: usize = 15;

/// Up to 15 bytes of guest code, copied once.
pub struct Code {
    bytes: [u8; ROOM],
    len: usize,
}

/// Two words, which are copied in one go.
const ROOM: usize = 16;

impl Code {
    /// Copies what can be read at `rip`: fewer than 15 bytes if the next page can't be, none if `rip` can't be.
    #[inline]
    pub fn fetch(memory: &mut impl GuestCopy, rip: u64) -> Code {
        let in_page = PAGE_SIZE - (rip & 0xfff) as usize;
        if in_page < ROOM {
            return Code::fetch_at_end(memory, rip, in_page);
        }
        match memory.read(rip) {
            Ok(bytes) => Code { bytes, len: MAX_LENGTH },
            Err(_) => Code { bytes: [0; ROOM], len: 0 },
        }
    }

    /// [`Code::fetch`] where `in_page` bytes are left of the page.
    #[cold]
    #[inline(never)]
    fn fetch_at_end(memory: &mut impl GuestCopy, rip: u64, in_page: usize) -> Code {
        let mut code = Code { bytes: [0; ROOM], len: 0 };
        let (first, second) = code.bytes[..MAX_LENGTH].split_at_mut(in_page);
        if memory.read_bytes(rip, first).is_ok() {
            code.len = first.len();
            let next_page = rip.wrapping_add(first.len() as u64);
            if !second.is_empty() && memory.read_bytes(next_page, second).is_ok() {
                code.len = MAX_LENGTH;
            }
        }
        code
    }

    /// The bytes and the one that follows them as one number; `None` if there are fewer.
    #[inline]
    pub fn word(&self) -> Option<u128> {
        (self.len == MAX_LENGTH).then_some(u128::from_le_bytes(self.bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
