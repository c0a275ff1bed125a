//! A page table with one entry, and a guest kernel that stores to it.

mod addresses;
mod decode;
mod native;

use super::*;
use crate::emulate::table_store::common::common_store;
use crate::emulate::table_store::{NotChanged, TableEntry, may_be_table_store, store_to_table};
use proptest::prelude::*;
use std::collections::VecDeque;

const WRITE_TO_PRESENT: u32 = 7;
/// Read-only for the guest.
const TABLE: u64 = 0x60_0000;
const ENTRY: u64 = TABLE + 0x238;
const OLD: u64 = 0x8000_0000_1234_5067;

struct Entry {
    value: u64,
    /// What happens to the next values; after that they are stored.
    failures: VecDeque<Failure>,
    /// How often a value was asked for.
    asked: usize,
    stored: Vec<u64>,
}

/// What happens between the look at an entry and the store.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Changed(u64),
    NotStored(NotChanged),
}

const REFUSED: Failure = Failure::NotStored(NotChanged::Refused);

impl Entry {
    fn new(value: u64, failures: &[Failure]) -> Entry {
        Entry { value, failures: failures.iter().copied().collect(), asked: 0, stored: Vec::new() }
    }
}

impl TableEntry for Entry {
    fn change(&mut self, mut make: impl FnMut(u64) -> Option<u64>) -> Result<(), NotChanged> {
        loop {
            self.asked += 1;
            let Some(new) = make(self.value) else { return Ok(()) };
            match self.failures.pop_front() {
                Some(Failure::Changed(now)) => self.value = now,
                Some(Failure::NotStored(why)) => return Err(why),
                None => {
                    self.value = new;
                    self.stored.push(new);
                    return Ok(());
                }
            }
        }
    }
}

impl Guest {
    /// A kernel whose RDI holds the entry's address.
    fn storing(code: &[u8]) -> Guest {
        let mut guest = Guest::kernel(code);
        guest.regs.error_code = WRITE_TO_PRESENT;
        guest.regs.rdi = ENTRY;
        guest
    }

    /// As the hypervisor does it: the short way first.
    fn store(&mut self, fault_address: u64, entry: &mut impl TableEntry) -> Option<Outcome> {
        if may_be_table_store(&self.vcpu, &self.regs) && self.common_store(fault_address, entry) {
            return Some(Outcome::Resume);
        }
        self.any_store(fault_address, entry)
    }

    /// True if the instruction was decoded before, and is a common one.
    fn common_store(&mut self, fault_address: u64, entry: &mut impl TableEntry) -> bool {
        common_store(&self.vcpu.stores, &mut self.regs, &mut self.machine, fault_address, entry)
    }

    fn any_store(&mut self, fault_address: u64, entry: &mut impl TableEntry) -> Option<Outcome> {
        store_to_table(&mut self.vcpu, &mut self.regs, &mut self.machine, fault_address, entry)
    }

    /// Expects that the guest gets its page fault.
    #[track_caller]
    fn faults(&mut self, fault_address: u64) {
        let before = self.regs;
        let mut entry = Entry::new(OLD, &[]);
        assert_eq!(self.store(fault_address, &mut entry), None);
        assert_eq!(self.regs, before);
        assert_eq!(entry.asked, 0);
    }
}

/// One instruction, which succeeds: the entry's new value, and the guest behind the instruction.
#[track_caller]
fn stores(code: &[u8], registers: impl FnOnce(&mut GuestRegisters)) -> (u64, GuestRegisters) {
    let mut guest = Guest::storing(code);
    registers(&mut guest.regs);
    let mut entry = Entry::new(OLD, &[]);
    assert_eq!(guest.store(ENTRY, &mut entry), Some(Outcome::Resume));
    assert_eq!(entry.stored, [entry.value]);
    assert_eq!(guest.regs.rip, CODE + code.len() as u64);
    assert_eq!(guest.regs.rflags & RFLAGS_RF, 0);
    (entry.value, guest.regs)
}

