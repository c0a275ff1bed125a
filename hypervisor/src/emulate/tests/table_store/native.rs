//! The CPU that the tests run on executes the instruction, and so does the emulator: the same bytes, the same registers
//! and memory before. Afterwards all is to be the same, but for flags that the SDM leaves undefined.
#![allow(unsafe_code)]

use super::*;
use core::arch::asm;
use proptest::test_runner::{Config, TestRunner};
use std::slice;

const ENTRIES: usize = 8;
type Memory = [u64; ENTRIES];
/// RDI and RSI point to this entry of their memory or into it.
const MIDDLE: usize = 4;

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const DF: u64 = 1 << 10;
const OF: u64 = 1 << 11;
const ALL: u64 = CF | PF | AF | ZF | SF | DF | OF;
/// IF, and the bit that is always set.
const ALWAYS: u64 = 0x202;

/// The registers that the instructions use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    rax: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rflags: u64,
}

/// An instruction in this program.
struct Native {
    text: &'static str,
    /// Executes it, and returns where it is, from and to.
    run: fn(&mut State) -> (usize, usize),
}

/// An instruction that reads and writes no more than RAX, RCX, RDX, RSI, RDI, flags, and the memory at RDI and RSI.
macro_rules! native {
    ($($text:literal)+) => {
        Native {
            text: concat!($($text),+),
            run: |state| {
                let (start, end);
                // SAFETY: the instruction accesses `Memory` only: RDI and RSI point into its middle, and all of the
                // instructions below stay within the `ENTRIES` around it, with the values that `prepare` chooses. Flags
                // other than those of `ALL` are as the program has them, and DF is cleared again.
                unsafe {
                    asm!(
                        "lea r9, [rip + 2f]",
                        "lea r10, [rip + 3f]",
                        "push r8",
                        "popfq",
                        "2:",
                        concat!($($text),+),
                        "3:",
                        "pushfq",
                        "pop r8",
                        "cld",
                        inout("rax") state.rax,
                        inout("rcx") state.rcx,
                        inout("rdx") state.rdx,
                        inout("rsi") state.rsi,
                        inout("rdi") state.rdi,
                        inout("r8") state.rflags,
                        out("r9") start,
                        out("r10") end,
                    );
                }
                (start, end)
            },
        }
    };
}

/// All sizes of an instruction with a register or an immediate.
macro_rules! binary {
    ($name:literal) => {
        std::vec![
            native!($name " byte ptr [rdi], cl"),
            native!($name " byte ptr [rdi], dh"),
            native!($name " byte ptr [rdi], sil"),
            native!($name " word ptr [rdi], dx"),
            native!($name " dword ptr [rdi], ecx"),
            native!($name " qword ptr [rdi], rdx"),
            native!($name " byte ptr [rdi], 0x8f"),
            native!($name " word ptr [rdi], 0x7ff0"),
            native!($name " dword ptr [rdi], 0x8fffffff"),
            native!($name " qword ptr [rdi], -0x12345678"),
        ]
    };
}

/// With the short form of the immediate, which MOV has not.
macro_rules! arithmetic {
    ($name:literal) => {{
        let mut all = binary!($name);
        all.push(native!($name " word ptr [rdi], -2"));
        all.push(native!($name " dword ptr [rdi], 0x7f"));
        all.push(native!("lock " $name " qword ptr [rdi], -0x80"));
        all
    }};
}

macro_rules! unary {
    ($name:literal) => {
        std::vec![
            native!($name " byte ptr [rdi]"),
            native!($name " word ptr [rdi]"),
            native!($name " dword ptr [rdi]"),
            native!("lock " $name " qword ptr [rdi]"),
        ]
    };
}

/// Instructions that also write the register.
macro_rules! exchange {
    ($name:literal) => {
        std::vec![
            native!($name " byte ptr [rdi], al"),
            native!($name " byte ptr [rdi], ch"),
            native!($name " byte ptr [rdi], ah"),
            native!($name " byte ptr [rdi], dil"),
            native!($name " word ptr [rdi], cx"),
            native!($name " dword ptr [rdi], edx"),
            native!("lock " $name " dword ptr [rdi], eax"),
            native!($name " qword ptr [rdi], rax"),
            native!("lock " $name " qword ptr [rdi], rdi"),
        ]
    };
}

macro_rules! bit {
    ($name:literal) => {
        std::vec![
            native!($name " word ptr [rdi], cx"),
            native!($name " dword ptr [rdi], ecx"),
            native!("lock " $name " qword ptr [rdi], rcx"),
            native!($name " word ptr [rdi], 0xff"),
            native!("lock " $name " dword ptr [rdi], 33"),
            native!($name " qword ptr [rdi], 63"),
        ]
    };
}

fn natives() -> Vec<Native> {
    let strings = std::vec![
        native!("stosb"),
        native!("stosw"),
        native!("stosd"),
        native!("stosq"),
        native!("rep stosb"),
        native!("rep stosq"),
        native!("movsb"),
        native!("movsw"),
        native!("movsd"),
        native!("movsq"),
        native!("rep movsw"),
        native!("rep movsq"),
    ];
    let groups = [
        binary!("mov"),
        arithmetic!("add"),
        arithmetic!("or"),
        arithmetic!("adc"),
        arithmetic!("sbb"),
        arithmetic!("and"),
        arithmetic!("sub"),
        arithmetic!("xor"),
        unary!("inc"),
        unary!("dec"),
        unary!("not"),
        unary!("neg"),
        exchange!("xchg"),
        exchange!("xadd"),
        exchange!("cmpxchg"),
        bit!("bts"),
        bit!("btr"),
        bit!("btc"),
        strings,
    ];
    groups.into_iter().flatten().collect()
}

