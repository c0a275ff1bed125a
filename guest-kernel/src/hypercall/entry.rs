//! How the kernel is entered and left: trap table, callbacks, stack, segment bases, `iret`, debug registers.
//! Headers: `arch-x86/xen.h`, `arch-x86/xen-x86_64.h`, `callback.h`.

use super::{Answer, call};
use core::arch::asm;
use pv_abi::errno::Errno;
use pv_abi::hypercall as number;
use pv_abi::trap::{
    CALLBACKOP_REGISTER, CALLBACKOP_UNREGISTER, CallbackFlags, CallbackRegister, CallbackUnregister, IretContext,
    TrapInfo,
};

/// Registers the trap table at `table` (`set_trap_table`).
///
/// # Safety
/// `table` is ended by an entry with address 0, and each entry names code that follows the entry protocol of
/// [`crate::trap`].
pub unsafe fn set_trap_table(table: *const TrapInfo) -> Answer {
    // SAFETY: the call only reads the table.
    unsafe { call(number::SET_TRAP_TABLE, [table as u64, 0, 0, 0, 0]) }
}

/// Registers the callback of a `CALLBACKTYPE_*` (`callback_op`).
///
/// # Safety
/// At `address` is code that follows the callback's entry protocol.
pub unsafe fn register_callback(kind: u16, flags: CallbackFlags, address: u64) -> Answer {
    let argument = CallbackRegister { kind, flags: flags.bits(), _pad: 0, address };
    // SAFETY: the call only reads the structure.
    unsafe { call(number::CALLBACK_OP, [u64::from(CALLBACKOP_REGISTER), (&raw const argument) as u64, 0, 0, 0]) }
}

/// Removes the callback of a `CALLBACKTYPE_*` (`callback_op`).
pub fn unregister_callback(kind: u16) -> Answer {
    let argument = CallbackUnregister { kind, _unused: 0 };
    // SAFETY: the call only reads the structure.
    unsafe { call(number::CALLBACK_OP, [u64::from(CALLBACKOP_UNREGISTER), (&raw const argument) as u64, 0, 0, 0]) }
}

/// Sets the stack on which the kernel is entered from user mode (`stack_switch`).
///
/// # Safety
/// The stack is the caller's to give, and large enough for what the entry code does.
pub unsafe fn stack_switch(selector: u16, pointer: u64) -> Answer {
    // SAFETY: the stack is the caller's to give, and large enough, as it promises.
    unsafe { call(number::STACK_SWITCH, [u64::from(selector), pointer, 0, 0, 0]) }
}

/// Sets a segment base by its `SEGBASE_*` number (`set_segment_base`). Rust code here uses neither FS nor GS.
pub fn set_segment_base(which: u32, base: u64) -> Answer {
    // SAFETY: see above.
    unsafe { call(number::SET_SEGMENT_BASE, [u64::from(which), base, 0, 0, 0]) }
}

/// Leaves through `context` (`iret`). Registers that it doesn't name keep whatever they have.
///
/// # Safety
/// The context leads to code that can go on with those registers and on that stack, in the mode that its code selector
/// asks for: 3 in the low bits means user mode, which needs a user root table.
pub unsafe fn iret(context: &IretContext) -> ! {
    // SAFETY: the call reads the context at the stack pointer and doesn't come back.
    unsafe {
        asm!("mov rsp, {context}", "mov eax, {iret}", "syscall", "ud2", context = in(reg) context,
            iret = const number::IRET, options(noreturn))
    }
}

/// Writes debug register `register` (`set_debugreg`). What it may cause is a #DB, which goes to the trap table.
pub fn set_debugreg(register: u32, value: u64) -> Answer {
    // SAFETY: see above.
    unsafe { call(number::SET_DEBUGREG, [u64::from(register), value, 0, 0, 0]) }
}

/// Reads debug register `register` (`get_debugreg`). Unlike other calls it may answer with an address in the upper
/// half, so only the numbers of errors count as errors.
pub fn get_debugreg(register: u32) -> Answer {
    // SAFETY: the call has no memory argument.
    let result = unsafe { super::raw(u64::from(number::GET_DEBUGREG), [u64::from(register), 0, 0, 0, 0]) };
    Errno::from_code(result).map_or(Ok(result.cast_unsigned()), Err)
}

/// Switches a `VMASST_TYPE_*` behaviour by a `VMASST_CMD_*` command (`vm_assist`). None of them changes what a mapping
/// maps.
pub fn vm_assist(command: u32, behaviour: u32) -> Answer {
    // SAFETY: see above.
    unsafe { call(number::VM_ASSIST, [u64::from(command), u64::from(behaviour), 0, 0, 0]) }
}

/// Sets or clears the vCPU's `CR0.TS`: while it is set, the next instruction that uses the FPU traps
/// (`fpu_taskswitch`).
pub fn fpu_taskswitch(set: bool) -> Answer {
    // SAFETY: the call has no memory argument, and Rust code here doesn't use the FPU.
    unsafe { call(number::FPU_TASKSWITCH, [u64::from(set), 0, 0, 0, 0]) }
}
