//! The decoder against an independent one.

use super::super::decode::{DecodeError, decode};
use super::super::{AddressSize, Gpr, Instruction, Operation, Port, Segment, Width};
use iced_x86::{Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use std::vec::Vec;

/// What the other decoder makes of the bytes, in our terms. `None`: not one of ours, or invalid.
fn oracle(bytes: &[u8]) -> Option<Instruction> {
    let iced = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    if iced.is_invalid() {
        return None;
    }
    Some(Instruction { operation: operation(&iced)?, length: u8::try_from(iced.len()).unwrap() })
}

fn operation(iced: &Iced) -> Option<Operation> {
    use Mnemonic as M;
    let repeat = iced.has_rep_prefix() || iced.has_repne_prefix();
    Some(match iced.mnemonic() {
        M::Rdmsr if iced.op_count() == 0 => Operation::Rdmsr,
        M::Wrmsr => Operation::Wrmsr,
        M::In => Operation::In { port: port(iced, 1), width: accumulator(iced.op0_register()) },
        M::Out => Operation::Out { port: port(iced, 0), width: accumulator(iced.op1_register()) },
        M::Insb | M::Insw | M::Insd => {
            let width = string_width(iced.mnemonic(), [M::Insb, M::Insw]);
            let address =
                if iced.op0_kind() == OpKind::MemoryESEDI { AddressSize::Bits32 } else { AddressSize::Bits64 };
            Operation::Ins { width, address, repeat }
        }
        M::Outsb | M::Outsw | M::Outsd if iced.op1_kind() != OpKind::Register => {
            let width = string_width(iced.mnemonic(), [M::Outsb, M::Outsw]);
            let address =
                if iced.op1_kind() == OpKind::MemorySegESI { AddressSize::Bits32 } else { AddressSize::Bits64 };
            let segment = match iced.segment_prefix() {
                Register::FS => Segment::Fs,
                Register::GS => Segment::Gs,
                _ => Segment::Flat,
            };
            Operation::Outs { width, address, repeat, segment }
        }
        M::Cli => Operation::Cli,
        M::Sti => Operation::Sti,
        M::Clts => Operation::Clts,
        M::Mov => mov(iced.op0_register(), iced.op1_register())?,
        M::Wbinvd => Operation::Wbinvd,
        M::Invd => Operation::Invd,
        M::Xsetbv => Operation::Xsetbv,
        M::Rdtsc => Operation::Rdtsc,
        M::Rdtscp => Operation::Rdtscp,
        M::Cpuid => Operation::Cpuid,
        M::Int => Operation::Int(iced.immediate8()),
        M::Int3 => Operation::Int3,
        M::Hlt => Operation::Hlt,
        M::Lmsw => Operation::Lmsw,
        M::Invlpg => Operation::Invlpg,
        M::Lgdt => Operation::Lgdt,
        M::Lidt => Operation::Lidt,
        M::Lldt => Operation::Lldt,
        M::Ltr => Operation::Ltr,
        M::Swapgs => Operation::Swapgs,
        M::Sysret | M::Sysretq => Operation::Sysret,
        M::Iret | M::Iretd | M::Iretq => Operation::Iret,
        M::Rdpmc => Operation::Rdpmc,
        M::Monitor => Operation::Monitor,
        M::Mwait => Operation::Mwait,
        M::Clac => Operation::Clac,
        M::Stac => Operation::Stac,
        _ => return None,
    })
}

fn mov(to: Register, from: Register) -> Option<Operation> {
    let number = |register: Register| u8::try_from(register.number()).unwrap();
    let gpr = |register| Gpr::from_number(number(register));
    Some(match (to, from) {
        (to, from) if from.is_cr() => Operation::MovFromCr { control: number(from), to: gpr(to) },
        (to, from) if to.is_cr() => Operation::MovToCr { control: number(to), from: gpr(from) },
        (to, from) if from.is_dr() => Operation::MovFromDr { debug: number(from), to: gpr(to) },
        (to, from) if to.is_dr() => Operation::MovToDr { debug: number(to), from: gpr(from) },
        _ => return None,
    })
}

fn port(iced: &Iced, operand: u32) -> Port {
    if iced.op_kind(operand) == OpKind::Immediate8 { Port::Immediate(iced.immediate8()) } else { Port::Dx }
}

fn accumulator(register: Register) -> Width {
    match register {
        Register::AL => Width::Byte,
        Register::AX => Width::Word,
        _ => Width::Dword,
    }
}

fn string_width(mnemonic: Mnemonic, [byte, word]: [Mnemonic; 2]) -> Width {
    match mnemonic {
        _ if mnemonic == byte => Width::Byte,
        _ if mnemonic == word => Width::Word,
        _ => Width::Dword,
    }
}

#[track_caller]
fn check(bytes: &[u8]) {
    assert_eq!(decode(bytes).ok(), oracle(bytes), "{bytes:02x?}");
}

/// All sequences of up to two of these.
fn prefix_sequences() -> Vec<Vec<u8>> {
    const PREFIXES: [u8; 13] = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x2e, 0x40, 0x41, 0x44, 0x48, 0x4f];
    let mut sequences = std::vec![Vec::new()];
    sequences.extend(PREFIXES.map(|one| std::vec![one]));
    sequences.extend(PREFIXES.iter().flat_map(|&one| PREFIXES.map(|two| std::vec![one, two])));
    sequences
}

