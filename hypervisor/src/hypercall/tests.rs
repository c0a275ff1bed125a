//! Every call against a fake machine: what it does, and what bad input gets.

use super::*;
use crate::addr::{DomainId, VcpuId, is_canonical};
use crate::domain::shared::VcpuInfo;
use crate::domain::vcpu::{Callbacks, Control, Gate, Mode};
use crate::domain::{Crash, ShutdownReason};
use crate::emulate::SegmentBase;
use crate::guest::{GuestCopy, check_span};
use proptest::prelude::*;
use pv_abi::version::{XENVER_EXTRAVERSION, XENVER_GET_FEATURES};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// Guest memory: 64 KiB from this address on; anything else faults.
const BASE: u64 = 0x10_0000;

struct Fake {
    memory: Vec<u8>,
    shared: &'static SharedInfo,
    now: u64,
    printed: Vec<u8>,
    keys: Vec<u8>,
    bases: Vec<(SegmentBase, u64)>,
    /// Guest copies until all of them fail, to see that a failure at any point is survived.
    copies_left: Option<u32>,
}

impl Fake {
    fn new() -> Fake {
        let shared: &'static SharedInfo = Box::leak(SharedInfo::zeroed());
        Fake {
            memory: vec![0; 0x1_0000],
            shared,
            now: 1000,
            printed: vec![],
            keys: vec![],
            bases: vec![],
            copies_left: None,
        }
    }

    fn range(&mut self, at: u64, len: usize) -> Result<core::ops::Range<usize>, Fault> {
        check_span(at, len)?;
        if let Some(left) = &mut self.copies_left {
            *left = left.checked_sub(1).ok_or(Fault(at))?;
        }
        let start = usize::try_from(at.checked_sub(BASE).ok_or(Fault(at))?).unwrap();
        let end = start.checked_add(len).filter(|&end| end <= self.memory.len()).ok_or(Fault(at))?;
        Ok(start..end)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.write_bytes(at, bytes).unwrap();
    }

    fn put_words(&mut self, at: u64, words: &[u64]) {
        for (index, word) in words.iter().enumerate() {
            self.put(at + 8 * index as u64, &word.to_le_bytes());
        }
    }

    fn word(&mut self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read_bytes(at, &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }
}

impl GuestCopy for Fake {
    fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let range = self.range(from, buf.len())?;
        buf.copy_from_slice(&self.memory[range]);
        Ok(())
    }

    fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
        let range = self.range(to, bytes.len())?;
        self.memory[range].copy_from_slice(bytes);
        Ok(())
    }
}

impl GuestSpace for Fake {
    fn switch_mode(&mut self, _: &Vcpu, _: Mode) {}
}

impl Platform for Fake {
    fn now(&mut self) -> u64 {
        self.now
    }

    fn domain(&self) -> DomainView<'_> {
        DomainView { vcpus: 2, online: 1, pages: 100, max_pages: 200, handle: [7; 16], shared: self.shared }
    }

    fn domain_exists(&self, id: DomainId) -> bool {
        id.0 <= 2
    }

    fn max_mfn(&self) -> Mfn {
        Mfn(0x8000)
    }

    fn console_write(&mut self, bytes: &[u8]) {
        self.printed.extend_from_slice(bytes);
    }

    fn console_read(&mut self, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.keys.len());
        buf[..count].copy_from_slice(&self.keys.drain(..count).collect::<Vec<_>>());
        count
    }

    fn set_segment_base(&mut self, which: SegmentBase, base: u64) {
        assert!(is_canonical(base));
        self.bases.push((which, base));
    }

    fn load_inactive_gs(&mut self, selector: u16) {
        self.bases.push((SegmentBase::GsInactive, selector.into()));
    }

    fn set_task_switched(&mut self, _: bool) {}
}

fn vcpu() -> Vcpu {
    let info = Box::leak(Box::new(VcpuInfo::default()));
    Vcpu::new(DomainId(1), VcpuId(0), GuestRegisters::default(), info)
}

