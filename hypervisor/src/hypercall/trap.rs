//! `set_trap_table`: the guest's exception handlers (`xen.h`, `struct trap_info`).

use pv_abi::errno::Errno;
use pv_abi::trap::TrapInfo;

use super::call::canonical;
use super::{Call, Platform, Reply};
use crate::domain::vcpu::Gate;

/// Entries handled before the call is restarted.
const BUDGET: u64 = 64;

/// `(struct trap_info *table)`, ended by an entry whose address is 0. A null table removes all handlers.
pub(super) fn set_trap_table<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let table = call.word(0);
    if table == 0 {
        call.vcpu.gates.fill(Gate::default());
        return Ok(0);
    }
    let mut at = table;
    for _ in 0..BUDGET {
        let entry: TrapInfo = call.read(at)?;
        if entry.address == 0 {
            return Ok(0);
        }
        canonical(entry.address)?;
        call.vcpu.gates[usize::from(entry.vector)] = Gate::from_abi(&entry);
        at = at.checked_add(size_of::<TrapInfo>() as u64).ok_or(Errno::EFAULT)?;
    }
    Err(call.again([at]))
}
