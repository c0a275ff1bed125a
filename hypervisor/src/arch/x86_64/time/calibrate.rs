//! The rate of the TSC, from the CPU's own word or against a timer of known rate.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::fmt;

use x86_64::instructions::port::{Port, PortReadOnly, PortWriteOnly};

use super::tsc;
use crate::addr::MachineAddr;
use crate::arch::acpi::PmTimer;
use crate::arch::cpu_features::{self, Features};
use crate::arch::mm::direct_map;
use crate::time::{Clock, SECOND};

/// How long a measurement lasts, in nanoseconds. Long enough for some ten parts per million, short enough not to show.
const WINDOW: u64 = 4_000_000;
/// Times a counter is read to catch one read that nothing (SMM code, a hypervisor below us) held up.
const TRIES: usize = 8;
/// A counter that hasn't moved after as many reads stands still.
const PATIENCE: u32 = 2_000_000;

/// Where the rate comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// CPUID leaf 0x15: crystal clock and ratio.
    Crystal,
    /// CPUID leaf 0x4000_0010 of the hypervisor below us.
    Hypervisor,
    /// The high-precision event timer.
    Hpet,
    /// ACPI's power-management timer.
    PmTimer,
    /// The PC's interval timer.
    Pit,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Crystal => "CPUID",
            Source::Hypervisor => "the hypervisor below",
            Source::Hpet => "HPET",
            Source::PmTimer => "ACPI PM timer",
            Source::Pit => "PIT",
        })
    }
}

/// The TSC's rate in Hz, from the best source that gives a plausible one.
///
/// # Safety
/// `hpet` is the machine address of an HPET that appears in the direct map's range, as it does in the boot loader's
/// page tables.
pub unsafe fn tsc_hz(hpet: Option<MachineAddr>, pm_timer: Option<PmTimer>) -> Option<(u64, Source)> {
    let plausible = |hz: &u64| Clock::PLAUSIBLE.contains(hz);
    let from_cpu = || from_crystal().filter(plausible).map(|hz| (hz, Source::Crystal));
    let from_below = || from_hypervisor().filter(plausible).map(|hz| (hz, Source::Hypervisor));
    // SAFETY: the address is that of an HPET, mapped in the direct map's range, as the caller promises.
    let from_hpet = || unsafe { against_hpet(hpet?) }.filter(plausible).map(|hz| (hz, Source::Hpet));
    let from_pm_timer = || against_pm_timer(pm_timer?).filter(plausible).map(|hz| (hz, Source::PmTimer));
    let from_pit = || against_pit().filter(plausible).map(|hz| (hz, Source::Pit));
    from_cpu().or_else(from_below).or_else(from_hpet).or_else(from_pm_timer).or_else(from_pit)
}

/// SDM volume 2, CPUID leaf 15H: TSC / crystal = EBX / EAX, crystal in Hz in ECX. Many CPUs leave ECX 0.
fn from_crystal() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let answer = __cpuid_count(0x15, 0);
    u64::from(answer.ecx).checked_mul(answer.ebx.into())?.checked_div(answer.eax.into())
}

/// The timing leaf that VMware, KVM and others offer: TSC rate in kHz in EAX.
fn from_hypervisor() -> Option<u64> {
    if !cpu_features::get().contains(Features::HYPERVISOR) || __cpuid(0x4000_0000).eax < 0x4000_0010 {
        return None;
    }
    Some(u64::from(__cpuid(0x4000_0010).eax) * 1000)
}

/// A counter's value and the TSC's at the same moment.
#[derive(Clone, Copy)]
struct Sample {
    counter: u64,
    tsc: u64,
}

/// Reads both, keeping the try with the least time between the TSC before and after.
fn sample(read: &mut impl FnMut() -> u64) -> Sample {
    let mut best = (u64::MAX, Sample { counter: 0, tsc: 0 });
    for _ in 0..TRIES {
        let before = tsc();
        let counter = read();
        let width = tsc().wrapping_sub(before);
        if width < best.0 {
            best = (width, Sample { counter, tsc: before + width / 2 });
        }
    }
    best.1
}