const XCHG: [u8; 3] = [0x48, 0x87, 0x07];
const LOCK_CMPXCHG: [u8; 5] = [0xf0, 0x48, 0x0f, 0xb1, 0x17];
const LOCK_ADD_8: [u8; 5] = [0xf0, 0x48, 0x83, 0x07, 0x08];
const REP_STOSQ: [u8; 3] = [0xf3, 0x48, 0xab];
const MOVSQ: [u8; 2] = [0x48, 0xa5];

#[test]
fn what_linux_does() {
    // ptep_get_and_clear.
    let (value, regs) = stores(&XCHG, |regs| regs.rax = 0);
    assert_eq!((value, regs.rax), (0, OLD));
    // ptep_set_wrprotect of 6.1: lock andb $0xfd,(%rdi).
    assert_eq!(stores(&[0xf0, 0x80, 0x27, 0xfd], |_| ()).0, OLD & !2);
    // And of 6.12.
    let new = OLD & !2;
    assert_eq!(stores(&LOCK_CMPXCHG, |regs| (regs.rax, regs.rdx) = (OLD, new)).0, new);
    // set_pte.
    assert_eq!(stores(&[0x48, 0x89, 0x07], |regs| regs.rax = 5).0, 5);
    // lock btrq $5,(%rdi).
    let (value, regs) = stores(&[0xf0, 0x48, 0x0f, 0xba, 0x37, 5], |_| ());
    assert_eq!((value, regs.rflags & 1), (OLD & !0x20, 1));
}

#[test]
fn a_part_of_the_entry_leaves_the_rest_alone() {
    // mov %al,5(%rdi), and its fault address.
    let mut guest = Guest::storing(&[0x88, 0x47, 5]);
    guest.regs.rax = 0x1ab;
    let mut entry = Entry::new(OLD, &[]);
    assert_eq!(guest.store(ENTRY + 5, &mut entry), Some(Outcome::Resume));
    assert_eq!(entry.value, 0x8000_ab00_1234_5067);
}

#[test]
fn a_comparison_that_fails_stores_nothing() {
    let mut guest = Guest::storing(&LOCK_CMPXCHG);
    let mut entry = Entry::new(OLD, &[REFUSED]);
    assert_eq!(guest.store(ENTRY, &mut entry), Some(Outcome::Resume));
    assert_eq!((entry.failures.len(), guest.regs.rax, guest.regs.rip), (1, OLD, CODE + 5));
}

#[test]
fn an_entry_that_changed_is_computed_anew() {
    let mut guest = Guest::storing(&LOCK_ADD_8);
    let mut entry = Entry::new(OLD, &[Failure::Changed(0x10), Failure::Changed(u64::MAX - 7)]);
    assert_eq!(guest.store(ENTRY, &mut entry), Some(Outcome::Resume));
    assert_eq!(entry.stored, [0]);
    // CF, PF, AF and ZF of the last one.
    assert_eq!(guest.regs.rflags & 0x8d5, 0x55);
}

#[test]
fn a_refusal_is_the_guests_page_fault() {
    for failures in [&[REFUSED][..], &[Failure::Changed(3), REFUSED]] {
        let mut guest = Guest::storing(&XCHG);
        let before = guest.regs;
        assert_eq!(guest.store(ENTRY, &mut Entry::new(OLD, failures)), None);
        assert_eq!(guest.regs, before);
    }
}

#[test]
fn the_guest_tries_again_when_the_table_is_busy() {
    let mut guest = Guest::storing(&XCHG);
    // Nothing was executed, so there is no step to report.
    guest.regs.rflags |= RFLAGS_TF;
    let before = guest.regs;
    let mut entry = Entry::new(OLD, &[Failure::NotStored(NotChanged::Again)]);
    assert_eq!(guest.store(ENTRY, &mut entry), Some(Outcome::Resume));
    assert_eq!(guest.regs, before);
    assert_eq!((entry.asked, entry.stored.len()), (1, 0));
}

