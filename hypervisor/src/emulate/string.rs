//! What string instructions (INS, OUTS, MOVS, STOS) have in common: each fault does one step.

use super::cpu::Progress;
use super::cpu::{GuestCpu, SegmentBase};
use super::execute::Context;
use super::instruction::{AddressSize, Gpr, Segment};

/// RFLAGS.DF: string instructions go towards lower addresses.
const RFLAGS_DF: u64 = 1 << 10;

impl<C: GuestCpu> Context<'_, C> {
    /// What is added to addresses in a segment.
    pub fn base_of(&self, segment: Segment) -> u64 {
        match segment {
            Segment::Flat => 0,
            Segment::Fs => self.cpu.segment_base(SegmentBase::Fs),
            Segment::Gs => self.cpu.segment_base(SegmentBase::GsActive),
        }
    }

    /// Is there no step left to do?
    pub fn is_exhausted(&self, size: AddressSize, repeat: bool) -> bool {
        repeat && size.clip(self.regs.rcx) == 0
    }

    /// Moves an address register on, over `distance` bytes.
    pub fn move_on(&mut self, address: Gpr, distance: u64, size: AddressSize) {
        let backwards = self.regs.rflags & RFLAGS_DF != 0;
        let register = address.of(self.regs);
        let moved = if backwards { register.wrapping_sub(distance) } else { register.wrapping_add(distance) };
        *register = size.clip(moved);
    }

    /// Counts a step, and says whether there is more to do.
    pub fn count_down(&mut self, size: AddressSize, repeat: bool) -> Progress {
        if !repeat {
            return Progress::Done;
        }
        self.regs.rcx = size.clip(self.regs.rcx.wrapping_sub(1));
        if self.regs.rcx == 0 { Progress::Done } else { Progress::Again }
    }
}
