//! `multicall`: several hypercalls in one (`xen.h`, `struct multicall_entry`).

use pv_abi::errno::Errno;
use pv_abi::hypercall::{IRET, MULTICALL, MulticallEntry};

use super::{Call, Next, Otherwise, Platform, Reply, code, handler};

/// Entries carried out before the call is restarted.
const BUDGET: u32 = 32;
const ENTRY: u64 = size_of::<MulticallEntry>() as u64;

/// `(struct multicall_entry *list, unsigned int count)`. Each entry gets its own result; the call itself returns 0.
pub(super) fn multicall<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let mut at = call.word(0);
    let mut left = call.u32(1);
    for _ in 0..BUDGET {
        if left == 0 {
            return Ok(0);
        }
        let entry: MulticallEntry = call.read(at)?;
        let next = at.checked_add(ENTRY).ok_or(Errno::EFAULT)?;
        match one(call, &entry) {
            Step::Result(value) => write_result(call, at, value)?,
            Step::Restart(args) => {
                // The entry itself keeps what is left of it.
                let rest = MulticallEntry { args, ..entry };
                call.write(at, &rest)?;
                return Err(call.again([at, left.into()]));
            }
            Step::Then(what) => {
                write_result(call, at, 0)?;
                return after(call, what, next, left - 1);
            }
        }
        at = next;
        left -= 1;
        if call.budget == 0 {
            break;
        }
    }
    if left == 0 { Ok(0) } else { Err(call.again([at, left.into()])) }
}

enum Step {
    Result(u64),
    Restart([u64; 6]),
    Then(Next),
}

fn one<P: Platform>(call: &mut Call<'_, P>, entry: &MulticallEntry) -> Step {
    // `iret` would leave kernel mode with the rest of the list still to come (XSA-213); lists don't nest.
    if entry.op == u64::from(IRET) {
        return Step::Result(code(Errno::ENOSYS));
    }
    if entry.op == u64::from(MULTICALL) {
        return Step::Result(code(Errno::EINVAL));
    }
    let Some(handler) = handler(entry.op) else { return Step::Result(code(Errno::ENOSYS)) };
    let Call { vcpu, platform, budget, next, .. } = call;
    let mut args = entry.args;
    let mut inner = Call { vcpu, platform: *platform, args: &mut args, budget: *budget, next };
    let reply = handler(&mut inner);
    *budget = inner.budget;
    match reply {
        Ok(value) => Step::Result(value),
        Err(Otherwise::AGAIN) => Step::Restart(args),
        Err(Otherwise::THEN) => next.take().map_or(Step::Result(0), Step::Then),
        Err(Otherwise(code)) => Step::Result(code.wrapping_neg()),
    }
}

/// An entry yielded, waits or ended the domain. With entries still to come, a yield or a wait is over at once: a guest
/// must expect both to return early, and the rest of its list must not be lost.
fn after<P: Platform>(call: &mut Call<'_, P>, what: Next, at: u64, left: u32) -> Reply {
    match what {
        Next::Resume(_) | Next::Yield | Next::Block | Next::Poll { .. } if left > 0 => {
            Err(call.again([at, left.into()]))
        }
        Next::Resume(_) | Next::Yield | Next::Block | Next::Poll { .. } | Next::End(_) => Err(call.then(what)),
    }
}

fn write_result<P: Platform>(call: &mut Call<'_, P>, entry: u64, value: u64) -> Result<(), Errno> {
    let at = entry.wrapping_add(core::mem::offset_of!(MulticallEntry, result) as u64);
    call.write(at, &value)
}