#[test]
fn other_faults_are_left_to_the_guest() {
    // Users, reads, writes to what is not mapped, instruction fetches, reserved bits.
    let mut guest = Guest::storing(&XCHG);
    guest.vcpu.mode = Mode::User;
    assert!(!may_be_table_store(&guest.vcpu, &guest.regs));
    guest.faults(ENTRY);
    for error_code in [0, 1, 2, 3, 4, 5, 6, 0xf, 0x15, 0x17] {
        let mut guest = Guest::storing(&XCHG);
        guest.regs.error_code = error_code;
        assert!(!may_be_table_store(&guest.vcpu, &guest.regs));
        guest.faults(ENTRY);
    }
    let mut guest = Guest::storing(&XCHG);
    assert!(may_be_table_store(&guest.vcpu, &guest.regs));
    guest.regs.cs = 0xe023;
    guest.faults(ENTRY);
}

#[test]
fn other_instructions_are_left_to_the_guest() {
    // A load, a comparison, registers alone, MOV with LOCK, an SSE store, PUSH.
    let others: [&[u8]; 6] = [
        &[0x48, 0x8b, 0x07],
        &[0x48, 0x39, 0x07],
        &[0x48, 0x87, 0xc7],
        &[0xf0, 0x89, 0x07],
        &[0x0f, 0x11, 0x07],
        &[0x57],
    ];
    for code in others {
        Guest::storing(code).faults(ENTRY);
    }
    let mut guest = Guest::storing(&XCHG);
    guest.machine.pages.clear();
    guest.faults(ENTRY);
    // RIP would leave the guest's addresses.
    let mut guest = Guest::at(0x7fff_ffff_fffd, &XCHG);
    (guest.regs.error_code, guest.regs.rdi) = (WRITE_TO_PRESENT, ENTRY);
    guest.faults(ENTRY);
}

#[test]
fn the_operand_is_what_faulted() {
    for address in [ENTRY - 8, ENTRY + 1, ENTRY + 8, 0, u64::MAX] {
        Guest::storing(&XCHG).faults(address);
    }
}

#[test]
fn operands_that_are_not_aligned_are_left_to_the_guest() {
    for (code, offset) in [(&XCHG[..], 1), (&XCHG, 4), (&[0x87, 0x07], 2), (&[0x66, 0x87, 0x07], 3)] {
        let mut guest = Guest::storing(code);
        guest.regs.rdi = ENTRY + offset;
        guest.faults(ENTRY + offset);
    }
}

#[test]
fn a_repeated_store_makes_one_step_for_each_fault() {
    let mut guest = Guest::storing(&REP_STOSQ);
    (guest.regs.rax, guest.regs.rcx) = (0, 2);
    for step in 0..2 {
        assert_eq!(guest.regs.rip, CODE);
        let mut entry = Entry::new(OLD, &[]);
        assert_eq!(guest.store(ENTRY + 8 * step, &mut entry), Some(Outcome::Resume));
        assert_eq!((entry.value, guest.regs.rcx, guest.regs.rdi), (0, 1 - step, ENTRY + 8 * (step + 1)));
    }
    assert_eq!(guest.regs.rip, CODE + 3);
    // With a count of 0 it stores nothing, so what faulted was another instruction.
    let mut guest = Guest::storing(&REP_STOSQ);
    guest.faults(ENTRY);
}

#[test]
fn each_step_is_reported_to_a_single_stepper() {
    let mut guest = Guest::storing(&REP_STOSQ);
    guest.regs.rcx = 2;
    guest.regs.rflags |= RFLAGS_TF;
    assert_eq!(guest.store(ENTRY, &mut Entry::new(OLD, &[])), Some(Outcome::Raise(Exception::new(1))));
    assert_eq!((guest.regs.rip, guest.vcpu.control.debug[6]), (CODE, 0xffff_4ff0));
}