/// Makes a call and all its restarts, which must leave the registers alone that are no argument of it.
fn call(vcpu: &mut Vcpu, fake: &mut Fake, number: u32, args: &[u64]) -> (Next, i64) {
    const OTHERS: [u64; 6] = [0x5a5a; 6];
    let mut words = OTHERS;
    words[..args.len()].copy_from_slice(args);
    let [rdi, rsi, rdx, r10, r8, r9] = words;
    let mut regs = GuestRegisters { rax: number.into(), rip: 0x1002, rdi, rsi, rdx, r10, r8, r9, ..Default::default() };
    for _ in 0..100_000 {
        let next = dispatch(vcpu, &mut regs, fake);
        let words = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        assert_eq!(words[args.len()..], OTHERS[args.len()..], "registers that are no argument");
        if regs.rip == 0x1002 {
            return (next, regs.rax.cast_signed());
        }
        assert_eq!((regs.rip, regs.rax), (0x1000, number.into()), "a restart runs the same instruction again");
        regs.rip = 0x1002;
    }
    panic!("restarts without end");
}

fn result(fake: &mut Fake, number: u32, args: &[u64]) -> i64 {
    let (next, value) = call(&mut vcpu(), fake, number, args);
    assert_eq!(next, Next::Resume(Return::RcxR11Free));
    value
}

const EFAULT: i64 = Errno::EFAULT.code();
const EINVAL: i64 = Errno::EINVAL.code();
const ENOSYS: i64 = Errno::ENOSYS.code();

#[test]
fn numbers_nobody_serves_are_enosys() {
    let fake = &mut Fake::new();
    for bad in [11, 35, 36, 55, 64, 0x7fff_ffff, u32::MAX] {
        assert_eq!(result(fake, bad, &[0; 6]), ENOSYS);
    }
    let mut regs = GuestRegisters { rax: 1 << 32 | u64::from(number::XEN_VERSION), ..Default::default() };
    let _ = dispatch(&mut vcpu(), &mut regs, fake);
    assert_eq!(regs.rax.cast_signed(), ENOSYS, "the upper half of the number counts");
}

#[test]
fn version_strings_fill_their_buffers() {
    let fake = &mut Fake::new();
    fake.memory.fill(0xff);
    assert_eq!(result(fake, number::XEN_VERSION, &[0]), 4 << 16 | 17);
    assert_eq!(result(fake, number::XEN_VERSION, &[u64::from(XENVER_EXTRAVERSION), BASE]), 0);
    assert_eq!(fake.memory[15], 0);
    assert_eq!(fake.memory[16], 0xff);
    assert_eq!(result(fake, number::XEN_VERSION, &[u64::from(XENVER_EXTRAVERSION), BASE - 1]), EFAULT);
    fake.put_words(BASE, &[0]);
    assert_eq!(result(fake, number::XEN_VERSION, &[u64::from(XENVER_GET_FEATURES), BASE]), 0);
    fake.put_words(BASE + 64, &[1]);
    assert_eq!(result(fake, number::XEN_VERSION, &[u64::from(XENVER_GET_FEATURES), BASE + 64]), EINVAL);
    let features = fake.word(BASE) >> 32;
    assert_eq!(features & (1 << 5 | 1 << 7), 1 << 5 | 1 << 7, "Linux panics without these");
    assert_eq!(features & (1 | 1 << 2 | 1 << 3 | 1 << 11), 0);
}

#[test]
fn console_writes_arrive_whole_and_in_order() {
    let fake = &mut Fake::new();
    let text: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
    fake.put(BASE, &text);
    assert_eq!(result(fake, number::CONSOLE_IO, &[0, 5000, BASE]), 0);
    assert_eq!(fake.printed, text);
    assert_eq!(result(fake, number::CONSOLE_IO, &[0, 1 << 31, BASE]), EINVAL);
    assert_eq!(result(fake, number::CONSOLE_IO, &[0, 0x7fff_ffff, BASE]), EFAULT);
    assert_eq!(result(fake, number::CONSOLE_IO, &[2, 0, BASE]), ENOSYS);
    fake.keys = b"ab".to_vec();
    assert_eq!(result(fake, number::CONSOLE_IO, &[1, 9, BASE]), 2);
    assert_eq!(&fake.memory[..2], b"ab");
}

