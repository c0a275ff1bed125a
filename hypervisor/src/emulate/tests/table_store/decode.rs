//! The decoder of stores against an independent one.

use crate::emulate::encoding::{Base, Memory};
use crate::emulate::table_store::decode::{Action, Binary, Bit, Register, Source, Store, Unary, decode};
use crate::emulate::{AddressSize, Gpr, OperandSize, Segment};
use iced_x86::{Decoder, DecoderOptions, Instruction as Iced, Mnemonic, OpKind, Register as IcedRegister};
use proptest::prelude::*;
use std::vec::Vec;

/// What the other decoder makes of the bytes, in our terms. `None`: not one of ours, or invalid.
fn oracle(bytes: &[u8]) -> Option<Store> {
    let iced = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    if iced.is_invalid() {
        return None;
    }
    let size = match iced.memory_size().size() {
        1 => OperandSize::Byte,
        2 => OperandSize::Word,
        4 => OperandSize::Dword,
        8 => OperandSize::Qword,
        _ => return None,
    };
    let (action, to) = match iced.op0_kind() {
        OpKind::Memory => (to_memory(&iced, size)?, memory(&iced)),
        OpKind::MemoryESRDI => (string(&iced)?, pointer(Gpr::Rdi, Segment::Flat, AddressSize::Bits64)),
        OpKind::MemoryESEDI => (string(&iced)?, pointer(Gpr::Rdi, Segment::Flat, AddressSize::Bits32)),
        _ => return None,
    };
    Some(Store { action, size, to, length: u8::try_from(iced.len()).unwrap() })
}

fn to_memory(iced: &Iced, size: OperandSize) -> Option<Action> {
    use Mnemonic as M;
    let source = || match iced.op1_kind() {
        OpKind::Register => general_register(iced.op1_register()).map(Source::Register),
        _ => Some(Source::Immediate(iced.immediate(1))),
    };
    let register = || general_register(iced.op1_register());
    let binary = |operation| source().map(|source| Action::Binary(operation, source));
    let bit = |operation| source().map(|source| Action::Bit(operation, source));
    let action = match iced.mnemonic() {
        M::Mov => Action::Mov(source()?),
        M::Xchg => Action::Xchg(register()?),
        M::Cmpxchg => Action::Cmpxchg(register()?),
        M::Xadd => Action::Xadd(register()?),
        M::Add => binary(Binary::Add)?,
        M::Or => binary(Binary::Or)?,
        M::Adc => binary(Binary::Adc)?,
        M::Sbb => binary(Binary::Sbb)?,
        M::And => binary(Binary::And)?,
        M::Sub => binary(Binary::Sub)?,
        M::Xor => binary(Binary::Xor)?,
        M::Inc => Action::Unary(Unary::Inc),
        M::Dec => Action::Unary(Unary::Dec),
        M::Not => Action::Unary(Unary::Not),
        M::Neg => Action::Unary(Unary::Neg),
        M::Bts => bit(Bit::Set)?,
        M::Btr => bit(Bit::Reset)?,
        M::Btc => bit(Bit::Complement)?,
        _ => return None,
    };
    Some(clipped(action, size))
}

fn string(iced: &Iced) -> Option<Action> {
    use Mnemonic as M;
    let repeat = iced.has_rep_prefix() || iced.has_repne_prefix();
    Some(match iced.mnemonic() {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => {
            let size = if iced.op1_kind() == OpKind::MemorySegESI { AddressSize::Bits32 } else { AddressSize::Bits64 };
            Action::Movs { from: pointer(Gpr::Rsi, segment(iced), size), repeat }
        }
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => Action::Stos { repeat },
        _ => return None,
    })
}

fn memory(iced: &Iced) -> Memory {
    let (base, index) = (iced.memory_base(), iced.memory_index());
    let is_32 = |register: IcedRegister| register.is_gpr32() || register == IcedRegister::EIP;
    let no_register = base == IcedRegister::None && index == IcedRegister::None;
    let short = is_32(base) || is_32(index) || no_register && iced.memory_displ_size() == 4;
    let size = if short { AddressSize::Bits32 } else { AddressSize::Bits64 };
    let displacement = iced.memory_displacement64();
    let (base, displacement) = match base {
        IcedRegister::None => (Base::Zero, displacement),
        // It says where that is, for an instruction at address 0.
        IcedRegister::RIP | IcedRegister::EIP => (Base::NextInstruction, displacement.wrapping_sub(iced.next_ip())),
        register => (Base::Register(gpr(register)), displacement),
    };
    let shift = u8::try_from(iced.memory_index_scale().ilog2()).unwrap();
    let index = (index != IcedRegister::None).then(|| (gpr(index), shift));
    Memory { segment: segment(iced), base, index, displacement: size.clip(displacement), size }
}

