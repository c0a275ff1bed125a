//! Descriptor pages: the frames a guest's GDT and LDT consist of.
//!
//! The CPU reads descriptors through the hypervisor's own mapping, so a guest that could write one would make itself a
//! ring 0 segment. Pages are typed like page tables: checked once, and unwritable while any descriptor table uses them.

use super::error::{Refusal, Stop};
use super::operation::{Operation, PageTableMem};
use super::state::FrameType;
use super::types::Taken;
use super::update::Slot;
use crate::addr::Mfn;

const PRESENT: u64 = 1 << 47;
const PRIVILEGE: u64 = 3 << 45;
const CODE_OR_DATA: u64 = 1 << 44;
const TYPE_SHIFT: u32 = 40;
const CALL_GATE: u64 = 0xc;
/// Bits 0..8 of a call gate's upper half, which must be zero.
const GATE_RESERVED: u64 = 0xff << 32;

/// Byte offset of the first GDT entry that is the hypervisor's. ABI: `FIRST_RESERVED_GDT_BYTE`.
const FIRST_RESERVED_SELECTOR: u16 = 0xe000;
/// The flat code segments the hypervisor offers. ABI: `FLAT_RING3_CS32`, `FLAT_RING3_CS64`.
const FLAT_CODE: [u16; 2] = [0xe023, 0xe033];

/// The form in which the CPU may see a descriptor; `None` if it may not at all.
///
/// Code and data segments become ring 3's whatever they say; base and limit don't matter, since it is paging that keeps
/// the guest out. Call gates lead to the guest's own segments or the flat ones, and are set to ring 0 so that using one
/// faults. Everything else that the CPU would act on (LDT, TSS, interrupt gates) is refused.
pub const fn accept_descriptor(descriptor: u64) -> Option<u64> {
    if descriptor & PRESENT == 0 {
        return Some(descriptor);
    }
    let for_ring_3 = descriptor | PRIVILEGE;
    if descriptor & CODE_OR_DATA != 0 {
        return Some(for_ring_3);
    }
    match descriptor >> TYPE_SHIFT & 0xf {
        // The second half of a call gate.
        0 => Some(for_ring_3),
        CALL_GATE if descriptor & GATE_RESERVED == 0 && may_be_called((descriptor >> 16 & 0xffff) as u16) => {
            Some(descriptor & !PRIVILEGE)
        }
        _ => None,
    }
}

const fn may_be_called(selector: u16) -> bool {
    let in_ldt = selector & 4 != 0;
    in_ldt || selector < FIRST_RESERVED_SELECTOR || selector == FLAT_CODE[0] || selector == FLAT_CODE[1]
}

impl<M: PageTableMem> Operation<'_, M> {
    /// Takes a page of the domain into a descriptor table, checking it if nobody did.
    pub fn take_descriptors(&mut self, mfn: Mfn) -> Result<(), Stop> {
        self.begin()?;
        if self.take(mfn, self.space.domain, FrameType::Descriptors)? == Taken::Validated {
            return Ok(());
        }
        for index in 0..M::ENTRIES {
            // Flushed and typed: nobody writes to the page while it is read.
            let value = self.mmu.memory.read(mfn, index);
            match accept_descriptor(value) {
                Some(accepted) if accepted == value => {}
                Some(accepted) => self.mmu.memory.write(mfn, index, accepted),
                None => {
                    self.abandon(mfn);
                    return Err(Stop::refuse(Refusal::Descriptor { mfn, index, value }));
                }
            }
        }
        self.confirm(mfn);
        Ok(())
    }

    /// Drops a page from a descriptor table. No CPU has the table loaded with this page in it any more.
    pub fn put_descriptors(&mut self, mfn: Mfn) {
        self.release(mfn, FrameType::Descriptors);
    }

    /// Stores one descriptor in a page of the domain, in use as a descriptor page or plain. ABI: `update_descriptor`.
    pub fn update_descriptor(&mut self, slot: Slot, value: u64) -> Result<(), Stop> {
        self.begin()?;
        let Slot { page, index } = slot;
        let accepted =
            accept_descriptor(value).ok_or_else(|| Stop::refuse(Refusal::Descriptor { mfn: page, index, value }))?;
        let in_use = self.take_validated(page, self.space.domain, FrameType::Descriptors)?.is_some();
        if !in_use {
            self.take_writable(page, self.space.domain)?;
        }
        self.mmu.memory.write(page, index, accepted);
        self.release(page, if in_use { FrameType::Descriptors } else { FrameType::Writable });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn system(kind: u64) -> u64 {
        PRESENT | kind << TYPE_SHIFT
    }

    #[test]
    fn segments_become_ring_3s() {
        let ring_0_code = 0x00af_9b00_0000_ffff;
        assert_eq!(accept_descriptor(ring_0_code), Some(0x00af_fb00_0000_ffff));
        assert_eq!(accept_descriptor(0x00cf_f300_0000_ffff), Some(0x00cf_f300_0000_ffff));
    }

    #[test]
    fn what_is_not_present_may_be_anything() {
        for kind in 0..16 {
            let descriptor = system(kind) & !PRESENT;
            assert_eq!(accept_descriptor(descriptor), Some(descriptor));
        }
    }

    #[test]
    fn of_system_descriptors_only_call_gates_pass_and_ring_3_cannot_use_them() {
        for kind in 1..16 {
            assert_eq!(accept_descriptor(system(kind)).is_some(), kind == CALL_GATE, "type {kind:#x}");
        }
        let gate = |selector: u64| system(CALL_GATE) | PRIVILEGE | selector << 16;
        assert_eq!(accept_descriptor(gate(0x10)), Some(system(CALL_GATE) | 0x10 << 16));
        for good in [0xe023, 0xe033, 0xe00c, 0xdff8] {
            assert!(accept_descriptor(gate(good)).is_some(), "{good:#x}");
        }
        for bad in [0xe008, 0xe010, 0xe02b, 0xe040, 0xfff8] {
            assert!(accept_descriptor(gate(bad)).is_none(), "{bad:#x}");
        }
        assert!(accept_descriptor(gate(0x10) | 1 << 32).is_none());
    }
}
