//! The `syscall` and `sysenter` doors: MSRs, and the two small stubs per CPU that find the CPU's stack.
//!
//! `syscall` changes neither RSP nor GS. Because the guest owns GS, each CPU gets stubs of its own with the address of
//! its stack as a constant, in an executable page of its block.

use x86_64::registers::model_specific::Msr;

use super::descriptors::HYPERVISOR_CS;
use super::entry;
use super::mm::frame_bytes;
use super::percpu::{self, CpuTop, STACK_GAP, SYSCALL_STUB_PAGE};
use crate::addr::{Mfn, PAGE_SIZE};
use crate::guest::GuestRegisters;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;

/// RFLAGS cleared on `syscall`: TF, IF, DF, IOPL, NT, RF, VM, AC.
const FLAG_MASK: u64 = 0x0007_7700;

/// Bytes between the stubs for 64-bit and 32-bit callers.
const STUB32_OFFSET: usize = 64;

/// Writes this CPU's stubs and points the MSRs at them. `stub_frame` backs the stub page of the block.
///
/// # Safety
/// `block` is this CPU's block and `stub_frame` the frame behind its [`SYSCALL_STUB_PAGE`]; interrupts are off.
pub unsafe fn load(block: u64, stub_frame: Mfn) {
    let regs = percpu::top_of(block) + core::mem::offset_of!(CpuTop, regs) as u64;
    let end = regs + size_of::<GuestRegisters>() as u64;
    // SAFETY: the caller says that the frame backs this CPU's stub page, which nothing executes yet.
    let page = unsafe { frame_bytes(stub_frame) };
    let stub = block + (SYSCALL_STUB_PAGE * PAGE_SIZE) as u64;
    let (stub64, stub32) = page.split_at_mut(STUB32_OFFSET);
    write_stub(stub64, stub, regs, entry::syscall as *const () as u64);
    write_stub(stub32, stub + STUB32_OFFSET as u64, regs, entry::syscall32 as *const () as u64);
    // SYSRET loads CS with +16 and SS with +8 of this base: 0xe033 and 0xe02b (SDM volume 2, SYSRET).
    let star = u64::from(pv_abi::trap::FLAT_RING3_CS32) << 48 | u64::from(HYPERVISOR_CS) << 32;
    for (msr, value) in [
        (STAR, star),
        (LSTAR, stub),
        (CSTAR, stub + STUB32_OFFSET as u64),
        (SFMASK, FLAG_MASK),
        (SYSENTER_CS, u64::from(HYPERVISOR_CS)),
        (SYSENTER_ESP, end),
        (SYSENTER_EIP, entry::sysenter as *const () as u64),
    ] {
        // SAFETY: the values are entry points and selectors of ours, as the MSRs' definitions ask.
        unsafe { Msr::new(msr).write(value) };
    }
}

/// Writes a stub that will be at `stub`: `mov [regs.rsp], rsp; lea rsp, [regs - STACK_GAP]; jmp target`.
fn write_stub(out: &mut [u8], stub: u64, regs: u64, target: u64) {
    let rsp_slot = regs + core::mem::offset_of!(GuestRegisters, rsp) as u64;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // Addresses relative to the next instruction. Both ends are in the CPU's block, which is small.
    let relative =
        |to: u64, next: u64| i32::try_from(to.wrapping_sub(stub + next).cast_signed()).expect("in the block");
    put(&[0x48, 0x89, 0x25]); // mov [rip + disp32], rsp
    put(&relative(rsp_slot, 7).to_le_bytes());
    put(&[0x48, 0x8d, 0x25]); // lea rsp, [rip + disp32]
    put(&relative(regs - STACK_GAP as u64, 14).to_le_bytes());
    put(&[0xff, 0x25, 0, 0, 0, 0]); // jmp [rip]
    put(&target.to_le_bytes());
}