fn pointer(gpr: Gpr, segment: Segment, size: AddressSize) -> Memory {
    Memory { segment, base: Base::Register(gpr), index: None, displacement: 0, size }
}

fn segment(iced: &Iced) -> Segment {
    match iced.segment_prefix() {
        IcedRegister::FS => Segment::Fs,
        IcedRegister::GS => Segment::Gs,
        _ => Segment::Flat,
    }
}

fn general_register(register: IcedRegister) -> Option<Register> {
    use IcedRegister as R;
    register
        .is_gpr()
        .then(|| Register { gpr: gpr(register), high_byte: matches!(register, R::AH | R::CH | R::DH | R::BH) })
}

fn gpr(register: IcedRegister) -> Gpr {
    Gpr::from_number(u8::try_from(register.full_register().number()).unwrap())
}

/// The two decoders extend numbers differently; what is above the size does not count.
fn clipped(action: Action, size: OperandSize) -> Action {
    let clip = |source| match source {
        Source::Immediate(value) => Source::Immediate(value & size.mask()),
        Source::Register(_) => source,
    };
    match action {
        Action::Mov(source) => Action::Mov(clip(source)),
        Action::Binary(operation, source) => Action::Binary(operation, clip(source)),
        // Not even all of the byte.
        Action::Bit(operation, Source::Immediate(value)) => {
            Action::Bit(operation, Source::Immediate(value & (size.bits() - 1)))
        }
        other => other,
    }
}

fn ours(bytes: &[u8]) -> Option<Store> {
    let store = decode(bytes).ok()?;
    let displacement = store.to.size.clip(store.to.displacement);
    Some(Store { action: clipped(store.action, store.size), to: Memory { displacement, ..store.to }, ..store })
}

#[track_caller]
fn check(bytes: &[u8]) {
    let expected = oracle(bytes).map(|store| Store { action: clipped(store.action, store.size), ..store });
    assert_eq!(ours(bytes), expected, "{bytes:02x?}");
}

const PREFIXES: [u8; 14] = [0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x2e, 0x40, 0x41, 0x42, 0x44, 0x48, 0x4f];

#[test]
fn every_opcode_agrees_with_the_oracle() {
    let mut sequences: Vec<Vec<u8>> = std::vec![Vec::new()];
    sequences.extend(PREFIXES.map(|one| std::vec![one]));
    sequences.extend(PREFIXES.iter().flat_map(|&one| PREFIXES.map(|two| std::vec![one, two])));
    let tail = [0x8d, 3, 4, 5, 0x86, 7, 8, 9, 10, 11];
    for prefixes in sequences {
        for opcode in 0..=255 {
            // Each `reg`, with memory by SIB and displacement, and with a register.
            for modrm in (0..8).flat_map(|reg| [0x84, 0xc1].map(|rm| rm | reg << 3)) {
                check(&[&prefixes[..], &[opcode, modrm], &tail[..]].concat());
                check(&[&prefixes[..], &[0x0f, opcode, modrm], &tail[..]].concat());
            }
        }
    }
}

#[test]
fn every_addressing_form_agrees_with_the_oracle() {
    for rex in (0x40..=0x4f).map(Some).chain([None]) {
        for modrm in 0..=255 {
            for sib in 0..=255 {
                let code = [0x89, modrm, sib, 0x80, 0x91, 0xa2, 0xb3, 0xc4];
                check(&rex.into_iter().chain(code).collect::<Vec<u8>>());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn random_bytes_agree_with_the_oracle(bytes: [u8; 15]) {
        check(&bytes);
    }

    #[test]
    fn random_stores_agree_with_the_oracle(
        prefixes in prop::collection::vec(prop::sample::select(PREFIXES.to_vec()), 0..14),
        opcode in prop::sample::select(std::vec![
            std::vec![0x00u8], std::vec![0x31], std::vec![0x80], std::vec![0x81], std::vec![0x83], std::vec![0x87],
            std::vec![0x89], std::vec![0xa2], std::vec![0xa3], std::vec![0xa5], std::vec![0xab], std::vec![0xc6],
            std::vec![0xc7], std::vec![0xf7], std::vec![0xff], std::vec![0x0f, 0xab], std::vec![0x0f, 0xb1],
            std::vec![0x0f, 0xba], std::vec![0x0f, 0xc1],
        ]),
        tail: [u8; 15],
    ) {
        check(&[prefixes, opcode, tail.to_vec()].concat());
    }

    #[test]
    fn any_number_of_bytes_decodes_or_fails(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        if let Ok(store) = decode(&bytes) {
            let length = usize::from(store.length);
            prop_assert!((1..=15).contains(&length) && length <= bytes.len());
            // The bytes behind the instruction have no say.
            prop_assert_eq!(decode(&bytes[..length]), Ok(store));
        }
    }
}
