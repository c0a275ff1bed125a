//! A user address space for stories: a few pages, a program, and the way in and out.
//!
//! The way is the kernel's own trap handling: [`UserSpace::run`] raises a trap, whose handler swaps the interrupted
//! frame for the user's, so that the return goes there; the user's next trap swaps back. Nothing is lost on either side.

use super::ground::*;
use crate::check::{Ending, Told, equal};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use guest_kernel::hypercall::mmuext::new_user_base;
use guest_kernel::hypercall::{self, register_callback};
use guest_kernel::paging::USER;
use guest_kernel::sync::Mutex;
use guest_kernel::trap::{self, TrapFrame};
use pv_abi::hypercall::IRET;
use pv_abi::trap::{
    CALLBACKTYPE_SYSCALL, CallbackFlags, FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS, IretContext,
};

/// Where the program is.
pub const CODE: u64 = 0x40_0000;
/// A page of data that the program may write, and the stack below its end.
pub const DATA: u64 = CODE + 4096;
/// The program's first stack pointer.
pub const STACK: u64 = DATA + 4096;
/// The vector under which a `syscall` of the program arrives: its callback is that vector's stub, for the two entries
/// have the same protocol.
pub const SYSCALL: u8 = 0xff;

/// The bytes of a program, which runs at any address.
#[macro_export]
macro_rules! program {
    ($($line:literal),+ $(,)?) => {{
        let (start, end): (*const u8, *const u8);
        // SAFETY: takes two addresses.
        unsafe {
            core::arch::asm!(
                ".pushsection .rodata.programs, \"a\"",
                "771:",
                $($line,)+
                "772:",
                ".popsection",
                "lea {start}, [rip + 771b]",
                "lea {end}, [rip + 772b]",
                start = out(reg) start,
                end = out(reg) end,
            );
            core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
        }
    }};
}
pub use program;

/// Where the kernel is entered from user mode.
#[repr(C, align(4096))]
struct KernelStack(UnsafeCell<[u8; 16384]>);

// SAFETY: the bytes are used only as a stack of the one vCPU.
unsafe impl Sync for KernelStack {}

static KERNEL_STACK: KernelStack = KernelStack(UnsafeCell::new([0; 16384]));

/// The frames that wait for their turn: the kernel's while the user runs, the user's while the kernel runs.
static WAITING: Mutex<Option<TrapFrame>> = Mutex::new(None);
static KERNEL_RUNS: AtomicBool = AtomicBool::new(true);

/// A user address space. The kernel has the same pages at the same addresses.
#[derive(Clone, Copy)]
pub struct UserSpace {
    /// Its tables.
    pub tree: Tree,
    /// What is at [`DATA`].
    pub data: Page,
}

impl UserSpace {
    /// An address space with this program, in force as the user's.
    pub fn new(program: &[u8]) -> Result<UserSpace, Ending> {
        let (code, data) = (Page::new(), Page::new());
        // SAFETY: the page is fresh, and programs are short.
        unsafe { core::ptr::copy_nonoverlapping(program.as_ptr(), code.address as *mut u8, program.len().min(4096)) };
        let tree = Tree::new();
        let index = guest_kernel::paging::index;
        for (table, level, child) in [(tree.l4, 4, tree.l3), (tree.l3, 3, tree.l2), (tree.l2, 2, tree.l1)] {
            table.write(0, 0);
            table.write(index(CODE, level), child.entry(TABLE));
        }
        tree.l1.write(0, 0);
        tree.l1.write(index(CODE, 1), code.entry(READ | USER));
        tree.l1.write(index(DATA, 1), data.entry(WRITE | USER));
        tree.tables().into_iter().try_for_each(Page::protect)?;
        equal("enter the user's half in the kernel's root", set(root_slot(0), tree.l3.entry(TABLE)), Ok(0))?;
        equal("user root", operate(new_user_base(tree.l4.mfn)), Ok(0))?;
        enter_from_user()?;
        Ok(UserSpace { tree, data })
    }

    /// The registers that a program starts with: all 0 but the instruction and stack pointers.
    pub fn start(self) -> TrapFrame {
        TrapFrame {
            rip: CODE,
            cs: FLAT_USER_CS.into(),
            rflags: 2,
            rsp: STACK,
            ss: FLAT_USER_SS.into(),
            ..TrapFrame::default()
        }
    }