#[test]
fn every_opcode_agrees_with_the_oracle() {
    const WITH_MODRM: [u8; 6] = [0x00, 0x01, 0x20, 0x21, 0x22, 0x23];
    let tail = [0x25, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    for prefixes in prefix_sequences() {
        for opcode in 0..=255 {
            check(&[&prefixes[..], &[opcode], &tail[..]].concat());
            let modrms = if WITH_MODRM.contains(&opcode) { 0..=255 } else { 0..=0 };
            for modrm in modrms {
                check(&[&prefixes[..], &[0x0f, opcode, modrm], &tail[..]].concat());
            }
        }
    }
}

#[test]
fn an_instruction_has_at_most_15_bytes() {
    let mut bytes = [0x66; 15];
    bytes[13..].copy_from_slice(&[0x0f, 0x32]);
    assert_eq!(decode(&bytes), Ok(Instruction { operation: Operation::Rdmsr, length: 15 }));
    let mut long = [0x66; 16];
    long[14..].copy_from_slice(&[0x0f, 0x32]);
    assert_eq!(decode(&long), Err(DecodeError::TooLong));
    assert_eq!(decode(&[0x66; 400]), Err(DecodeError::TooLong));
}

#[test]
fn bytes_that_end_early_are_told_apart() {
    for bytes in [&[][..], &[0x0f], &[0x48], &[0xcd], &[0xe5], &[0x0f, 0x22], &[0x0f, 0x01, 0x14]] {
        assert_eq!(decode(bytes), Err(DecodeError::Truncated), "{bytes:02x?}");
    }
    // INTO does not exist in 64-bit mode.
    assert_eq!(decode(&[0xce]), Err(DecodeError::Unknown));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_agree_with_the_oracle(bytes: [u8; 15]) {
        check(&bytes);
    }

    #[test]
    fn random_privileged_instructions_agree_with_the_oracle(
        prefixes in prop::collection::vec(prop::sample::select(std::vec![
            0x26u8, 0x2e, 0x36, 0x3e, 0x40, 0x43, 0x48, 0x4c, 0x4f, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3,
        ]), 0..14),
        opcode in prop::sample::select(std::vec![
            std::vec![0x0fu8, 0x00], std::vec![0x0f, 0x01], std::vec![0x0f, 0x20], std::vec![0x0f, 0x21],
            std::vec![0x0f, 0x22], std::vec![0x0f, 0x23], std::vec![0x0f, 0x30], std::vec![0x0f, 0x32],
            std::vec![0x6d], std::vec![0x6f], std::vec![0xcd], std::vec![0xe4], std::vec![0xe7], std::vec![0xed],
        ]),
        tail: [u8; 15],
    ) {
        let bytes = [prefixes, opcode, tail.to_vec()].concat();
        check(&bytes);
    }

    #[test]
    fn any_number_of_bytes_decodes_or_fails(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(instruction) = decode(&bytes) {
            prop_assert!((1..=15).contains(&instruction.length));
            prop_assert!(usize::from(instruction.length) <= bytes.len());
            // The bytes behind the instruction have no say.
            prop_assert_eq!(decode(&bytes[..usize::from(instruction.length)]), Ok(instruction));
        }
    }
}
