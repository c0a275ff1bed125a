//! Sums in vector registers across everything that may take the CPU away.

use std::arch::asm;
use std::arch::x86_64::{__m256i, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_storeu_si256};
use std::path::Path;
use std::thread;

/// Additions before a look.
const STEPS: i64 = 200_000;

pub fn round(number: u64, _folder: &Path) -> Result<(), String> {
    let seed = i64::try_from(number % 1000).map_err(|error| error.to_string())?;
    if !std::is_x86_feature_detected!("avx2") {
        return scalar(seed);
    }
    // Two of them at once: they are where the other's registers would show up.
    let other = thread::spawn(move || {
        // SAFETY: the CPU has AVX2.
        unsafe { sums(seed + 1) }
    });
    // SAFETY: the CPU has AVX2.
    let here = unsafe { sums(seed) };
    let there = other.join().map_err(|_| "a thread panicked")?;
    for (sums, seed) in [(here, seed), (there, seed + 1)] {
        if sums.iter().enumerate().any(|(index, sum)| *sum != STEPS * (seed + index as i64)) {
            return Err(format!("sums of {seed}: {sums:x?}"));
        }
    }
    Ok(())
}

/// Eight registers, in which `seed`, `seed + 1` and so on are added up.
#[target_feature(enable = "avx2")]
fn sums(seed: i64) -> [i64; 8] {
    let mut sums = [_mm256_setzero_si256(); 8];
    let terms: [__m256i; 8] = std::array::from_fn(|index| _mm256_set1_epi64x(seed + index as i64));
    for _ in 0..STEPS {
        for (sum, term) in sums.iter_mut().zip(terms) {
            // By hand, so that the sums stay in registers and the loop stays a loop.
            // SAFETY: the instruction changes one register, and the CPU has it.
            unsafe {
                asm!("vpaddq {0}, {0}, {1}", inout(ymm_reg) *sum, in(ymm_reg) term, options(pure, nomem, nostack))
            };
        }
    }
    sums.map(|sum| {
        let mut lanes = [0; 4];
        // SAFETY: the array has the size of the register, and the instruction asks for no alignment.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        // Lanes that differ show as a sum that is none.
        if lanes.iter().all(|lane| *lane == lanes[0]) { lanes[0] } else { i64::MIN }
    })
}

/// The same with doubles in SSE registers, which every x86-64 CPU has.
fn scalar(seed: i64) -> Result<(), String> {
    let term = seed as f64;
    let sum = (0..STEPS).fold(0.0, |sum, _| std::hint::black_box(sum + term));
    // All of these are whole numbers that a double holds exactly.
    if sum.to_bits() == ((STEPS * seed) as f64).to_bits() { Ok(()) } else { Err(format!("the sum of {seed}: {sum}")) }
}