#[test]
fn trap_tables_of_any_length() {
    let fake = &mut Fake::new();
    let vcpu = &mut vcpu();
    for n in 0..300_u64 {
        // vector n % 256, flags 7: DPL 3, masks events
        fake.put_words(BASE + 16 * n, &[(n % 256) | 7 << 8, 0x5000 + n]);
    }
    assert_eq!(call(vcpu, fake, number::SET_TRAP_TABLE, &[BASE]).1, 0);
    assert_eq!(vcpu.gates[255], Gate { address: 0x5000 + 255, dpl: 3, masks_events: true });
    assert_eq!(vcpu.gates[0].address, 0x5000 + 256, "a later entry wins");
    fake.put_words(BASE, &[3, 1 << 47]);
    assert_eq!(call(vcpu, fake, number::SET_TRAP_TABLE, &[BASE]).1, EINVAL);
    assert_eq!(call(vcpu, fake, number::SET_TRAP_TABLE, &[0]).1, 0);
    assert!(vcpu.gates.iter().all(|gate| *gate == Gate::default()));
    for at in (BASE..BASE + 0x1_0000).step_by(16) {
        fake.put_words(at, &[3, 0x5000]);
    }
    assert_eq!(call(vcpu, fake, number::SET_TRAP_TABLE, &[BASE]).1, EFAULT, "a table without an end");
}

#[test]
fn segment_bases_are_canonical() {
    let fake = &mut Fake::new();
    assert_eq!(result(fake, number::SET_SEGMENT_BASE, &[0, 0x7fff_ffff_ffff]), 0);
    assert_eq!(result(fake, number::SET_SEGMENT_BASE, &[2, 1 << 47]), EINVAL);
    assert_eq!(result(fake, number::SET_SEGMENT_BASE, &[3, u64::MAX]), 0, "a selector never fails");
    assert_eq!(result(fake, number::SET_SEGMENT_BASE, &[4, 0]), EINVAL);
    assert_eq!(fake.bases, [(SegmentBase::Fs, 0x7fff_ffff_ffff), (SegmentBase::GsInactive, 0xffff)]);
}

#[test]
fn shutdown_reasons() {
    let fake = &mut Fake::new();
    for (code, reason) in [(0, ShutdownReason::Poweroff), (1, ShutdownReason::Reboot), (3, ShutdownReason::Crash)] {
        fake.put_words(BASE, &[code]);
        let (next, _) = call(&mut vcpu(), fake, number::SCHED_OP, &[2, BASE]);
        assert_eq!(next, Next::End(End::Shutdown(reason)));
    }
    fake.put_words(BASE, &[6]);
    assert_eq!(result(fake, number::SCHED_OP, &[2, BASE]), EINVAL);
    assert_eq!(result(fake, number::SCHED_OP, &[2, 0]), EFAULT);
}

#[test]
fn polls_that_need_not_wait_do_not() {
    let fake = &mut Fake::new();
    let poll = |fake: &mut Fake, ports: u64, count: u64, timeout: u64| {
        fake.put_words(BASE, &[ports, count, timeout]);
        call(&mut vcpu(), fake, number::SCHED_OP, &[3, BASE])
    };
    assert_eq!(poll(fake, 0, 0, 999), (Next::Resume(Return::RcxR11Free), 0), "the time has come");
    assert_eq!(poll(fake, 0, 0, 1001), (Next::Poll { until: Some(1001) }, 0));
    assert_eq!(poll(fake, 0, 0, 0), (Next::Poll { until: None }, 0));
    assert_eq!(poll(fake, 0, 129, 0).1, EINVAL);
    assert_eq!(poll(fake, u64::MAX - 3, 2, 0).1, EFAULT);
    fake.put_words(BASE + 64, &[4096]);
    assert_eq!(poll(fake, BASE + 64, 1, 0).1, EINVAL);
}

#[test]
fn blocking_unmasks() {
    let (vcpu, fake) = (&mut vcpu(), &mut Fake::new());
    vcpu.info.set_upcall_mask(true);
    assert_eq!(call(vcpu, fake, number::SCHED_OP, &[1, 0]).0, Next::Block);
    assert_eq!(vcpu.info.upcall_mask(), 0);
}

#[test]
fn memory_queries_are_about_oneself() {
    let fake = &mut Fake::new();
    fake.put_words(BASE, &[0x7ff0]);
    assert_eq!(result(fake, number::MEMORY_OP, &[3, BASE]), 100);
    assert_eq!(result(fake, number::MEMORY_OP, &[4, BASE]), 200);
    assert_eq!(result(fake, number::MEMORY_OP, &[2, 0]), 0x8000);
    fake.put_words(BASE, &[2]);
    assert_eq!(result(fake, number::MEMORY_OP, &[3, BASE]), Errno::EPERM.code());
    fake.put_words(BASE, &[3]);
    assert_eq!(result(fake, number::MEMORY_OP, &[3, BASE]), Errno::ESRCH.code());
    fake.put_words(BASE, &[8, BASE + 64]);
    assert_eq!(result(fake, number::MEMORY_OP, &[9, BASE]), 0);
    assert_eq!((fake.word(BASE + 64), fake.word(BASE + 72)), (0, 200 << 12));
    fake.put_words(BASE, &[0, BASE + 64]);
    assert_eq!(result(fake, number::MEMORY_OP, &[9, BASE]), EINVAL);
}

