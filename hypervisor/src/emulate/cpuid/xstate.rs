//! Leaf 0xd: the sizes of XSAVE's areas (SDM volume 1, 13.2), for the register sets that the guest may use.

use super::Regs;
use super::features::{AVX, AVX512F, Features, XSAVE};
use crate::emulate::xcr0;

/// The leaf.
pub const LEAF: u32 = 0xd;
/// x87 and SSE registers and the header: every area has these.
const BASE_SIZE: u32 = 512 + 64;
/// Register sets 2 to 7. Of 0 and 1, which are in [`BASE_SIZE`], the leaf says nothing.
const FIRST: u32 = 2;
const COUNT: usize = 6;

/// A register set in an area.
#[derive(Clone, Copy, Default)]
struct Component {
    size: u32,
    /// In the standard format.
    offset: u32,
    /// In the compacted format it begins at a multiple of 64.
    aligned: bool,
}

/// The register sets offered, and where they are saved.
#[derive(Clone)]
pub struct Xstate {
    mask: u64,
    components: [Component; COUNT],
}

impl Xstate {
    /// Takes from `features` those whose registers the CPU can't save, and offers the sets that the rest need.
    /// `host` answers for the subleaves of leaf 0xd, with zeros if there is no such leaf.
    pub fn new(features: &mut Features, mut host: impl FnMut(u32) -> Regs) -> Xstate {
        let [eax, _, _, edx] = host(0);
        let supported = u64::from(edx) << 32 | u64::from(eax);
        if !xcr0::is_valid(xcr0::X87 | xcr0::SSE, supported) {
            features.remove(XSAVE);
        }
        let mut components = [Component::default(); COUNT];
        for (component, number) in components.iter_mut().zip(FIRST..) {
            if features.has(XSAVE) && supported & xcr0::KNOWN & 1 << number != 0 {
                let [size, offset, flags, _] = host(number);
                *component = Component { size, offset, aligned: flags & 0b10 != 0 };
            }
        }
        let mut state = Xstate { mask: supported & xcr0::KNOWN, components };
        if !state.holds(xcr0::AVX) {
            features.remove(AVX);
        }
        if !state.holds(xcr0::AVX512) {
            features.remove(AVX512F);
        }
        state.mask = offered_mask(features);
        state
    }

    /// The sets that XCR0 may name.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// A subleaf of leaf 0xd; `xcr0` is the guest's.
    pub fn leaf(&self, subleaf: u32, features_1a: u32, xcr0: u64) -> Regs {
        if self.mask == 0 {
            return [0; 4];
        }
        // All sets that are known have numbers below 32.
        let mask = (self.mask & 0xffff_ffff) as u32;
        match subleaf {
            0 => [mask, self.standard_size(xcr0), self.standard_size(self.mask), 0],
            // No supervisor state: XSAVES is hidden. The size matters to XSAVEC as well.
            1 => [features_1a, self.compacted_size(xcr0), 0, 0],
            _ => match self.components().find(|&(number, _)| number == subleaf) {
                Some((number, component)) if self.mask & 1 << number != 0 => {
                    [component.size, component.offset, u32::from(component.aligned) << 1, 0]
                }
                _ => [0; 4],
            },
        }
    }

    /// Does the CPU say of all sets in `bits` that it has them, and how large they are? An area that can't be (a wrong
    /// CPU model of an emulator) is as good as none.
    fn holds(&self, bits: u64) -> bool {
        let is_sound = |component: Component| {
            component.size != 0
                && component.offset >= BASE_SIZE
                && component.offset.checked_add(component.size).is_some_and(|end| end <= MAX_SIZE)
        };
        self.mask & bits == bits && self.used(bits).all(is_sound)
    }

    fn standard_size(&self, sets: u64) -> u32 {
        self.used(sets).fold(BASE_SIZE, |end, set| end.max(set.offset.saturating_add(set.size)))
    }

    fn compacted_size(&self, sets: u64) -> u32 {
        self.used(sets).fold(BASE_SIZE, |end, set| {
            let start = if set.aligned { end.next_multiple_of(64) } else { end };
            start.saturating_add(set.size)
        })
    }

    /// The components of these sets as far as they are offered, lowest number first.
    fn used(&self, sets: u64) -> impl Iterator<Item = Component> {
        let sets = sets & self.mask;
        self.components().filter(move |&(number, _)| sets & 1 << number != 0).map(|(_, component)| component)
    }

    fn components(&self) -> impl Iterator<Item = (u32, Component)> {
        (FIRST..).zip(self.components)
    }
}

/// No area of the sets we know is larger than two pages, by far.
const MAX_SIZE: u32 = 8192;

fn offered_mask(features: &Features) -> u64 {
    let base = if features.has(XSAVE) { xcr0::X87 | xcr0::SSE } else { 0 };
    let avx = if features.has(AVX) { xcr0::AVX } else { 0 };
    let avx512 = if features.has(AVX512F) { xcr0::AVX512 } else { 0 };
    base | avx | avx512
}
