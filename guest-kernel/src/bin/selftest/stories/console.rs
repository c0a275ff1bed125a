//! `console_io`.

use crate::check::{Told, call, equal, fail, holds, reads, refused, refuses_bad_pointers, writes};
use guest_kernel::{memory, time};
use pv_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pv_abi::errno::Errno;
use pv_abi::hypercall::CONSOLE_IO;

const WRITE: u64 = CONSOLEIO_WRITE as u64;
const READ: u64 = CONSOLEIO_READ as u64;

/// Writing text, nothing, and from bad places.
pub fn write() -> Told {
    let text = *b"console_io says hello\n";
    equal("write", call(CONSOLE_IO, [WRITE, text.len() as u64, reads(&text)]), Ok(0))?;
    equal("write of nothing", call(CONSOLE_IO, [WRITE, 0, reads(&text)]), Ok(0))?;
    equal("write of nothing from nowhere", call(CONSOLE_IO, [WRITE, 0, 0]), Ok(0))?;
    refuses_bad_pointers("write", |pointer| call(CONSOLE_IO, [WRITE, 8, pointer]))?;
    refused("unknown command", call(CONSOLE_IO, [99, 1, reads(&text)]), Errno::ENOSYS)
}

/// A text that runs past the end of mapped memory, by a little and by a lot.
pub fn write_past_the_end() -> Told {
    let end = memory::mapped_end();
    // SAFETY: the last mapped bytes are free heap memory; the text is only there to be harmless when echoed.
    unsafe { ((end - 8) as *mut [u8; 8]).write(*b"the end\n") };
    equal("up to the end", call(CONSOLE_IO, [WRITE, 8, end - 8]), Ok(0))?;
    refused("a byte past the end", call(CONSOLE_IO, [WRITE, 9, end - 8]), Errno::EFAULT)?;
    refused("a huge count", call(CONSOLE_IO, [WRITE, 0x7fff_ffff, end - 8]), Errno::EFAULT)
}

/// A domain that prints more than it may at once has to wait.
pub fn limit() -> Told {
    /// Lines of 1 KiB, about twice what it may print.
    const LINES: usize = 250;
    /// A call that takes so many nanoseconds had to wait: without a limit it is done in a hundredth of that.
    const WAIT: u64 = 200_000_000;
    let mut line = [b'.'; 1024];
    line[1023] = b'\n';
    for _ in 0..LINES {
        let before = time::now();
        equal("write", call(CONSOLE_IO, [WRITE, line.len() as u64, reads(&line)]), Ok(0))?;
        if time::now().zip(before).is_some_and(|(after, before)| after - before > WAIT) {
            return Ok(());
        }
    }
    fail("nothing kept it from printing")
}

/// Reading when no key waits, and to bad places.
pub fn read() -> Told {
    let mut keys = [0u8; 16];
    let count = call(CONSOLE_IO, [READ, 16, writes(&mut keys)]);
    holds("read", count.is_ok_and(|count| count <= 16))?;
    equal("read of nothing", call(CONSOLE_IO, [READ, 0, writes(&mut keys)]), Ok(0))?;
    // With no key waiting the buffer need not be looked at, so 0 is as good an answer as EFAULT.
    let answer = call(CONSOLE_IO, [READ, 16, 0xffff_8300_0000_0000]);
    holds("read into the hypervisor", matches!(answer, Ok(0) | Err(Errno::EFAULT)))
}
