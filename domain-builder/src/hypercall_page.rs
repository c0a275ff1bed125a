//! The hypercall page: one stub of 32 bytes per hypercall number, for kernels that call rather than execute `syscall`.
//!
//! Filled at start-of-day for a HYPERCALL_PAGE note, and later when a guest writes the hypercall-page MSR.

use pv_abi::hypercall::IRET;

use addresses::PAGE_SIZE;

/// Bytes per stub. ABI: the guest calls `page + 32 * number`.
const STUB: usize = 32;
/// `int3`: what lies between stubs must not run on into the next one.
const FILL: u8 = 0xcc;

/// Writes the stubs for numbers 0 to 127.
///
/// A stub keeps RCX and R11, which `syscall` overwrites. The one for `iret` is jumped to with the rest of its frame on the
/// stack: it pushes RCX, R11 and RAX to complete the frame, and does not return.
pub fn fill(page: &mut [u8; PAGE_SIZE]) {
    for (number, stub) in (0u32..).zip(page.as_chunks_mut::<STUB>().0) {
        let [n0, n1, n2, n3] = number.to_le_bytes();
        *stub = if number == IRET {
            // push rcx; push r11; push rax; mov eax, number; syscall
            padded([0x51, 0x41, 0x53, 0x50, 0xb8, n0, n1, n2, n3, 0x0f, 0x05])
        } else {
            // push rcx; push r11; mov eax, number; syscall; pop r11; pop rcx; ret
            padded([0x51, 0x41, 0x53, 0xb8, n0, n1, n2, n3, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3])
        };
    }
}

fn padded<const N: usize>(code: [u8; N]) -> [u8; STUB] {
    let mut stub = [FILL; STUB];
    stub[..N].copy_from_slice(&code);
    stub
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_are_those_of_the_abi() {
        let mut page = [0; PAGE_SIZE];
        fill(&mut page);
        let stub = |n: usize| &page[n * STUB..][..STUB];
        assert_eq!(stub(17)[..14], [0x51, 0x41, 0x53, 0xb8, 17, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3]);
        assert_eq!(stub(23)[..11], [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 0x05]);
        assert_eq!(stub(127)[4], 127);
        assert!(page.chunks(STUB).all(|stub| stub[14..].iter().all(|byte| *byte == FILL)));
    }
}
