//! A guest's segment descriptors: `set_gdt`, `update_descriptor`, and the LDT of `mmuext_op` (`xen.h`).

use pv_abi::errno::Errno;
use zerocopy::IntoBytes;

use super::batch::Halt;
use super::{Call, Platform, Reply};
use crate::addr::{MachineAddr, Mfn};
use crate::domain::vcpu::{DESCRIPTORS_PER_PAGE, GDT_PAGES, Gdt, Ldt, Vcpu};
use crate::mm::perform::{Effects, Unfinished, perform};
use crate::mm::update::Slot;

/// `(unsigned long *frames, unsigned int entries)`: makes the frames the guest's part of the GDT.
pub(super) fn set_gdt<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let pages = call.u32(1).div_ceil(DESCRIPTORS_PER_PAGE) as usize;
    let mut frames = [0u64; GDT_PAGES];
    let frames = frames.get_mut(..pages).ok_or(Errno::EINVAL)?;
    call.platform.read_bytes(call.args[0], frames.as_mut_bytes())?;
    let gdt = match take_gdt(call.vcpu, call.platform, &mut call.budget, frames) {
        Ok(gdt) => gdt,
        Err(Unfinished::Again) => return Err(call.again([])),
        Err(Unfinished::Refused(refused)) => return Err(call.refuse("set_gdt", refused).into()),
    };
    call.platform.show_gdt(&gdt);
    let old = core::mem::replace(&mut call.vcpu.gdt, gdt);
    put_all(call.vcpu, call.platform, &mut call.budget, old);
    Ok(0)
}

/// Holds frames as descriptor pages, all or none.
pub(super) fn take_gdt<E: Effects>(
    vcpu: &mut Vcpu,
    domain: &mut E,
    budget: &mut u32,
    frames: &[u64],
) -> Result<Gdt, Unfinished> {
    let mut gdt = Gdt::new();
    for &frame in frames.iter().take(GDT_PAGES) {
        match perform(domain, &mut vcpu.pending, budget, |op, _| op.take_descriptors(Mfn(frame))) {
            Ok(()) => gdt.push(Mfn(frame)),
            Err(why) => {
                put_all(vcpu, domain, budget, gdt);
                return Err(why);
            }
        }
    }
    Ok(gdt)
}

fn put_all<E: Effects>(vcpu: &mut Vcpu, domain: &mut E, budget: &mut u32, gdt: Gdt) {
    for mfn in gdt {
        put(vcpu, domain, budget, mfn);
    }
}

/// Drops a descriptor page that no CPU shows any more.
fn put<E: Effects>(vcpu: &mut Vcpu, domain: &mut E, budget: &mut u32, mfn: Mfn) {
    // Dropping a reference asks for nothing and is never refused.
    let _: Result<(), Unfinished> = perform(domain, &mut vcpu.pending, budget, |op, _| {
        op.put_descriptors(mfn);
        Ok(())
    });
}

/// `(uint64_t address, uint64_t descriptor)`: stores one descriptor at a machine address.
pub(super) fn update_descriptor<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let [address, descriptor, ..] = *call.args;
    let stored = call.memory(|op, _| op.update_descriptor(Slot::at(MachineAddr(address))?, descriptor));
    match stored {
        Ok(()) => Ok(0),
        Err(Unfinished::Again) => Err(call.again([])),
        Err(Unfinished::Refused(refused)) => Err(call.refuse("update_descriptor", refused).into()),
    }
}

impl<P: Platform> Call<'_, P> {
    /// `MMUEXT_SET_LDT`. The pages are looked up when the CPU first reads a descriptor there. Without entries there is
    /// no LDT, wherever it is said to be.
    pub(super) fn set_ldt(&mut self, address: u64, entries: u64) -> Result<(), Halt> {
        let [a, b, c, d, ..] = entries.to_le_bytes();
        let entries = u32::from_le_bytes([a, b, c, d]);
        // Without entries there is no LDT, whatever the address.
        let base = if entries == 0 { None } else { Some(Ldt::base_of(address, entries).ok_or(Errno::EINVAL)?) };
        if (self.vcpu.ldt.base, self.vcpu.ldt.entries) == (base, entries) {
            return Ok(());
        }
        drop_ldt_pages(self.vcpu, self.platform, &mut self.budget);
        self.vcpu.ldt = Ldt { base, entries, ..Ldt::default() };
        self.platform.show_ldt(&self.vcpu.ldt);
        Ok(())
    }
}

/// Forgets the pages of the LDT that were looked up.
pub(super) fn drop_ldt_pages<P: Platform>(vcpu: &mut Vcpu, platform: &mut P, budget: &mut u32) {
    // Few processes have an LDT, and this is called for each switch between them.
    if vcpu.ldt.base.is_none() {
        return;
    }
    let pages = core::mem::take(&mut vcpu.ldt.pages);
    if pages.iter().all(Option::is_none) {
        return;
    }
    platform.show_ldt(&vcpu.ldt);
    for mfn in pages.into_iter().flatten() {
        put(vcpu, platform, budget, mfn);
    }
}
