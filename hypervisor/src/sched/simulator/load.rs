//! What simulated vCPUs do.

/// Numbers that look random and repeat with their seed (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a length")
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least)
    }
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// A kind of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Never sleeps.
    Batch,
    /// 50 µs to 1 ms of work, then a pause of 5 to 50 ms: a server with few requests, a shell.
    Interactive,
    /// 20 to 200 ms of work, then a pause of 50 to 500 ms: a build, a query.
    Bursty,
    /// Yields each 100 µs: waits for a lock without sleeping.
    Yielding,
}

impl Load {
    /// How long it works next.
    pub fn work(self, dice: &mut Dice) -> u64 {
        match self {
            Load::Batch => u64::MAX,
            Load::Interactive => dice.between(50 * US, MS),
            Load::Bursty => dice.between(20 * MS, 200 * MS),
            Load::Yielding => 100 * US,
        }
    }

    /// How long it sleeps then.
    pub fn pause(self, dice: &mut Dice) -> u64 {
        match self {
            Load::Batch | Load::Yielding => 0,
            Load::Interactive => dice.between(5 * MS, 50 * MS),
            Load::Bursty => dice.between(50 * MS, 500 * MS),
        }
    }
}