/// TSC ticks per second against a counter of `hz` that wraps at `mask`, which is all ones.
fn against(hz: u64, mask: u64, mut read: impl FnMut() -> u64) -> Option<u64> {
    let window = hz.checked_mul(WINDOW)? / SECOND;
    let start = sample(&mut read);
    let mut patience = PATIENCE;
    while read().wrapping_sub(start.counter) & mask < window {
        patience = patience.checked_sub(1)?;
    }
    let end = sample(&mut read);
    let elapsed = end.counter.wrapping_sub(start.counter) & mask;
    let ticks = end.tsc.wrapping_sub(start.tsc);
    u64::try_from(u128::from(ticks) * u128::from(hz) / u128::from(elapsed)).ok()
}

/// HPET registers, IA-PC HPET specification 1.0a, 2.3.
mod hpet {
    pub const CAPABILITIES: usize = 0x00;
    pub const CONFIGURATION: usize = 0x10;
    pub const COUNTER: usize = 0xf0;
    /// Configuration: the main counter runs.
    pub const ENABLE: u64 = 1 << 0;
    /// Longest legal period, in femtoseconds.
    pub const MAX_PERIOD: u64 = 100_000_000;
}

/// # Safety
/// As for [`tsc_hz`].
unsafe fn against_hpet(address: MachineAddr) -> Option<u64> {
    let base = direct_map(address);
    // SAFETY: the caller promises an HPET there; its registers are 64 bits wide and aligned.
    let register = |offset: usize| unsafe { base.add(offset).cast::<u64>().read_volatile() };
    let capabilities = register(hpet::CAPABILITIES);
    let period = capabilities >> 32;
    if period == 0 || period > hpet::MAX_PERIOD {
        return None;
    }
    // SAFETY: as above; letting the counter run disturbs nobody.
    unsafe {
        base.add(hpet::CONFIGURATION).cast::<u64>().write_volatile(register(hpet::CONFIGURATION) | hpet::ENABLE);
    }
    // The low half is all that every HPET has; at the usual rates it wraps after 40 seconds or more.
    let mask = u64::from(u32::MAX);
    against(1_000_000_000_000_000 / period, mask, || register(hpet::COUNTER) & mask)
}

/// The power-management timer's rate. ACPI 6.4, 4.8.3.3.
const PM_TIMER_HZ: u64 = 3_579_545;

fn against_pm_timer(timer: PmTimer) -> Option<u64> {
    let mask = if timer.wide { u64::from(u32::MAX) } else { 0xff_ffff };
    let mut port = PortReadOnly::<u32>::new(timer.port);
    // SAFETY: ACPI says that this is the timer; reading it has no effect.
    against(PM_TIMER_HZ, mask, || u64::from(unsafe { port.read() }) & mask)
}

/// The interval timer's rate, and its ports.
const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Bit 0 lets channel 2 count, bit 1 connects it to the speaker.
const PIT_GATE: u16 = 0x61;

fn against_pit() -> Option<u64> {
    let (mut command, mut channel) = (PortWriteOnly::<u8>::new(PIT_COMMAND), Port::<u8>::new(PIT_CHANNEL_2));
    let mut gate = Port::<u8>::new(PIT_GATE);
    // SAFETY: channel 2 drives nothing but the speaker, which stays disconnected; nobody else uses it at boot.
    // Mode 0 counts down once from the 16-bit value, 55 ms, and then on from 0xffff.
    unsafe {
        let old = gate.read();
        gate.write((old & !0b10) | 0b01);
        command.write(0b1011_0000);
        channel.write(0xff);
        channel.write(0xff);
    }
    against(PIT_HZ, 0xffff, || {
        // SAFETY: as above. The command latches the count, whose two bytes are then read in turn.
        let count = unsafe {
            command.write(0b1000_0000);
            u16::from_le_bytes([channel.read(), channel.read()])
        };
        u64::from(!count)
    })
}

/// The rate of a counter that runs downwards, in Hz, measured by the calibrated TSC for `window` nanoseconds.
pub fn against_tsc(clock: &Clock, window: u64, mut read: impl FnMut() -> u32) -> Option<u64> {
    let mut upwards = || u64::from(!read());
    let start = sample(&mut upwards);
    super::spin_for(window);
    let end = sample(&mut upwards);
    let counted = end.counter.wrapping_sub(start.counter) & u64::from(u32::MAX);
    let ticks = end.tsc.wrapping_sub(start.tsc);
    u64::try_from(u128::from(counted) * u128::from(clock.hz()) / u128::from(ticks)).ok()
}
