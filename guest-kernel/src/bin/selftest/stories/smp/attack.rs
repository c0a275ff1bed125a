//! `vcpu_op` with what an attacker would give it.

use super::vcpus;
use crate::check::{HYPERVISOR, M2P, Told, UNMAPPED, call, equal, refused, skip};
use crate::stories::event::refusal;
use crate::stories::mmu::ground::Page;
use guest_kernel::{event, hypercall, probe, vcpu};
use pv_abi::errno::Errno;
use pv_abi::hypercall::VCPU_OP;
use pv_abi::vcpu::VcpuGuestContext;
use zerocopy::{FromBytes, IntoBytes};

/// Every operation with odd numbers, odd vCPUs and odd arguments. Only those that would end the domain are left out.
pub fn arguments() -> Told {
    event::init().map_err(refusal)?;
    const HARMLESS: [u64; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14];
    let page = Page::new();
    for value in [0, u64::MAX, 0xffff_ffff_0000_0000, 1 << 63] {
        (0..512).for_each(|word| page.write(word, value));
        for command in HARMLESS.into_iter().chain([15, 0xffff_ffff]) {
            for id in [0, 1, 2, 31, 32, 8191, 8192, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                for argument in [page.address, page.address + 12, HYPERVISOR, M2P, UNMAPPED, u64::MAX] {
                    // Any answer will do; what counts is the neighbour, and that this goes on.
                    let _ = call(VCPU_OP, [command, id, argument]);
                }
            }
        }
    }
    equal("still up", hypercall::vcpu_is_up(0), Ok(1))
}

/// Areas to be kept up to date, in places that the guest may not write.
pub fn areas() -> Told {
    let readable = Page::new();
    readable.write(0, 0x5555);
    readable.protect()?;
    // SAFETY: none of these places is Rust's.
    let register: [fn(u64) -> hypercall::Answer; 2] =
        unsafe { [|at| hypercall::register_runstate_area(0, at), |at| hypercall::register_time_area(0, at)] };
    for register in register {
        for address in [HYPERVISOR, M2P, 0xffff_87ff_ffff_fff0] {
            refused("in the hypervisor", register(address), Errno::EFAULT)?;
        }
        // Whatever the answer, nothing is written there.
        for address in [UNMAPPED, readable.address] {
            let _ = register(address);
            (0..20).for_each(|_| _ = hypercall::poll(&[], guest_kernel::time::now().unwrap_or(0) + 100_000));
        }
    }
    equal("a page for reading", readable.read(0), 0x5555)?;
    equal("nothing mapped", probe::read(UNMAPPED).is_err(), true)
}

/// A generator of numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 1).map_or(0, |number| number % limit)
    }
}

/// First states made of a good one with random words in random places. The vCPU never runs with them.
pub fn states() -> Told {
    if vcpus() < 2 {
        return skip("one vCPU");
    }
    fn never(_id: u32) -> ! {
        panic!("a vCPU ran with a state that was made up")
    }
    let good = vcpu::context(1, never);
    let mut random = Random(0x1234_5678_9abc_def1);
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=random.below(6) {
            // Mostly behind the trap table, where the numbers of frames are.
            let words = bytes.len() / 8;
            let at = if random.below(4) == 0 { random.below(words) } else { words - 1 - random.below(50) };
            let value = match random.below(4) {
                0 => random.next(),
                1 => u64::MAX,
                2 => good.ctrlreg[3] ^ (random.next() % 256) << 12,
                _ => 1 << (random.next() % 64),
            };
            bytes[8 * at..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let Ok(context) = VcpuGuestContext::read_from_bytes(&bytes) else { continue };
        // SAFETY: the vCPU is never started.
        match unsafe { hypercall::vcpu_initialise(1, &context) } {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    guest_kernel::println!("{refused} refused, {taken} taken");
    equal("at most one is taken", taken <= 1, true)?;
    equal("is down", hypercall::vcpu_is_up(1), Ok(0))
}
