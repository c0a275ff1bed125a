//! What is said about a domain that ends: registers, code bytes and backtrace, in a form meant for people.

use core::fmt;

use super::ShutdownReason;
use crate::guest::{GuestCopy, GuestRegisters};

/// Most return addresses taken from a guest's stack.
const MAX_FRAMES: usize = 16;
/// Code bytes shown at RIP.
const CODE_BYTES: usize = 16;

/// The usual mnemonic of an exception (SDM volume 3, table 7-1).
pub fn name(vector: u8) -> &'static str {
    const NAMES: [&str; 32] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "CSO", "#TS", "#NP", "#SS", "#GP", "#PF", "15",
        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP", "22", "23", "24", "25", "26", "27", "#HV", "#VC", "#SX", "31",
    ];
    NAMES.get(usize::from(vector)).copied().unwrap_or("interrupt")
}

/// A shutdown reason in words.
pub fn reason(reason: ShutdownReason) -> &'static str {
    match reason {
        ShutdownReason::Poweroff => "power-off",
        ShutdownReason::Reboot => "reboot",
        ShutdownReason::Suspend => "suspend",
        ShutdownReason::Crash => "crash reported by its kernel",
        ShutdownReason::Watchdog => "watchdog",
        ShutdownReason::SoftReset => "soft reset",
    }
}

/// Prints registers in four columns.
pub struct Registers<'a>(pub &'a GuestRegisters);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = self.0;
        writeln!(f, "rip {:016x} cs {:04x} rflags {:08x}", r.rip, r.cs, r.rflags)?;
        writeln!(f, "rsp {:016x} ss {:04x} vector {:#x} error code {:#x}", r.rsp, r.ss, r.vector, r.error_code)?;
        let rows = [
            [("rax", r.rax), ("rbx", r.rbx), ("rcx", r.rcx), ("rdx", r.rdx)],
            [("rsi", r.rsi), ("rdi", r.rdi), ("rbp", r.rbp), ("r8 ", r.r8)],
            [("r9 ", r.r9), ("r10", r.r10), ("r11", r.r11), ("r12", r.r12)],
        ];
        for row in rows {
            for (name, value) in row {
                write!(f, "{name} {value:016x} ")?;
            }
            writeln!(f)?;
        }
        write!(f, "r13 {:016x} r14 {:016x} r15 {:016x}", r.r13, r.r14, r.r15)
    }
}

/// The guest's code bytes at RIP and the return addresses on its stack, as far as they can be read.
pub struct Trace {
    code: [u8; CODE_BYTES],
    code_len: usize,
    frames: [u64; MAX_FRAMES],
    frames_len: usize,
}

impl Trace {
    /// Reads them. The guest's memory may hold anything: every read may fail, every chain may lie, and the number of
    /// reads is bounded.
    pub fn take(regs: &GuestRegisters, memory: &mut impl GuestCopy) -> Trace {
        let mut trace = Trace { code: [0; CODE_BYTES], code_len: 0, frames: [0; MAX_FRAMES], frames_len: 0 };
        for (index, byte) in trace.code.iter_mut().enumerate() {
            let address = regs.rip.wrapping_add(index as u64);
            if memory.read_bytes(address, core::slice::from_mut(byte)).is_err() {
                break;
            }
            trace.code_len = index + 1;
        }
        let mut rbp = regs.rbp;
        for slot in &mut trace.frames {
            let (mut next, mut back) = ([0; 8], [0; 8]);
            if memory.read_bytes(rbp, &mut next).is_err()
                || memory.read_bytes(rbp.wrapping_add(8), &mut back).is_err()
                || back == [0; 8]
            {
                break;
            }
            *slot = u64::from_le_bytes(back);
            trace.frames_len += 1;
            let next = u64::from_le_bytes(next);
            if next <= rbp {
                break;
            }
            rbp = next;
        }
        trace
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("code at rip:")?;
        for byte in self.code.iter().take(self.code_len) {
            write!(f, " {byte:02x}")?;
        }
        if self.code_len == 0 {
            f.write_str(" not readable")?;
        }
        f.write_str("\nbacktrace:")?;
        for frame in self.frames.iter().take(self.frames_len) {
            write!(f, " {frame:#x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Fault;
    use std::collections::BTreeMap;
    use std::string::ToString;

    struct Words(BTreeMap<u64, u64>);

    impl GuestCopy for Words {
        fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
            let word = self.0.get(&from).ok_or(Fault(from))?;
            buf.copy_from_slice(&word.to_le_bytes()[..buf.len()]);
            Ok(())
        }

        fn write_bytes(&mut self, to: u64, _: &[u8]) -> Result<(), Fault> {
            Err(Fault(to))
        }
    }

    #[test]
    fn a_chain_that_loops_or_wraps_ends() {
        let mut memory = Words(BTreeMap::from([(0x1000, 0x1000), (0x1008, 0x77), (u64::MAX - 7, 1)]));
        let regs = GuestRegisters { rbp: 0x1000, ..Default::default() };
        let text = Trace::take(&regs, &mut memory).to_string();
        assert_eq!(text, "code at rip: not readable\nbacktrace: 0x77");
        let regs = GuestRegisters { rbp: u64::MAX - 7, rip: u64::MAX, ..Default::default() };
        assert!(Trace::take(&regs, &mut memory).to_string().ends_with("backtrace:"));
    }
}
