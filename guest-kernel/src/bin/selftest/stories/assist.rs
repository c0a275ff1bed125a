//! `vm_assist`.

use crate::check::{Told, call, equal, holds, refused};
use pv_abi::errno::Errno;
use pv_abi::hypercall::VM_ASSIST;
use pv_abi::trap::*;

/// Known assists go on and off; unknown ones are refused.
pub fn assists() -> Told {
    let set = |command: u32, assist: u32| call(VM_ASSIST, [u64::from(command), u64::from(assist)]);
    let known = [VMASST_TYPE_WRITABLE_PAGETABLES, VMASST_TYPE_RUNSTATE_UPDATE_FLAG, VMASST_TYPE_M2P_STRICT];
    for assist in known {
        for command in [VMASST_CMD_ENABLE, VMASST_CMD_ENABLE, VMASST_CMD_DISABLE, VMASST_CMD_DISABLE] {
            equal(&alloc::format!("assist {assist}"), set(command, assist), Ok(0))?;
        }
    }
    // Meant for 32-bit guests: kernels take either answer.
    for assist in [VMASST_TYPE_4GB_SEGMENTS, VMASST_TYPE_4GB_SEGMENTS_NOTIFY, VMASST_TYPE_PAE_EXTENDED_CR3] {
        holds("32-bit assist", matches!(set(VMASST_CMD_ENABLE, assist), Ok(0) | Err(Errno::EINVAL)))?;
    }
    for assist in [6, 31, 33, 63, 64, 1000, u32::MAX] {
        refused("unknown assist", set(VMASST_CMD_ENABLE, assist), Errno::EINVAL)?;
        refused("unknown assist", set(VMASST_CMD_DISABLE, assist), Errno::EINVAL)?;
    }
    refused("unknown command", set(2, VMASST_TYPE_WRITABLE_PAGETABLES), Errno::ENOSYS)
}
