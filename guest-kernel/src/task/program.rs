//! Programs as part of the kernel's image: position-independent code with its constants, copied into user pages.

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Code and constants. It starts at the first byte.
    pub code: &'static [u8],
    /// Pages of heap that it starts with, at least one.
    pub heap_pages: u64,
}

/// Defines a function that returns a [`Program`]: its name, the pages of its heap, and lines of assembly.
///
/// The lines find their constants relative to `rip`. For system calls there are the macros `sys_exit`, `sys_write`,
/// `sys_fork`, `sys_getpid`, `sys_grow`, `sys_yield` and `sys_wait`, with arguments in registers; `say FROM, TO` writes the
/// bytes between two labels. Labels are numbers.
#[macro_export]
macro_rules! user_program {
    (
        $(#[$doc:meta])*
        $visibility:vis fn $name:ident, heap $heap:literal: $($line:literal),+ $(,)?
        $(; $($operand:ident = $value:expr),+ $(,)?)?
    ) => {
        core::arch::global_asm!(
            concat!(".pushsection .rodata.user_program_", stringify!($name), ", \"a\", @progbits"),
            ".macro system_call number", "mov eax, \\number", "syscall", ".endm",
            ".macro sys_exit", "system_call {exit}", ".endm",
            ".macro sys_write", "system_call {write}", ".endm",
            ".macro say from, to", "lea rdi, [rip + \\from]", "lea rsi, [rip + \\to]", "sub rsi, rdi", "sys_write",
            ".endm",
            ".macro sys_fork", "system_call {fork}", ".endm",
            ".macro sys_getpid", "system_call {getpid}", ".endm",
            ".macro sys_grow", "system_call {grow}", ".endm",
            ".macro sys_yield", "system_call {yield_}", ".endm",
            ".macro sys_wait", "system_call {wait}", ".endm",
            concat!(".globl user_program_", stringify!($name), ", user_program_", stringify!($name), "_end"),
            concat!("user_program_", stringify!($name), ":"),
            $($line,)+
            concat!("user_program_", stringify!($name), "_end:"),
            ".purgem sys_wait", ".purgem sys_yield", ".purgem sys_grow", ".purgem sys_getpid", ".purgem sys_fork",
            ".purgem say", ".purgem sys_write", ".purgem sys_exit", ".purgem system_call",
            ".popsection",
            exit = const $crate::task::number::EXIT,
            write = const $crate::task::number::WRITE,
            fork = const $crate::task::number::FORK,
            getpid = const $crate::task::number::GETPID,
            grow = const $crate::task::number::GROW,
            yield_ = const $crate::task::number::YIELD,
            wait = const $crate::task::number::WAIT,
            $($($operand = const $value,)+)?
        );

        $(#[$doc])*
        $visibility fn $name() -> $crate::task::Program {
            unsafe extern "C" {
                #[link_name = concat!("user_program_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("user_program_", stringify!($name), "_end")]
                static END: u8;
            }
            let (start, end) = (&raw const START, &raw const END);
            // SAFETY: the two symbols enclose the program, constant bytes of the image.
            let code = unsafe { core::slice::from_raw_parts(start, end.addr() - start.addr()) };
            $crate::task::Program { code, heap_pages: $heap }
        }
    };
}
