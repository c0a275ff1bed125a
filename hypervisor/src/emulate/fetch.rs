//! The bytes at a guest's RIP.

use crate::addr::PAGE_SIZE;
use crate::guest::GuestCopy;

/// The longest instruction (SDM volume 2, 2.3.11).
pub const MAX_LENGTH: usize = 15;

/// Up to 15 bytes of guest code, copied once.
pub struct Code {
    bytes: [u8; MAX_LENGTH],
    len: usize,
}

impl Code {
    /// Copies what can be read at `rip`: fewer than 15 bytes if the next page can't be, none if `rip` can't be.
    pub fn fetch(memory: &mut impl GuestCopy, rip: u64) -> Code {
        let mut code = Code { bytes: [0; MAX_LENGTH], len: 0 };
        let in_page = PAGE_SIZE - (rip & 0xfff) as usize;
        let (first, second) = code.bytes.split_at_mut(in_page.min(MAX_LENGTH));
        if memory.read_bytes(rip, first).is_ok() {
            code.len = first.len();
            let next_page = rip.wrapping_add(first.len() as u64);
            if !second.is_empty() && memory.read_bytes(next_page, second).is_ok() {
                code.len = MAX_LENGTH;
            }
        }
        code
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
