//! `xen_version`.

use crate::check::{Told, call, equal, fail, holds, refused, refuses_bad_pointers, writes};
use guest_kernel::hypercall::Answer;
use guest_kernel::version::text;
use pv_abi::errno::Errno;
use pv_abi::features::{
    XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_GNTTAB_MAP_AVAIL_BITS, XENFEAT_MMU_PT_UPDATE_PRESERVE_AD,
    XENFEAT_SUPERVISOR_MODE_KERNEL, XENFEAT_WRITABLE_PAGE_TABLES,
};
use pv_abi::hypercall::XEN_VERSION;
use pv_abi::memory::HYPERVISOR_VIRT_START;
use pv_abi::version::*;

fn version<T>(command: u32, buffer: &mut T) -> Answer {
    call(XEN_VERSION, [u64::from(command), writes(buffer)])
}

/// The commands whose answer is the result register.
pub fn numbers() -> Told {
    let number = call(XEN_VERSION, [u64::from(XENVER_VERSION)]);
    holds("version below 3.0", number.is_ok_and(|number| (3 << 16..100 << 16).contains(&number)))?;
    equal("page size", call(XEN_VERSION, [u64::from(XENVER_PAGESIZE)]), Ok(4096))
}

/// The commands that fill a buffer: text, then nothing but zeros (XSA-122).
pub fn strings() -> Told {
    // Not zero, so that bytes left unwritten show.
    let mut extra: ExtraVersion = [0xaa; 16];
    equal("extraversion", version(XENVER_EXTRAVERSION, &mut extra), Ok(0))?;
    zero_filled("extraversion", &extra)?;

    let mut compile = CompileInfo {
        compiler: [0xaa; 64],
        compile_by: [0xaa; 16],
        compile_domain: [0xaa; 32],
        compile_date: [0xaa; 32],
    };
    equal("compile info", version(XENVER_COMPILE_INFO, &mut compile), Ok(0))?;
    zero_filled("compiler", &compile.compiler)?;
    zero_filled("compile date", &compile.compile_date)?;

    let mut capabilities: CapabilitiesInfo = [0xaa; 1024];
    equal("capabilities", version(XENVER_CAPABILITIES, &mut capabilities), Ok(0))?;
    zero_filled("capabilities", &capabilities)?;
    let capable = text(&capabilities).split(' ').any(|word| word == "xen-3.0-x86_64");
    holds("capabilities without xen-3.0-x86_64", capable)?;

    let mut changeset: ChangesetInfo = [0xaa; 64];
    equal("changeset", version(XENVER_CHANGESET, &mut changeset), Ok(0))?;
    zero_filled("changeset", &changeset)
}

/// Everything behind the first zero is zero, and there is one.
fn zero_filled(what: &str, buffer: &[u8]) -> Told {
    match buffer.iter().position(|byte| *byte == 0) {
        Some(end) if buffer[end..].iter().all(|byte| *byte == 0) => Ok(()),
        _ => fail(what),
    }
}

/// Platform parameters, the domain's handle, and what only the control domain may know.
pub fn platform() -> Told {
    let mut platform = PlatformParameters { virt_start: 0 };
    equal("platform parameters", version(XENVER_PLATFORM_PARAMETERS, &mut platform), Ok(0))?;
    equal("virt_start", platform.virt_start, HYPERVISOR_VIRT_START)?;
    let mut handle: DomainHandle = [0xaa; 16];
    equal("guest handle", version(XENVER_GUEST_HANDLE, &mut handle), Ok(0))?;
    holds("guest handle untouched", handle != [0xaa; 16])
}

/// The feature bits that a PV kernel relies on.
pub fn features() -> Told {
    let mut features = FeatureInfo { submap_idx: 0, submap: 0 };
    equal("get_features", version(XENVER_GET_FEATURES, &mut features), Ok(0))?;
    let has = |bit: u32| features.submap & 1 << bit != 0;
    holds("mmu_pt_update_preserve_ad missing", has(XENFEAT_MMU_PT_UPDATE_PRESERVE_AD))?;
    holds("gnttab_map_avail_bits missing", has(XENFEAT_GNTTAB_MAP_AVAIL_BITS))?;
    holds("writable_page_tables claimed", !has(XENFEAT_WRITABLE_PAGE_TABLES))?;
    holds("auto_translated_physmap claimed", !has(XENFEAT_AUTO_TRANSLATED_PHYSMAP))?;
    holds("supervisor_mode_kernel claimed", !has(XENFEAT_SUPERVISOR_MODE_KERNEL))?;

    for submap_idx in [1, 2, u32::MAX] {
        let mut beyond = FeatureInfo { submap_idx, submap: 0 };
        refused("features of a word there is not", version(XENVER_GET_FEATURES, &mut beyond), Errno::EINVAL)?;
    }
    Ok(())
}

/// Bad buffers and unknown commands.
pub fn bad() -> Told {
    let filling = [
        ("extraversion", XENVER_EXTRAVERSION),
        ("compile_info", XENVER_COMPILE_INFO),
        ("capabilities", XENVER_CAPABILITIES),
        ("changeset", XENVER_CHANGESET),
        ("platform_parameters", XENVER_PLATFORM_PARAMETERS),
        ("get_features", XENVER_GET_FEATURES),
        ("guest_handle", XENVER_GUEST_HANDLE),
    ];
    for (what, command) in filling {
        refuses_bad_pointers(what, |pointer| call(XEN_VERSION, [u64::from(command), pointer]))?;
    }
    for command in [11, 99, u64::from(u32::MAX)] {
        refused("unknown command", call(XEN_VERSION, [command, 0]), Errno::ENOSYS)?;
    }
    Ok(())
}