#[test]
fn movs_reads_its_source_once_with_the_guests_rights() {
    let mut guest = Guest::storing(&MOVSQ);
    guest.machine.bytes.extend((DATA..).zip([0x67, 0x50, 0x34]));
    guest.regs.rsi = DATA;
    let mut entry = Entry::new(OLD, &[Failure::Changed(1)]);
    assert_eq!(guest.store(ENTRY, &mut entry), Some(Outcome::Resume));
    assert_eq!((entry.value, guest.regs.rsi), (0x34_5067, DATA + 8));
    let mut guest = Guest::storing(&MOVSQ);
    guest.regs.rsi = crate::addr::HYPERVISOR_START;
    guest.faults(ENTRY);
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop_oneof![any::<u64>().prop_map(Failure::Changed), Just(REFUSED), Just(Failure::NotStored(NotChanged::Again))]
}

/// Stores, an instruction that is none, and the same bytes with a prefix before them.
const CODES: [&[u8]; 8] = [
    &XCHG,
    &LOCK_CMPXCHG,
    &LOCK_ADD_8,
    &REP_STOSQ,
    &[0x87, 0x07, 0x48],
    &[0x48, 0x8b, 0x07],
    &[0xf0, 0x80, 0x27, 0xfd],
    &[0xf0, 0x80, 0x27, 0xfb],
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A vCPU that stored from there before does what another one does.
    #[test]
    fn code_that_was_rewritten_is_decoded_anew(
        codes in prop::collection::vec((prop::sample::select(&CODES[..]), 0u64..12), 1..30),
        noise: [u64; 4],
    ) {
        let mut guest = Guest::storing(&[]);
        for (code, offset) in codes {
            let mut other = Guest::at(CODE + offset, code);
            let [rax, rcx, rdx, rsi] = noise;
            let rdi = ENTRY;
            other.regs = GuestRegisters { rax, rcx, rdx, rsi, rdi, error_code: WRITE_TO_PRESENT, ..other.regs };
            guest.regs = other.regs;
            guest.machine.bytes.clone_from(&other.machine.bytes);
            let [mut entry, mut others] = [(); 2].map(|()| Entry::new(OLD, &[]));
            prop_assert_eq!(guest.store(ENTRY, &mut entry), other.store(ENTRY, &mut others));
            prop_assert_eq!(guest.regs, other.regs);
            prop_assert_eq!(entry.stored, others.stored);
        }
    }
}

