//! `console_io`: the hypervisor's console as a domain sees it (`xen.h`).

use pv_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pv_abi::errno::Errno;

use super::{Call, Platform, Reply};

/// Bytes written before the call is restarted: a real serial line takes 11 ms for them.
const CHUNK: usize = 128;

/// `(unsigned int cmd, unsigned int count, char *buffer)`. Write returns 0, read the number of bytes read.
pub(super) fn console_io<P: Platform>(call: &mut Call<'_, P>) -> Reply {
    // A count is an `int` in the ABI: one with the sign bit set is no size.
    let count = u32::try_from(call.u32(1).cast_signed()).map_err(|_| Errno::EINVAL)?;
    match call.u32(0) {
        CONSOLEIO_WRITE => write(call, count),
        CONSOLEIO_READ => read(call, count),
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn write<P: Platform>(call: &mut Call<'_, P>, count: u32) -> Reply {
    let at = call.word(2);
    let mut chunk = [0; CHUNK];
    let chunk = chunk.split_at_mut((count as usize).min(CHUNK)).0;
    call.platform.read_bytes(at, chunk)?;
    // A list of such calls is restarted after each.
    call.budget = 0;
    if !call.platform.console_write(chunk) {
        // It waits in its own time, as in a loop: interrupted by events, and by others whose turn it is.
        return Err(call.again([CONSOLEIO_WRITE.into(), count.into(), at]));
    }
    let (done, left) = (chunk.len() as u64, count as usize - chunk.len());
    if left == 0 {
        return Ok(0);
    }
    Err(call.again([CONSOLEIO_WRITE.into(), left as u64, at.wrapping_add(done)]))
}

fn read<P: Platform>(call: &mut Call<'_, P>, count: u32) -> Reply {
    let mut chunk = [0; CHUNK];
    let room = chunk.split_at_mut((count as usize).min(CHUNK)).0;
    let got = call.platform.console_read(room);
    let bytes = chunk.get(..got).unwrap_or_default();
    call.platform.write_bytes(call.args[2], bytes)?;
    Ok(got as u64)
}