/// Flags that have no defined value after it (SDM volume 2, the instruction's page).
fn undefined_flags(text: &str) -> u64 {
    let name = text.trim_start_matches("lock ").split(' ').next().unwrap_or_default();
    match name {
        "and" | "or" | "xor" => AF,
        "bts" | "btr" | "btc" => OF | SF | AF | PF,
        _ => 0,
    }
}

/// Values that make interesting flags.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        prop::sample::select(std::vec![
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            i64::MAX as u64,
            1 << 63,
            u64::MAX,
        ]),
    ]
}

/// Registers with which the instruction stays in its memory, at `to` and `from`. `offset` is where in the entry its operand is.
fn prepare(text: &str, mut state: State, to: u64, from: u64, offset: u64) -> State {
    let size = if text.contains("qword") || text.ends_with("sq") {
        8
    } else if text.contains("dword") || text.ends_with("sd") {
        4
    } else if text.contains("word") || text.ends_with("sw") {
        2
    } else {
        1
    };
    let middle = (MIDDLE * 8) as u64;
    state.rdi = to + middle + offset / size * size;
    if text.contains("rep ") {
        state.rcx = 1 + state.rcx % 3;
    }
    if text.contains("movs") {
        state.rsi = from + middle + offset;
    }
    if text.contains("bt") {
        // Up to two entries in both directions, as a signed number of each size.
        state.rcx = (state.rcx % 256).wrapping_sub(128);
    }
    state
}

/// The emulator's entry, one of many.
struct Slot<'a>(&'a mut u64);

impl TableEntry for Slot<'_> {
    fn change(&mut self, mut make: impl FnMut(u64) -> Option<u64>) -> Result<(), NotChanged> {
        *self.0 = make(*self.0).unwrap_or(*self.0);
        Ok(())
    }
}

/// Where the operand is that the instruction is about to write.
fn fault_address(text: &str, regs: &GuestRegisters) -> u64 {
    let bits = match text {
        _ if !text.ends_with("cx") || !text.contains("bt") => return regs.rdi,
        _ if text.contains("qword") => 64,
        _ if text.contains("dword") => 32,
        _ => 16,
    };
    regs.rdi.wrapping_add_signed(regs.rcx.cast_signed().div_euclid(bits) * (bits / 8))
}

/// Executes what is at `code` in the emulator, all steps of it; with `known` as one that was executed before. `base` is the
/// address of `memory`.
fn emulate(
    text: &str,
    code: (usize, usize),
    before: &State,
    base: u64,
    memory: &mut Memory,
    from: &Memory,
    known: bool,
) -> State {
    let (start, end) = (code.0 as u64, code.1 as u64);
    // SAFETY: the labels around an instruction of this program.
    let bytes = unsafe { slice::from_raw_parts(code.0 as *const u8, code.1 - code.0) };
    let mut guest = Guest::at(start, bytes);
    let source = from.as_ptr().addr() as u64;
    let source_bytes = from.iter().flat_map(|entry| entry.to_le_bytes());
    guest.machine.bytes.extend((source..).zip(source_bytes));
    let touched = [start, start + 15, source, source + size_of::<Memory>() as u64 - 1];
    guest.machine.pages.extend(touched.map(|address| address / PAGE_SIZE as u64));
    let State { rax, rcx, rdx, rsi, rdi, rflags } = *before;
    guest.regs = GuestRegisters { rax, rcx, rdx, rsi, rdi, rflags, error_code: WRITE_TO_PRESENT, ..guest.regs };
    while guest.regs.rip == start {
        let address = fault_address(text, &guest.regs);
        let entry = &mut memory[usize::try_from((address - base) / 8).unwrap()];
        if known {
            // Twice the same: the first time decodes it.
            let (regs, value) = (guest.regs, *entry);
            assert_eq!(guest.any_store(address, &mut Slot(entry)), Some(Outcome::Resume), "{text}");
            (guest.regs, *entry) = (regs, value);
        }
        assert_eq!(guest.store(address, &mut Slot(entry)), Some(Outcome::Resume), "{text}");
    }
    assert_eq!(guest.regs.rip, end, "{text}");
    let GuestRegisters { rax, rcx, rdx, rsi, rdi, rflags, .. } = guest.regs;
    State { rax, rcx, rdx, rsi, rdi, rflags }
}

#[test]
fn the_cpu_does_the_same() {
    let natives = natives();
    let registers = (value(), value(), value(), value(), any::<u64>());
    let memory = || prop::array::uniform8(value());
    let input = (registers, memory(), memory(), 0u64..8, any::<[bool; 2]>());
    let mut runner = TestRunner::new(Config::with_cases(500));
    let result = runner.run(&input, |((rax, rcx, rdx, rsi, flags), to, from, offset, [equal, known])| {
        for native in &natives {
            let text = native.text;
            let mut memory = to;
            let mut emulated_memory = to;
            let base = memory.as_mut_ptr().expose_provenance() as u64;
            let source = from.as_ptr().expose_provenance() as u64;
            let state = State { rax, rcx, rdx, rsi, rdi: 0, rflags: flags & ALL | ALWAYS };
            let mut state = prepare(text, state, base, source, offset);
            if equal {
                // So that comparisons succeed, at each size.
                state.rax = to[MIDDLE] >> ((state.rdi % 8) * 8);
            }
            let before = state;
            let code = (native.run)(&mut state);
            let emulated = emulate(text, code, &before, base, &mut emulated_memory, &from, known);
            let ignored = undefined_flags(text);
            let defined = |state: State| State { rflags: state.rflags & !ignored, ..state };
            prop_assert_eq!(defined(emulated), defined(state), "{} of {:?}", text, before);
            prop_assert_eq!(emulated_memory, memory, "{} of {:?}", text, before);
        }
        Ok(())
    });
    result.unwrap();
}
