//! Addresses of memory operands against an independent computation.

use super::*;
use crate::emulate::Gpr;
use iced_x86::{Decoder, DecoderOptions, Register};

/// The address of operand 0 by the other decoder.
pub fn oracle(guest: &Guest, code: &[u8]) -> u64 {
    let iced = Decoder::with_ip(64, code, guest.regs.rip, DecoderOptions::NONE).decode();
    let [fs, gs, _] = guest.machine.bases;
    iced.virtual_address(0, 0, |register, _, _| {
        Some(match register {
            Register::FS => fs,
            Register::GS => gs,
            Register::ES | Register::CS | Register::SS | Register::DS => 0,
            _ => {
                let number = u8::try_from(register.full_register().number()).unwrap();
                let value = Gpr::from_number(number).read(&guest.regs);
                if register.is_gpr32() { value & 0xffff_ffff } else { value }
            }
        })
    })
    .unwrap()
}

pub fn guest(code: &[u8], values: [u64; 16], bases: [u64; 3]) -> Guest {
    let mut guest = Guest::storing(code);
    for (number, value) in (0..).zip(values) {
        *Gpr::from_number(number).of(&mut guest.regs) = value;
    }
    guest.machine.bases = bases;
    guest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Bytes, because they are aligned wherever they are.
    #[test]
    fn the_operands_address_agrees_with_the_oracle(
        prefixes in prop::collection::vec(prop::sample::select(std::vec![0x64u8, 0x65, 0x2e, 0x67]), 0..3),
        rex in 0x40u8..0x50,
        opcode in prop::sample::select(std::vec![0x88u8, 0x86, 0xc6, 0x80, 0xa2, 0xaa]),
        modrm in 0u8..0xc0,
        tail: [u8; 12],
        values: [u64; 16],
        bases: [u64; 3],
        other: u64,
    ) {
        // The forms with an immediate have 0 there.
        let modrm = if matches!(opcode, 0xc6 | 0x80) { modrm & 0xc7 } else { modrm };
        let code = [&prefixes[..], &[rex, opcode, modrm], &tail].concat();
        let mut stored = guest(&code, values, bases);
        let address = oracle(&stored, &code);
        prop_assert_eq!(stored.store(address, &mut Entry::new(OLD, &[])), Some(Outcome::Resume));
        if other != address {
            guest(&code, values, bases).faults(other);
        }
    }

    /// BTS by a register: the bit may be anywhere. The model looks for it in single bits.
    #[test]
    fn a_bit_is_found_by_its_number(number: i64, prefix in prop::sample::select(std::vec![0x66u8, 0x40, 0x48])) {
        let (number, bits) = match prefix {
            0x66 => (number << 48 >> 48, 16),
            0x40 => (number << 32 >> 32, 32),
            _ => (number, 64),
        };
        // bts %rcx,(%rdi)
        let mut guest = Guest::storing(&[prefix, 0x0f, 0xab, 0x0f]);
        guest.regs.rcx = number.cast_unsigned();
        let bit = i128::from(ENTRY) * 8 + i128::from(number);
        let operand = (bit - bit.rem_euclid(bits)) / 8;
        let mut entry = Entry::new(0, &[]);
        let address = u64::try_from(operand.rem_euclid(1 << 64)).unwrap();
        prop_assert_eq!(guest.store(address, &mut entry), Some(Outcome::Resume));
        prop_assert_eq!(i128::from(entry.value.trailing_zeros()), bit.rem_euclid(64));
    }
}
