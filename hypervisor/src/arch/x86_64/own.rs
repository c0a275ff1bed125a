//! What of the machine's ports and device frames is the hypervisor's own, and no domain's.

use core::ops::{Range, RangeInclusive};

use alloc::vec::Vec;

use super::acpi::{AcpiFacts, PowerFacts};
use super::console::COM1;
use super::debug_exit_port;
use crate::addr::MachineAddr;

/// The PC's own devices: interrupt controllers and their edge/level control, timer, NMI control and speaker gate, CMOS with the NMI
/// mask, system control (reset, A20), serial console.
const PC: [RangeInclusive<u16>; 9] = [
    0x20..=0x21,
    0xa0..=0xa1,
    0x4d0..=0x4d1,
    0x40..=0x43,
    0x61..=0x61,
    0x70..=0x71,
    0x92..=0x92,
    COM1..=COM1 + 7,
    // Reset control; dwords at 0xcf8 are PCI's.
    0xcf9..=0xcf9,
];

/// Where messages go that are interrupts, with the local APICs' registers: SDM volume 3, 11.11.1.
const MESSAGES: Range<u64> = 0xfee00..0xfef00;

/// The ports.
pub fn ports(facts: &AcpiFacts) -> Vec<RangeInclusive<u16>> {
    let PowerFacts { pm1a_control, pm1b_control, acpi_enable, reset, .. } = facts.power;
    let register = |port: u16, bytes: u16| port..=port.saturating_add(bytes - 1);
    let timer = facts.pm_timer.map(|timer| register(timer.port, 4));
    let controls = [pm1a_control, pm1b_control].into_iter().flatten().map(|port| register(port, 2));
    let single = [acpi_enable.map(|(port, _)| port), reset];
    let exit = debug_exit_port().map(|port| register(port, 4));
    let found =
        timer.into_iter().chain(controls).chain(exit).chain(single.into_iter().flatten().map(|port| port..=port));
    PC.into_iter().chain(found).collect()
}

/// The frames.
pub fn frames(facts: &AcpiFacts) -> Vec<Range<u64>> {
    let page = |address: MachineAddr| address.frame().0..address.frame().0 + 1;
    let io_apics = facts.io_apics.iter().map(|io_apic| io_apic.address);
    let registers = io_apics.chain(facts.hpet).chain([facts.local_apic]).map(page);
    core::iter::once(MESSAGES).chain(registers).collect()
}

/// The frame number after the last that the CPU can name. SDM volume 3, 4.1.4.
pub fn end_of_frames() -> u64 {
    const LEAF: u32 = 0x8000_0008;
    let bits = if super::cpuid(0x8000_0000, 0)[0] >= LEAF { super::cpuid(LEAF, 0)[0] & 0xff } else { 36 };
    1 << bits.clamp(36, 52).saturating_sub(12)
}
