//! FS and GS: `set_segment_base` and the base MSRs.

use crate::check::{NON_CANONICAL, Told, call, equal, refused, trapped};
use core::arch::asm;
use guest_kernel::probe;
use pv_abi::errno::Errno;
use pv_abi::hypercall::SET_SEGMENT_BASE;
use pv_abi::trap::*;

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

static FIRST: u64 = 0x0123_4567_89ab_cdef;
static SECOND: u64 = 0xfedc_ba98_7654_3210;

fn set(which: u32, base: u64) -> guest_kernel::hypercall::Answer {
    call(SET_SEGMENT_BASE, [u64::from(which), base])
}

fn word_at_fs() -> u64 {
    let word;
    // SAFETY: the stories point FS at a static first.
    unsafe { asm!("mov {}, fs:[0]", out(reg) word) };
    word
}

fn word_at_gs() -> u64 {
    let word;
    // SAFETY: the stories point GS at a static first.
    unsafe { asm!("mov {}, gs:[0]", out(reg) word) };
    word
}

/// The three bases, set by hypercall and seen by instructions and MSRs.
pub fn bases() -> Told {
    for object in [&FIRST, &SECOND] {
        let base = (&raw const *object) as u64;
        equal("FS", set(SEGBASE_FS, base), Ok(0))?;
        equal("word at FS", word_at_fs(), *object)?;
        equal("FS_BASE", probe::rdmsr(FS_BASE), Ok(base))?;
        equal("kernel GS", set(SEGBASE_GS_KERNEL, base), Ok(0))?;
        equal("word at GS", word_at_gs(), *object)?;
        equal("GS_BASE", probe::rdmsr(GS_BASE), Ok(base))?;
        equal("user GS", set(SEGBASE_GS_USER, base + 8), Ok(0))?;
        equal("KERNEL_GS_BASE", probe::rdmsr(KERNEL_GS_BASE), Ok(base + 8))?;
        equal("word at GS, still", word_at_gs(), *object)?;
    }
    for which in [SEGBASE_FS, SEGBASE_GS_USER, SEGBASE_GS_KERNEL] {
        for base in [NON_CANONICAL, 0xffff_7fff_ffff_ffff, 1 << 63] {
            refused("off the map", set(which, base), Errno::EINVAL)?;
        }
    }
    equal("word at FS after the refusals", word_at_fs(), SECOND)?;
    equal("word at GS after the refusals", word_at_gs(), SECOND)?;
    refused("unknown base", set(4, 0), Errno::EINVAL)?;
    refused("unknown base", set(u32::MAX, 0), Errno::EINVAL)
}

/// The user's GS by selector: a bad one loads the null selector, and the call never fails.
pub fn selector() -> Told {
    equal("null selector", set(SEGBASE_GS_USER_SEL, 0), Ok(0))?;
    equal("base after null", probe::rdmsr(KERNEL_GS_BASE), Ok(0))?;
    equal("flat selector", set(SEGBASE_GS_USER_SEL, u64::from(FLAT_USER_SS)), Ok(0))?;
    equal("base after flat", probe::rdmsr(KERNEL_GS_BASE), Ok(0))?;
    for bad in [0x08, 0x0f, 0xe008, 0xe040, 0xfff8] {
        equal("user GS", set(SEGBASE_GS_USER, 0x1000), Ok(0))?;
        equal("bad selector", set(SEGBASE_GS_USER_SEL, bad), Ok(0))?;
        equal("base after a bad selector", probe::rdmsr(KERNEL_GS_BASE), Ok(0))?;
    }
    let base = (&raw const FIRST) as u64;
    equal("kernel GS", set(SEGBASE_GS_KERNEL, base), Ok(0))?;
    equal("user GS by selector", set(SEGBASE_GS_USER_SEL, 0), Ok(0))?;
    equal("word at the kernel's GS", word_at_gs(), FIRST)
}

/// The base MSRs, written.
pub fn msrs() -> Told {
    let base = (&raw const FIRST) as u64;
    for msr in [FS_BASE, GS_BASE, KERNEL_GS_BASE] {
        // SAFETY: nothing of the kernel is addressed through FS or GS.
        equal("write", unsafe { probe::wrmsr(msr, base) }, Ok(()))?;
        equal("read back", probe::rdmsr(msr), Ok(base))?;
        for bad in [NON_CANONICAL, 1 << 63] {
            // SAFETY: as above.
            trapped("write off the map", unsafe { probe::wrmsr(msr, bad) }.err(), 13, 0)?;
        }
        equal("unchanged", probe::rdmsr(msr), Ok(base))?;
    }
    equal("word at FS", word_at_fs(), FIRST)?;
    equal("word at GS", word_at_gs(), FIRST)
}
