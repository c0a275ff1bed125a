//! XCR0: which register sets XSAVE manages (SDM volume 1, 13.3).

/// x87.
pub const X87: u64 = 1 << 0;
/// SSE: XMM registers and MXCSR.
pub const SSE: u64 = 1 << 1;
/// AVX: upper halves of YMM registers.
pub const AVX: u64 = 1 << 2;
/// AVX-512: mask registers, upper halves of ZMM0 to 15, ZMM16 to 31. All or none.
pub const AVX512: u64 = 0b111 << 5;
/// All that a guest can be offered. Left out: MPX (gone from CPUs), PT, PKRU and AMX, whose features CPUID hides.
pub const KNOWN: u64 = X87 | SSE | AVX | AVX512;

/// Would XSETBV accept this value on a CPU that has the sets of `offered`?
pub const fn is_valid(value: u64, offered: u64) -> bool {
    value & !offered == 0
        && value & X87 != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (value & AVX512 == 0 || (value & AVX512 == AVX512 && value & AVX != 0))
}
