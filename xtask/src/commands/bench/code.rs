//! Where things are in the code of hypervisors and of the bench guest.

use anyhow::{Context, Result};
use elf::{ElfBytes, abi, endian::LittleEndian};
use std::ops::Range;

/// A stretch of code.
pub struct Code {
    /// Its address when it runs.
    pub start: u64,
    /// It.
    pub bytes: Vec<u8>,
}

impl Code {
    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes.len() as u64
    }
}

/// The executable segments of an ELF file that runs `offset` above its own addresses.
///
/// # Errors
/// When it is no ELF file with segments.
pub fn executable(file: &[u8], offset: u64) -> Result<Vec<Code>> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let segments = elf.segments().context("no segments")?;
    let executable = segments.iter().filter(|it| it.p_type == abi::PT_LOAD && it.p_flags & abi::PF_X != 0);
    executable
        .map(|segment| Ok(Code { start: segment.p_vaddr + offset, bytes: elf.segment_data(&segment)?.to_vec() }))
        .collect()
}

/// The address of a symbol.
///
/// # Errors
/// When the file has none of that name.
pub fn symbol(file: &[u8], name: &str) -> Result<u64> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
    let (symbols, names) = elf.symbol_table()?.context("no symbol table")?;
    let found = symbols
        .iter()
        .find(|symbol| usize::try_from(symbol.st_name).is_ok_and(|at| names.get(at).is_ok_and(|found| found == name)));
    Ok(found.with_context(|| format!("no symbol {name}"))?.st_value)
}

/// Instructions that real CPUs pay for dearly, by address.
///
/// Every place where such an instruction could start is listed, so some may lie within other instructions. That does
/// no harm: no instruction is ever executed from there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// Loads of CR3.
    pub cr3_loads: Vec<u64>,
    /// Flushes of the TLB by other means: `invlpg`, `invpcid`, and writes of CR4, which flush by the bit PGE.
    pub tlb_flushes: Vec<u64>,
}

impl Sites {
    /// Those in `code`.
    pub fn of(code: &[Code]) -> Sites {
        let mut sites = Sites::default();
        for Code { start, bytes } in code {
            for (address, at) in (*start..).zip(0..) {
                match bytes.get(at..) {
                    None | Some([]) => break,
                    Some(rest) => sites.add(address, rest),
                }
            }
        }
        sites
    }

    /// SDM volume 2: `mov cr, r64` is 0F 22 /r, `invlpg m` 0F 01 /7, `invpcid r64, m128` 66 0F 38 82 /r. A REX prefix
    /// may stand before 0F.
    fn add(&mut self, address: u64, bytes: &[u8]) {
        let (bytes, has_operand_prefix) = match bytes {
            [0x66, rest @ ..] => (rest, true),
            _ => (bytes, false),
        };
        let bytes = match bytes {
            [0x40..=0x4f, rest @ ..] => rest,
            _ => bytes,
        };
        match bytes {
            [0x0f, 0x22, operands, ..] if !has_operand_prefix && operands & 0x38 == 0x18 => {
                self.cr3_loads.push(address);
            }
            [0x0f, 0x22, operands, ..] if !has_operand_prefix && operands & 0x38 == 0x20 => {
                self.tlb_flushes.push(address);
            }
            [0x0f, 0x01, operands, ..] if !has_operand_prefix && operands & 0x38 == 0x38 && operands & 0xc0 != 0xc0 => {
                self.tlb_flushes.push(address);
            }
            [0x0f, 0x38, 0x82, ..] if has_operand_prefix => self.tlb_flushes.push(address),
            _ => {}
        }
    }

    /// All their addresses.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        self.cr3_loads.iter().chain(&self.tlb_flushes).map(|&address| address..address + 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(bytes: &[u8]) -> Sites {
        Sites::of(&[Code { start: 0x1000, bytes: bytes.to_vec() }])
    }

    #[test]
    fn instructions_are_found_with_and_without_prefix() {
        // nop; mov cr3, rax; mov cr3, r15; mov cr4, rcx
        let code = [0x90, 0x0f, 0x22, 0xd8, 0x41, 0x0f, 0x22, 0xdf, 0x0f, 0x22, 0xe1];
        let expected = Sites { cr3_loads: vec![0x1001, 0x1004, 0x1005], tlb_flushes: vec![0x1008] };
        assert_eq!(sites(&code), expected);
        // invlpg [rdi]; invpcid rax, [r8]
        let code = [0x0f, 0x01, 0x3f, 0x66, 0x41, 0x0f, 0x38, 0x82, 0x00];
        assert_eq!(sites(&code), Sites { cr3_loads: vec![], tlb_flushes: vec![0x1000, 0x1003] });
    }

    #[test]
    fn neighbours_in_the_opcode_map_are_left_alone() {
        // mov cr0, rax; mov rax, cr3; swapgs; lgdt [rdi]; and one cut off
        let code = [0x0f, 0x22, 0xc0, 0x0f, 0x20, 0xd8, 0x0f, 0x01, 0xf8, 0x0f, 0x01, 0x17, 0x0f, 0x22];
        assert_eq!(sites(&code), Sites::default());
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(executable(b"no", 0).is_err());
        assert!(symbol(b"no", "x").is_err());
    }
}
