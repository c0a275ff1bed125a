//! Attacks by chance: long runs of random updates and calls, from seeds that don't change.

pub mod calls;
pub mod updates;

/// Steps of a run.
const STEPS: u32 = 20_000;

/// Random numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        // The remainder is an index.
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }
}
