//! The value that means "power off" to the machine's power-management register.
//!
//! It is in the `_S5_` object of the DSDT, in AML byte code (ACPI 6.4, 20.2). A whole AML interpreter for two small
//! integers would be the largest part of the hypervisor; the object is a constant package on every machine, so a scan
//! for its name and a decoder of constant packages do.

/// The SLP_TYP values of a sleep state, for the PM1a and the PM1b control register; 3 bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SleepType {
    /// For PM1a_CNT.
    pub a: u8,
    /// For PM1b_CNT, where the machine has one.
    pub b: u8,
}

const NAME_OP: u8 = 0x08;
const PACKAGE_OP: u8 = 0x12;
const ROOT: u8 = b'\\';

/// Finds `_S5_` in the AML of a DSDT (the table without its header).
pub fn find_s5(aml: &[u8]) -> Option<SleepType> {
    let name = b"_S5_";
    let mut from = 0;
    while let Some(at) = aml.get(from..)?.windows(name.len()).position(|window| window == name) {
        let at = from + at;
        if is_named(aml.get(..at)?)
            && let Some(found) = sleep_type(aml.get(at + name.len()..)?)
        {
            return Some(found);
        }
        from = at + name.len();
    }
    None
}

/// Does the byte code end with the opcode that gives a name, perhaps with a root prefix on the name?
fn is_named(before: &[u8]) -> bool {
    matches!(before, [.., NAME_OP] | [.., NAME_OP, ROOT])
}

/// Decodes a package whose first two elements are integer constants.
fn sleep_type(aml: &[u8]) -> Option<SleepType> {
    let (&PACKAGE_OP, rest) = aml.split_first()? else { return None };
    // PkgLength: the top two bits of its first byte say how many bytes follow.
    let (&length, _) = rest.split_first()?;
    let rest = rest.get(1 + usize::from(length >> 6)..)?;
    let (&elements, rest) = rest.split_first()?;
    let (a, rest) = integer(rest)?;
    let b = if elements > 1 { integer(rest)?.0 } else { 0 };
    Some(SleepType { a, b })
}

/// An integer constant that fits the 3-bit field.
fn integer(aml: &[u8]) -> Option<(u8, &[u8])> {
    let (value, rest) = match aml {
        [value @ (0 | 1), rest @ ..] => (u64::from(*value), rest),
        [0x0a, value, rest @ ..] => (u64::from(*value), rest),
        [0x0b, low, high, rest @ ..] => (u64::from(u16::from_le_bytes([*low, *high])), rest),
        [0x0c, a, b, c, d, rest @ ..] => (u64::from(u32::from_le_bytes([*a, *b, *c, *d])), rest),
        _ => return None,
    };
    u8::try_from(value).ok().filter(|value| *value < 8).map(|value| (value, rest))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_package_in_the_forms_compilers_emit() {
        // QEMU pc: four elements, byte prefix and zero ops.
        let qemu = b"\x10\x20\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00";
        assert_eq!(find_s5(qemu), Some(SleepType { a: 5, b: 0 }));
        let rooted = b"\x08\\_S5_\x12\x08\x04\x0a\x07\x0a\x07\x00\x00";
        assert_eq!(find_s5(rooted), Some(SleepType { a: 7, b: 7 }));
        let long_length = b"\x08_S5_\x12\x49\x00\x02\x01\x0b\x06\x00";
        assert_eq!(find_s5(long_length), Some(SleepType { a: 1, b: 6 }));
        let one_element = b"\x08_S5_\x12\x03\x01\x00";
        assert_eq!(find_s5(one_element), Some(SleepType { a: 0, b: 0 }));
    }

    #[test]
    fn passes_over_uses_of_the_name_and_refuses_what_is_no_constant() {
        let used_first = b"\x70_S5_\x60\x08_S5_\x12\x06\x04\x0a\x03\x0a\x04\x00";
        assert_eq!(find_s5(used_first), Some(SleepType { a: 3, b: 4 }));
        assert_eq!(find_s5(b"\x08_S5_\x12\x06\x04\x0a\x09\x00"), None, "does not fit 3 bits");
        assert_eq!(find_s5(b"\x08_S5_\x12\x06\x04FOO_"), None);
        assert_eq!(find_s5(b""), None);
    }

    proptest! {
        #[test]
        fn never_panics(mut aml in prop::collection::vec(any::<u8>(), 0..64), at in 0usize..64) {
            let object = b"\x08_S5_\x12";
            let at = at.min(aml.len());
            aml.splice(at..at, *object);
            let _ = find_s5(&aml);
            let _: Vec<_> = (0..aml.len()).map(|end| find_s5(&aml[..end])).collect();
        }
    }
}
