//! `memory_op`: what a guest may ask about its memory and the machine's (`memory.h`).

use pv_abi::domid::DOMID_SELF;
use pv_abi::errno::Errno;
use pv_abi::memory::{
    E820_RAM, E820Entry, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START, MachphysMapping, MachphysMfnList, MemoryDomain,
    MemoryMap, XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH, XENMEM_CURRENT_RESERVATION,
    XENMEM_DECREASE_RESERVATION, XENMEM_EXCHANGE, XENMEM_INCREASE_RESERVATION, XENMEM_MACHINE_MEMORY_MAP,
    XENMEM_MACHPHYS_MAPPING, XENMEM_MACHPHYS_MFN_LIST, XENMEM_MAXIMUM_GPFN, XENMEM_MAXIMUM_RAM_PAGE,
    XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP, XENMEM_POPULATE_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP,
    XENMEM_SET_MEMORY_MAP,
};

use super::target::Target;
use super::{Call, Platform, Reply, exchange, reservation};
use crate::addr::{DomainId, Mfn, PAGE_SHIFT};
use crate::mm::perform::Effects;

/// Bits of the command word above these hold a restart position.
const COMMAND_MASK: u32 = 0x3f;

/// `(unsigned int cmd, void *arg)`.
pub(super) fn memory_op<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    match call.u32(0) & COMMAND_MASK {
        XENMEM_MAXIMUM_RAM_PAGE => Ok(call.platform.max_mfn().0),
        XENMEM_CURRENT_RESERVATION => Ok(match other(call)? {
            None => call.platform.frames().run(|frames| frames.allocated()),
            Some(target) => call.platform.memory_of(&target).frames().run(|frames| frames.allocated()),
        }),
        XENMEM_MAXIMUM_RESERVATION => max_pages(call),
        XENMEM_MAXIMUM_GPFN => Ok(max_pages(call)?.saturating_sub(1)),
        XENMEM_MACHPHYS_MAPPING => {
            let max_mfn = call.platform.max_mfn().0;
            let answer = MachphysMapping { v_start: MACH2PHYS_VIRT_START, v_end: MACH2PHYS_VIRT_END, max_mfn };
            call.write(call.word(1), &answer)?;
            Ok(0)
        }
        XENMEM_MEMORY_MAP => memory_map(call),
        command @ (XENMEM_INCREASE_RESERVATION | XENMEM_DECREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP) => {
            reservation::change(call, command)
        }
        XENMEM_EXCHANGE => exchange::exchange(call),
        XENMEM_MACHPHYS_MFN_LIST => machphys_mfn_list(call),
        // For the control domain, and for domains whose frame numbers are translated.
        XENMEM_MACHINE_MEMORY_MAP | XENMEM_SET_MEMORY_MAP => Err(Errno::EPERM.into()),
        XENMEM_ADD_TO_PHYSMAP | XENMEM_ADD_TO_PHYSMAP_BATCH | XENMEM_REMOVE_FROM_PHYSMAP => Err(Errno::EACCES.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// Reads the domain asked about: `None` for the caller's own. A domain without privilege may only ask about itself.
fn other<P: Platform>(call: &mut Call<'_, P>) -> Result<Option<P::Target>, Errno> {
    let request: MemoryDomain = call.read(call.word(1))?;
    if request.domid == DOMID_SELF || request.domid == call.vcpu.domain.0 {
        return Ok(None);
    }
    call.target(DomainId(request.domid)).map(Some)
}

fn max_pages<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    Ok(match other(call)? {
        None => call.platform.domain().max_pages,
        Some(target) => target.facts().max_pages,
    })
}

/// One entry of RAM from 0 to the most the domain may own.
fn memory_map<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let request: MemoryMap = call.read(call.word(1))?;
    if request.nr_entries == 0 {
        return Err(Errno::EINVAL.into());
    }
    let size = call.platform.domain().max_pages << PAGE_SHIFT;
    call.write(request.buffer, &E820Entry { addr: 0, size, kind: E820_RAM })?;
    call.write(call.word(1), &MemoryMap { nr_entries: 1, ..request })?;
    Ok(0)
}

/// The first frame of each 2 MiB of the machine-to-phys table. Where there is no RAM, and so no table, that of the 2 MiB
/// before. As in Xen anybody may ask: the numbers help only a domain that may map the frames.
///
/// There are a thousand at most for each TiB, so that the call needs no restart.
fn machphys_mfn_list<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    /// Frames whose entries fill 2 MiB.
    const FRAMES: u64 = (2 << 20) / 8;
    let request: MachphysMfnList = call.read(call.word(1))?;
    let count = call.platform.max_mfn().0.div_ceil(FRAMES).min(request.max_extents.into());
    let mut last = Mfn(0);
    for number in 0..count {
        last = call.platform.m2p_frames(number).unwrap_or(last);
        call.write(request.extent_start.wrapping_add(number * 8), &last.0)?;
    }
    let nr_extents = u32::try_from(count).unwrap_or(request.max_extents);
    call.write(call.word(1), &MachphysMfnList { nr_extents, ..request })?;
    Ok(0)
}
