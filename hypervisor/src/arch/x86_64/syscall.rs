//! The `syscall` and `sysenter` doors: MSRs, and the two small stubs per CPU that find the CPU's stack.
//!
//! `syscall` changes neither RSP nor GS. Because the guest owns GS, each CPU gets stubs of its own with the address of
//! its stack as a constant, in an executable page of its block.

use x86_64::registers::model_specific::Msr;

use super::descriptors::HYPERVISOR_CS;
use super::entry;
use super::mm::frame_bytes;
use super::percpu::{self, CpuTop, SYSCALL_STUB_PAGE};
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
    let ss_slot = regs + core::mem::offset_of!(GuestRegisters, ss) as u64;
    // SAFETY: the caller says that the frame backs this CPU's stub page, which nothing executes yet.
    let page = unsafe { frame_bytes(stub_frame) };
    write_stub(&mut page[..STUB32_OFFSET], ss_slot, entry::syscall as *const () as u64);
    write_stub(&mut page[STUB32_OFFSET..2 * STUB32_OFFSET], ss_slot, entry::syscall32 as *const () as u64);
    let stub = block + (SYSCALL_STUB_PAGE * PAGE_SIZE) as u64;
    // SYSRET loads CS with +16 and SS with +8 of this base: 0xe033 and 0xe02b (SDM volume 2, SYSRET).
    let star = u64::from(pv_abi::trap::FLAT_RING3_CS32) << 48 | u64::from(HYPERVISOR_CS) << 32;
    for (msr, value) in [
        (STAR, star),
        (LSTAR, stub),
        (CSTAR, stub + STUB32_OFFSET as u64),
        (SFMASK, FLAG_MASK),
        (SYSENTER_CS, u64::from(HYPERVISOR_CS)),
        (SYSENTER_ESP, ss_slot + 8),
        (SYSENTER_EIP, entry::sysenter as *const () as u64),
    ] {
        // SAFETY: the values are entry points and selectors of ours, as the MSRs' definitions ask.
        unsafe { Msr::new(msr).write(value) };
    }
}

/// `mov [slot], rax; mov rax, rsp; mov rsp, slot; jmp target`, with absolute addresses.
fn write_stub(out: &mut [u8], ss_slot: u64, target: u64) {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&[0x48, 0xa3]); // mov [moffs64], rax
    put(&ss_slot.to_le_bytes());
    put(&[0x48, 0x89, 0xe0]); // mov rax, rsp
    put(&[0x48, 0xbc]); // mov rsp, imm64
    put(&ss_slot.to_le_bytes());
    put(&[0xff, 0x25, 0, 0, 0, 0]); // jmp [rip]
    put(&target.to_le_bytes());
}
