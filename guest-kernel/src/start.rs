//! From the hypervisor's first instruction to the binary's `main`.
//!
//! A domain builder enters at the ENTRY note with `rsi` = address of the start info page, flat ring 3 segments, and the
//! whole image mapped. The notes live here, beside the entry they name, so that linking the entry brings them along.

use crate::paging::PAGE_SIZE;
use crate::{memory, shared, time, trap};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, Ordering};
use pv_abi::elfnote;
use pv_abi::start_info::StartInfo;

/// The address of pseudo-physical frame 0 (note VIRT_BASE; `guest.ld` links for the same).
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the builder maps the pseudo-physical to machine table (note INIT_P2M).
pub const P2M_BASE: u64 = 0x80_0000_0000;

const STACK_SIZE: usize = 64 * 1024;

global_asm!(
    ".macro XEN_NOTE type, value:vararg",
    "    .balign 4",
    "    .long 4, 3f - 2f, \\type",
    "    .asciz \"Xen\"",
    "2:  \\value",
    "3:",
    ".endm",
    ".pushsection .note.Xen, \"a\", @note",
    "XEN_NOTE {xen_version}, .asciz \"xen-3.0\"",
    "XEN_NOTE {guest_os}, .asciz \"Pavise guest kernel\"",
    "XEN_NOTE {loader}, .asciz \"generic\"",
    "XEN_NOTE {pae_mode}, .asciz \"yes\"",
    "XEN_NOTE {features}, .asciz \"!writable_page_tables|pae_pgdir_above_4gb\"",
    "XEN_NOTE {entry}, .quad _start",
    "XEN_NOTE {hypercall_page}, .quad hypercall_page",
    "XEN_NOTE {virt_base}, .quad {virt_base_value}",
    "XEN_NOTE {paddr_offset}, .quad 0",
    "XEN_NOTE {init_p2m}, .quad {p2m_base}",
    "XEN_NOTE {mod_start_pfn}, .quad 1",
    ".popsection",
    // Filled by the domain builder with one stub per hypercall; int3 until then.
    ".pushsection .text.hypercall_page, \"ax\", @progbits",
    ".balign 4096",
    ".globl hypercall_page",
    "hypercall_page: .fill 4096, 1, 0xcc",
    ".popsection",
    ".pushsection .text.start, \"ax\", @progbits",
    ".globl _start",
    "_start:",
    "    cld",
    "    lea rsp, [rip + {stack} + {stack_size}]",
    // A zero frame pointer ends backtraces.
    "    xor ebp, ebp",
    "    mov rdi, rsi",
    "    call {enter}",
    "    ud2",
    ".popsection",
    xen_version = const elfnote::XEN_ELFNOTE_XEN_VERSION,
    guest_os = const elfnote::XEN_ELFNOTE_GUEST_OS,
    loader = const elfnote::XEN_ELFNOTE_LOADER,
    pae_mode = const elfnote::XEN_ELFNOTE_PAE_MODE,
    features = const elfnote::XEN_ELFNOTE_FEATURES,
    entry = const elfnote::XEN_ELFNOTE_ENTRY,
    hypercall_page = const elfnote::XEN_ELFNOTE_HYPERCALL_PAGE,
    virt_base = const elfnote::XEN_ELFNOTE_VIRT_BASE,
    paddr_offset = const elfnote::XEN_ELFNOTE_PADDR_OFFSET,
    init_p2m = const elfnote::XEN_ELFNOTE_INIT_P2M,
    mod_start_pfn = const elfnote::XEN_ELFNOTE_MOD_START_PFN,
    virt_base_value = const VIRT_BASE,
    p2m_base = const P2M_BASE,
    stack = sym BOOT_STACK,
    stack_size = const STACK_SIZE,
    enter = sym enter,
);

/// The stack every binary starts on. Not `static mut`: nothing in Rust ever looks at it.
#[repr(C, align(4096))]
struct BootStack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: the bytes are used only as the stack of the one vCPU that enters `_start`.
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack(UnsafeCell::new([0; STACK_SIZE]));

static START_INFO: AtomicPtr<StartInfo> = AtomicPtr::new(core::ptr::null_mut());

unsafe extern "Rust" {
    /// Written by [`entry!`](crate::entry) in the binary.
    safe fn guest_main(info: &'static StartInfo) -> !;
}

/// Names the function that a binary starts with: `fn(&'static StartInfo) -> !`.
///
/// It runs on a 64 KiB stack, with the trap table registered and the heap ready.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn guest_main(info: &'static $crate::StartInfo) -> ! {
            let main: fn(&'static $crate::StartInfo) -> ! = $main;
            main(info)
        }
    };
}

extern "sysv64" fn enter(info: *mut StartInfo) -> ! {
    START_INFO.store(info, Ordering::Relaxed);
    trap::init();
    let info = start_info();
    memory::init(info);
    shared::init(info);
    time::init();
    guest_main(info)
}

/// What the domain builder told the domain (ABI: `struct start_info`).
///
/// # Panics
/// Before the entry code has run, which no caller can be.
pub fn start_info() -> &'static StartInfo {
    // SAFETY: the builder maps the page that `rsi` named at entry, nothing ever unmaps it, and no code of ours writes
    // to it after entry.
    unsafe { START_INFO.load(Ordering::Relaxed).as_ref() }.expect("start info before entry")
}

/// The kernel command line, without its terminating NUL; empty if it isn't UTF-8.
pub fn command_line() -> &'static str {
    let bytes = &start_info().cmd_line;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end]).unwrap_or("")
}

/// First and last-plus-one address of the linked image (`guest.ld`).
pub fn image() -> core::ops::Range<u64> {
    unsafe extern "C" {
        static __image_start: u8;
        static __image_end: u8;
    }
    (&raw const __image_start as u64)..(&raw const __image_end as u64).next_multiple_of(PAGE_SIZE)
}

/// The boot stack's addresses, for backtraces.
pub fn boot_stack() -> core::ops::Range<u64> {
    let start = BOOT_STACK.0.get() as u64;
    start..start + STACK_SIZE as u64
}
