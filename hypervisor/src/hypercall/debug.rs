//! `set_debugreg` and `get_debugreg` (`xen.h`).

use pv_abi::errno::Errno;

use super::{Call, Platform, Reply};
use crate::emulate::debug::{self, DebugRefusal};

/// `(int register, unsigned long value)`.
pub(super) fn set_debugreg<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let number = u8::try_from(call.u32(0)).map_err(|_| Errno::ENODEV)?;
    let value = call.word(1);
    debug::write(&mut call.vcpu.control, number, value).map_err(errno)?;
    call.platform.load_debug_registers(debug::hardware_registers(&call.vcpu.control));
    Ok(0)
}

/// `(int register)`: the answer is the register's value.
pub(super) fn get_debugreg<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    let number = u8::try_from(call.u32(0)).map_err(|_| Errno::ENODEV)?;
    Ok(debug::read(&call.vcpu.control, number).map_err(errno)?)
}

fn errno(refusal: DebugRefusal) -> Errno {
    match refusal {
        DebugRefusal::NoSuchRegister => Errno::ENODEV,
        DebugRefusal::HighBits => Errno::EINVAL,
        DebugRefusal::NotAGuestAddress | DebugRefusal::GeneralDetect | DebugRefusal::PortBreakpoint => Errno::EPERM,
    }
}