#[test]
fn vcpus_are_counted_up_to_enoent() {
    let fake = &mut Fake::new();
    assert_eq!(result(fake, number::VCPU_OP, &[3, 0, 0]), 1);
    assert_eq!(result(fake, number::VCPU_OP, &[3, 1, 0]), 0);
    assert_eq!(result(fake, number::VCPU_OP, &[3, 2, 0]), Errno::ENOENT.code());
    assert_eq!(result(fake, number::VCPU_OP, &[3, u64::from(u32::MAX), 0]), Errno::ENOENT.code());
}

#[test]
fn multicall_gives_each_its_result() {
    let (vcpu, fake) = (&mut vcpu(), &mut Fake::new());
    let entry = |op: u32, args: [u64; 2]| [u64::from(op), 0xdead, args[0], args[1], 0, 0, 0, 0];
    let list = [
        entry(number::XEN_VERSION, [0, 0]),
        entry(99, [0, 0]),
        entry(number::MULTICALL, [0, 0]),
        entry(number::IRET, [0, 0]),
        entry(number::STACK_SWITCH, [0, 0x9000]),
    ];
    fake.put_words(BASE, list.as_flattened());
    assert_eq!(call(vcpu, fake, number::MULTICALL, &[BASE, 5]), (Next::Resume(Return::RcxR11Free), 0));
    let results: Vec<i64> = (0..5).map(|n| fake.word(BASE + 64 * n + 8).cast_signed()).collect();
    assert_eq!(results, [4 << 16 | 17, ENOSYS, EINVAL, ENOSYS, 0]);
    assert_eq!(vcpu.kernel_sp, 0x9000);
}

#[test]
fn multicall_carries_out_a_long_list_once_each() {
    let (vcpu, fake) = (&mut vcpu(), &mut Fake::new());
    for n in 0..500 {
        fake.put_words(BASE + 64 * n, &[number::CONSOLE_IO.into(), 9, 0, 1, BASE + 0xf000 + n, 0, 0, 0]);
        fake.put(BASE + 0xf000 + n, &n.to_le_bytes()[..1]);
    }
    assert_eq!(call(vcpu, fake, number::MULTICALL, &[BASE, 500]).1, 0);
    assert_eq!(fake.printed, (0..500_u64).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    assert_eq!(call(vcpu, fake, number::MULTICALL, &[BASE, u64::from(u32::MAX)]).1, EFAULT);
}

#[test]
fn a_shutdown_in_a_multicall_ends_the_domain() {
    let (vcpu, fake) = (&mut vcpu(), &mut Fake::new());
    fake.put_words(BASE, &[number::SCHED_OP.into(), 0, 2, BASE + 512, 0, 0, 0, 0]);
    let (next, _) = call(vcpu, fake, number::MULTICALL, &[BASE, 2]);
    assert_eq!(next, Next::End(End::Shutdown(ShutdownReason::Poweroff)));
}

#[test]
fn a_bad_iret_frame_is_the_end() {
    let (next, _) = call(&mut vcpu(), &mut Fake::new(), number::IRET, &[]);
    assert!(matches!(next, Next::End(End::Crash(Crash::BadIretFrame { .. }))));
}

proptest! {
    // Any call with any arguments, some of them pointers to random memory, any copy failing: no panic, no endless
    // restart, kernel mode kept.
    #[test]
    fn nothing_a_guest_says_hurts(
        number in 0..60_u32,
        args in proptest::array::uniform6(prop_oneof![
            0..40_u64,
            BASE..BASE + 0x1_0000,
            any::<u64>(),
            Just(BASE + 0xfff8),
            Just(0x7fff_ffff_fff8),
        ]),
        memory in proptest::collection::vec(any::<u8>(), 512),
        copies_left in proptest::option::of(0..40_u32),
    ) {
        let (vcpu, fake) = (&mut vcpu(), &mut Fake::new());
        for chunk in fake.memory.chunks_mut(512) {
            chunk.copy_from_slice(&memory);
        }
        fake.copies_left = copies_left;
        let _ = call(vcpu, fake, number, &args);
        prop_assert_eq!(vcpu.mode, Mode::Kernel);
    }
}