    /// Runs the program from `frame` to its next trap, whose frame is the answer.
    pub fn run(self, frame: TrapFrame) -> TrapFrame {
        run(frame)
    }
}

/// Goes to user mode and back; see [`UserSpace::run`].
pub fn run(frame: TrapFrame) -> TrapFrame {
    *WAITING.lock() = Some(frame);
    // The handler skips the instruction.
    // SAFETY: the trap's frame keeps all registers for the way back.
    unsafe { core::arch::asm!("ud2") };
    WAITING.lock().take().expect("nothing came back from user mode")
}

/// Sends all that can happen in user mode to [`swap`].
fn enter_from_user() -> Told {
    for vector in 0..=u8::MAX {
        trap::set_handler(vector, Some(swap));
    }
    let top = KERNEL_STACK.0.get() as u64 + size_of::<KernelStack>() as u64;
    // SAFETY: the stack is nobody else's, and the handler needs little of it.
    equal("stack_switch", unsafe { hypercall::stack_switch(FLAT_KERNEL_SS, top) }, Ok(0))?;
    // SAFETY: the stub takes what a system call pushes.
    let answer =
        unsafe { register_callback(CALLBACKTYPE_SYSCALL, CallbackFlags::empty(), trap::stub_address(SYSCALL)) };
    equal("callback", answer, Ok(0))
}

/// Where [`call_on_stack`] goes on after a trap, and with what stack pointer; 0 when it isn't under way.
static RESUME: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What came of a call that may not come back.
pub enum Came {
    /// It did, with this result.
    Back(i64),
    /// The next thing was this trap, in whatever mode.
    Trap(TrapFrame),
}

/// Makes a hypercall with two arguments and another stack pointer. A [`UserSpace`] must be there for the traps.
pub fn call_on_stack(number: u32, args: [u64; 2], stack: u64) -> Came {
    *WAITING.lock() = None;
    let result: i64;
    // SAFETY: whether by the call or by a trap, all roads lead to label 3 with the stack as it was; the registers that
    // the trap may have changed are declared or put back.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "push rbp",
            "lea rcx, [rip + 3f]",
            "mov [r8], rcx",
            "mov [r8 + 8], rsp",
            "mov rsp, rdx",
            "syscall",
            "mov rsp, [r15 + 8]",
            "3:",
            "pop rbp",
            "pop rbx",
            inout("rax") u64::from(number) => result,
            inout("rdi") args[0] => _,
            inout("rsi") args[1] => _,
            inout("rdx") stack => _,
            inout("r8") RESUME.as_ptr() => _,
            inout("r15") RESUME.as_ptr() => _,
            out("rcx") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _,
        );
    }
    RESUME[0].store(0, Ordering::Relaxed);
    WAITING.lock().take().map_or(Came::Back(result), Came::Trap)
}

/// Leaves through an `iret` with these registers and flags; the answer is the next trap.
pub fn leave(frame: &TrapFrame, flags: u64) -> TrapFrame {
    let context = IretContext {
        rax: frame.rax,
        r11: frame.r11,
        rcx: frame.rcx,
        flags,
        rip: frame.rip,
        cs: frame.cs,
        rflags: frame.rflags,
        rsp: frame.rsp,
        ss: frame.ss,
    };
    match call_on_stack(IRET, [0; 2], (&raw const context) as u64) {
        Came::Trap(trap) => trap,
        Came::Back(result) => panic!("iret came back with {result}"),
    }
}

fn swap(frame: &mut TrapFrame) {
    let resume = RESUME[0].swap(0, Ordering::Relaxed);
    if resume != 0 {
        *WAITING.lock() = Some(*frame);
        frame.rip = resume;
        frame.rsp = RESUME[1].load(Ordering::Relaxed);
        (frame.cs, frame.ss, frame.rflags) = (u64::from(FLAT_KERNEL_CS & !3), FLAT_KERNEL_SS.into(), 2);
        return;
    }
    let from_kernel = frame.cs & 3 == 0;
    let expected = KERNEL_RUNS.load(Ordering::Relaxed);
    assert!(from_kernel == expected && (!from_kernel || frame.vector() == 6), "unexpected trap\n{frame}");
    if from_kernel {
        frame.rip += 2;
    }
    KERNEL_RUNS.store(!from_kernel, Ordering::Relaxed);
    let mut waiting = WAITING.lock();
    let next = waiting.replace(*frame).expect("nobody waits");
    *frame = next;
}