#[test]
fn what_linux_does_goes_the_short_way() {
    // As above, and with other registers and a displacement: xchg %r12,-8(%r13); lock andb $0xfd,0x100(%rbx).
    let codes: [&[u8]; 4] =
        [&XCHG, &[0xf0, 0x80, 0x27, 0xfd], &[0x4d, 0x87, 0x65, 0xf8], &[0xf0, 0x80, 0xa3, 0, 1, 0, 0, 0xfd]];
    for code in codes {
        let mut guest = Guest::storing(code);
        (guest.regs.r13, guest.regs.rbx) = (ENTRY + 8, ENTRY - 0x100);
        let before = guest.regs;
        assert!(!guest.common_store(ENTRY, &mut Entry::new(OLD, &[])));
        let mut entry = Entry::new(OLD, &[]);
        assert_eq!(guest.any_store(ENTRY, &mut entry), Some(Outcome::Resume));
        let after = core::mem::replace(&mut guest.regs, before);
        let mut again = Entry::new(OLD, &[]);
        assert!(guest.common_store(ENTRY, &mut again), "{code:x?}");
        assert_eq!((guest.regs, again.stored), (after, entry.stored));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Where the short way is gone at all, it leads where the other does; else it has changed nothing.
    #[test]
    fn the_short_way_leads_to_the_same_place(
        prefixes in prop::collection::vec(prop::sample::select(std::vec![0xf0u8, 0x64, 0x66, 0x67]), 0..2),
        rex in 0x40u8..0x50,
        opcode in prop::sample::select(std::vec![0x87u8, 0x86, 0x80, 0x83, 0x21, 0x89]),
        modrm in 0u8..0xc0,
        tail: [u8; 11],
        values: [u64; 16],
        offset in prop::sample::select(std::vec![0u64, 1, 4, 7, 8]),
        trap: bool,
        old: u64,
        failures in prop::collection::vec(any_failure(), 0..2),
        misses in prop::bool::weighted(0.1),
    ) {
        let code = [&prefixes[..], &[rex, opcode, modrm], &tail].concat();
        let mut guest = addresses::guest(&code, values, [0x10, 0x20, 0x30]);
        // The base is where it has to be for the entry; the index may be anywhere.
        let address = addresses::oracle(&guest, &code);
        guest.regs.rflags |= if trap { RFLAGS_TF } else { 0 };
        let fault_address = if misses { address ^ 8 } else { address }.wrapping_add(offset & 7);
        let before = guest.regs;
        let mut entry = Entry::new(old, &failures);
        let outcome = guest.any_store(fault_address, &mut entry);
        let after = core::mem::replace(&mut guest.regs, before);
        let mut other = Entry::new(old, &failures);
        if guest.common_store(fault_address, &mut other) {
            prop_assert_eq!((outcome, guest.regs, other.stored), (Some(Outcome::Resume), after, entry.stored));
        } else {
            prop_assert_eq!((guest.regs, other.stored.len()), (before, 0));
        }
    }

    /// Whatever the bytes: at most one store, all or nothing, and RIP stays a guest's.
    #[test]
    fn all_or_nothing(
        bytes: [u8; 15],
        prefixes in prop::collection::vec(
            prop::sample::select(std::vec![0x66u8, 0x67, 0xf0, 0xf2, 0xf3, 0x48, 0x41, 0x4f, 0x64]), 0..3),
        opcode in prop::sample::select(std::vec![
            std::vec![0x01u8], std::vec![0x10], std::vec![0x29], std::vec![0x80], std::vec![0x81], std::vec![0x83],
            std::vec![0x87], std::vec![0x88], std::vec![0xa3], std::vec![0xa5], std::vec![0xaa], std::vec![0xc7],
            std::vec![0xf6], std::vec![0xff], std::vec![0x0f, 0xab], std::vec![0x0f, 0xba], std::vec![0x0f, 0xb1],
            std::vec![0x0f, 0xc1], std::vec![],
        ]),
        to_rdi: bool,
        aligned: bool,
        noise: [u64; 4],
        failures in prop::collection::vec(any_failure(), 0..3),
        old: u64,
    ) {
        let mut tail = bytes;
        if to_rdi {
            tail[0] = tail[0] & 0x38 | 7;
        }
        let code = [&prefixes[..], &opcode, &tail].concat();
        let mut guest = Guest::storing(&code);
        let [rax, rcx, rdx, rsi] = noise;
        let rdi = if aligned { ENTRY } else { ENTRY + (rax & 7) };
        guest.regs = GuestRegisters { rax, rcx, rdx, rsi, rdi, ..guest.regs };
        guest.machine.bases = [0; 3];
        let before = guest.regs;
        let mut entry = Entry::new(old, &failures);
        let outcome = guest.store(rdi, &mut entry);
        prop_assert!(entry.stored.len() <= 1);
        match outcome {
            None => {
                prop_assert_eq!(guest.regs, before);
                prop_assert!(entry.stored.is_empty());
            }
            Some(outcome) => {
                prop_assert_eq!(outcome, Outcome::Resume);
                prop_assert!(guest.regs.rip >= CODE && guest.regs.rip <= CODE + 15);
                let moved = guest.regs != before;
                prop_assert!(moved || entry.stored.is_empty());
            }
        }
    }
}
