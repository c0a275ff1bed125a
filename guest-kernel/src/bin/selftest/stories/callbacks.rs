//! Entry points other than traps: `set_callbacks`, `callback_op`, `stack_switch`.

use crate::check::{NON_CANONICAL, Told, UNMAPPED, call, equal, holds, reads, refused, refuses_bad_pointers};
use guest_kernel::hypercall::Answer;
use pv_abi::errno::Errno;
use pv_abi::hypercall::{CALLBACK_OP, SET_CALLBACKS, STACK_SWITCH};
use pv_abi::trap::*;

/// Some address that may be registered. Nothing is bound, so it is never entered.
const ENTRY: u64 = 0xffff_ffff_8010_0000;

/// The old call for three callbacks at once.
pub fn set_callbacks() -> Told {
    equal("good", call(SET_CALLBACKS, [ENTRY, ENTRY, ENTRY]), Ok(0))?;
    equal("none", call(SET_CALLBACKS, [0, 0, 0]), Ok(0))?;
    for bad in [NON_CANONICAL, 1 << 63] {
        for addresses in [[bad, ENTRY, ENTRY], [ENTRY, bad, ENTRY], [ENTRY, ENTRY, bad]] {
            // Xen ignores the bad one and says nothing; to say so is no worse.
            holds("off the map", matches!(call(SET_CALLBACKS, addresses), Ok(0) | Err(Errno::EINVAL)))?;
        }
    }
    Ok(())
}

fn register(kind: u16, address: u64) -> Answer {
    let argument = CallbackRegister { kind, flags: 0, _pad: 0, address };
    call(CALLBACK_OP, [u64::from(CALLBACKOP_REGISTER), reads(&argument)])
}

fn unregister(kind: u16) -> Answer {
    let argument = CallbackUnregister { kind, _unused: 0 };
    call(CALLBACK_OP, [u64::from(CALLBACKOP_UNREGISTER), reads(&argument)])
}

/// One callback at a time.
pub fn callback_op() -> Told {
    let kinds = [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
        CALLBACKTYPE_NMI,
        CALLBACKTYPE_SYSENTER,
        CALLBACKTYPE_SYSCALL32,
    ];
    for kind in kinds {
        equal("register", register(kind, ENTRY), Ok(0))?;
        refused("off the map", register(kind, NON_CANONICAL), Errno::EINVAL)?;
    }
    refused("unknown kind", register(6, ENTRY), Errno::ENOSYS)?;
    refused("unknown kind", register(u16::MAX, ENTRY), Errno::ENOSYS)?;

    equal("unregister NMI", unregister(CALLBACKTYPE_NMI), Ok(0))?;
    for kind in [CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL] {
        refused("unregister what must stay", unregister(kind), Errno::EINVAL)?;
    }
    refused("unregister an unknown kind", unregister(99), Errno::ENOSYS)?;
    refused("unknown command", call(CALLBACK_OP, [2, 0]), Errno::ENOSYS)?;
    for command in [CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER] {
        refuses_bad_pointers("argument", |pointer| call(CALLBACK_OP, [u64::from(command), pointer]))?;
    }
    Ok(())
}

/// The stack for entries from user mode: any value goes in, for it is judged when it is used.
pub fn stack_switch() -> Told {
    for stack in [ENTRY, UNMAPPED, NON_CANONICAL, 0] {
        for selector in [0, FLAT_KERNEL_SS, 0xe010, 0xffff] {
            equal("stack_switch", call(STACK_SWITCH, [u64::from(selector), stack]), Ok(0))?;
        }
    }
    Ok(())
}
