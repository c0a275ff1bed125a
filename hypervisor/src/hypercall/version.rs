//! `xen_version`: what the hypervisor is and what it offers (`version.h`, `features.h`).
//!
//! Guests decide by the Xen version what they may use, so Pavise reports the one whose ABI it speaks, 4.17, and its
//! own name in the free-text fields. Every buffer is written whole: no byte of ours leaks behind a string (XSA-122).

use pv_abi::errno::Errno;
use pv_abi::features::{
    XENFEAT_GNTTAB_MAP_AVAIL_BITS, XENFEAT_HIGHMEM_ASSIST, XENFEAT_MEMORY_OP_VNODE_SUPPORTED,
    XENFEAT_MMU_PT_UPDATE_PRESERVE_AD, XENFEAT_PAE_PGDIR_ABOVE_4GB,
};
use pv_abi::memory::HYPERVISOR_VIRT_START;
use pv_abi::trap::VMASST_TYPE_PAE_EXTENDED_CR3;
use pv_abi::version::{
    CompileInfo, FeatureInfo, PlatformParameters, XENVER_BUILD_ID, XENVER_CAPABILITIES, XENVER_CHANGESET,
    XENVER_COMMANDLINE, XENVER_COMPILE_INFO, XENVER_EXTRAVERSION, XENVER_GET_FEATURES, XENVER_GUEST_HANDLE,
    XENVER_PAGESIZE, XENVER_PLATFORM_PARAMETERS, XENVER_VERSION,
};

use super::{Call, Platform, Reply};
use crate::addr::PAGE_SIZE;

/// Major and minor version of the ABI.
pub const VERSION: u64 = 4 << 16 | 17;
const EXTRA_VERSION: &str = concat!(".0-pavise-", env!("CARGO_PKG_VERSION"));

/// `(int cmd, void *arg)`.
pub(super) fn xen_version<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    match call.u32(0) {
        // Guests ask this all the time, to have pending events delivered.
        XENVER_VERSION => Ok(VERSION),
        XENVER_PAGESIZE => Ok(PAGE_SIZE as u64),
        _ => describe(call),
    }
}

/// Answers that take memory.
#[inline(never)]
fn describe<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let out = call.word(1);
    match call.u32(0) {
        XENVER_EXTRAVERSION => call.write(out, &text::<16>(EXTRA_VERSION))?,
        XENVER_COMPILE_INFO => {
            let info = CompileInfo {
                compiler: text("rustc"),
                compile_by: text("pavise"),
                compile_domain: text(""),
                compile_date: text(""),
            };
            call.write(out, &info)?;
        }
        XENVER_CAPABILITIES => call.write(out, &text::<1024>("xen-3.0-x86_64 "))?,
        XENVER_CHANGESET => call.write(out, &text::<64>(""))?,
        XENVER_PLATFORM_PARAMETERS => call.write(out, &PlatformParameters { virt_start: HYPERVISOR_VIRT_START })?,
        XENVER_GET_FEATURES => return get_features(call),
        XENVER_GUEST_HANDLE => {
            let handle = call.platform.domain().handle;
            call.write(out, &handle)?;
        }
        // Known to the hypervisor alone.
        XENVER_COMMANDLINE | XENVER_BUILD_ID => return Err(Errno::EPERM.into()),
        _ => return Err(Errno::ENOSYS.into()),
    }
    Ok(0)
}

fn get_features<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let request: FeatureInfo = call.read(call.word(1))?;
    // There is one word of features, whatever later versions may add.
    if request.submap_idx != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut submap = 1 << XENFEAT_MMU_PT_UPDATE_PRESERVE_AD
        | 1 << XENFEAT_HIGHMEM_ASSIST
        | 1 << XENFEAT_GNTTAB_MAP_AVAIL_BITS
        | 1 << XENFEAT_MEMORY_OP_VNODE_SUPPORTED;
    if call.vcpu.assists.has(VMASST_TYPE_PAE_EXTENDED_CR3) {
        submap |= 1 << XENFEAT_PAE_PGDIR_ABOVE_4GB;
    }
    call.write(call.word(1), &FeatureInfo { submap, ..request })?;
    Ok(0)
}

/// A string in a zeroed buffer, cut so that it always ends with a zero.
fn text<const N: usize>(string: &str) -> [u8; N] {
    let mut buffer = [0; N];
    for (slot, byte) in buffer.iter_mut().take(N - 1).zip(string.bytes()) {
        *slot = byte;
    }
    buffer
}
