//! Random calls.

use super::{Random, STEPS};
use crate::check::{HYPERVISOR, M2P, NON_CANONICAL, Told, call, equal, skip};
use crate::stories::mmu::ground::*;
use guest_kernel::{memory, probe, trap};
use pv_abi::domid::DOMID_SELF;
use pv_abi::hypercall::*;
use pv_abi::version::XENVER_PAGESIZE;

/// Numbers that hypercalls may make something of.
const WORDS: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    0xfff,
    0x1000,
    0x7ff0,
    0x8000_0001,
    0xffff_ffff,
    NON_CANONICAL,
    HYPERVISOR,
    M2P,
    0xffff_8080_0000_0000,
    0xffff_87ff_ffff_fff8,
    0x7fff_ffff_fff8,
    1 << 63,
    u64::MAX,
];

/// Random arguments to the calls about memory and the CPU, in registers and in a page that is read and written. No
/// number names a frame of the domain's own, which could be the end of the story.
pub fn told() -> Told {
    if is_privileged() {
        return skip("this domain could do harm by chance");
    }
    const NUMBERS: [u32; 14] = [
        MMU_UPDATE,
        MMU_UPDATE,
        MMUEXT_OP,
        MMUEXT_OP,
        UPDATE_VA_MAPPING_OTHERDOMAIN,
        UPDATE_DESCRIPTOR,
        SET_GDT,
        MEMORY_OP,
        MEMORY_OP,
        SET_DEBUGREG,
        GET_DEBUGREG,
        SET_SEGMENT_BASE,
        FPU_TASKSWITCH,
        PHYSDEV_OP,
    ];
    trap::set_handler(1, Some(|frame| frame.rflags |= 1 << 16));
    let mut random = Random(0x1234_5678_9abc_def1);
    let (arguments, results) = (Page::new(), Page::new());
    for step in 0..STEPS {
        for _ in 0..4 {
            let index = usize::try_from(random.below(24)).unwrap_or(0);
            let word = word(&mut random, arguments, results);
            arguments.write(index, word);
        }
        let number = random.pick(&NUMBERS);
        let list = [(); 5].map(|()| word(&mut random, arguments, results));
        let args = match random.below(3) {
            // As the call wants them: a list, a count, a place for the result.
            0 => [arguments.address, random.below(4), results.address, u64::from(DOMID_SELF), 0],
            1 => [random.below(16), arguments.address, list[2], list[3], 0],
            _ => list,
        };
        let _ = call(number, args);
        // The call may have mapped something else there.
        [arguments, results].into_iter().try_for_each(Page::unprotect)?;
        if step % 256 == 0 {
            still_works()?;
        }
    }
    equal("no GDT", call(SET_GDT, [0, 0]), Ok(0))?;
    equal("no breakpoints", call(SET_DEBUGREG, [7, 0]), Ok(0))?;
    trap::set_handler(1, None);
    still_works()
}

/// A number that some call may take for an address, a frame, a count, a command.
fn word(random: &mut Random, arguments: Page, results: Page) -> u64 {
    loop {
        let word = match random.below(8) {
            0..=2 => random.pick(&WORDS),
            3 => arguments.address + 8 * random.below(64),
            4 => results.address + random.below(4096),
            5 => random.below(1 << 17) << 12 | random.below(4096),
            6 => random.below(1 << 17),
            _ => random.next(),
        };
        let is_own = |mfn: u64| memory::address_of_frame(mfn).is_some();
        if !is_own(word) && !is_own(word >> 12) {
            return word;
        }
    }
}

fn still_works() -> Told {
    equal("a trap", probe::int3().map(|caught| caught.vector), Some(3))?;
    equal("a call", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}
