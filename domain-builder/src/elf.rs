//! The ELF container: bounds-checked segments and note areas out of untrusted bytes. Knows nothing about Xen.

use elf::ElfBytes;
use elf::abi::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAGIC, EM_X86_64, ET_DYN, ET_EXEC, PT_LOAD, PT_NOTE, SHT_NOTE,
};
use elf::endian::LittleEndian;

use super::Refusal;

/// A 64-bit little-endian x86-64 executable whose header and tables lie inside the file.
pub(super) struct Elf<'a> {
    bytes: &'a [u8],
    file: ElfBytes<'a, LittleEndian>,
}

/// One `PT_LOAD` program header with its bytes.
pub(super) struct Load<'a> {
    /// `p_paddr`. The virtual address is of no use: Linux's percpu segment has 0 there.
    pub paddr: u64,
    /// `p_memsz`: size in memory; what `data` lacks is zero.
    pub memory_len: u64,
    /// The bytes in the file, at most `memory_len`.
    pub data: &'a [u8],
}

/// The contents of a note segment or section.
pub(super) struct NoteArea<'a> {
    pub bytes: &'a [u8],
    /// What note names and descriptors are padded to: 4, or 8 if the area itself is 8-aligned.
    pub align: usize,
}

impl<'a> Elf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Elf<'a>, Refusal> {
        if !bytes.starts_with(&ELFMAGIC) {
            return Err(Refusal::NotElf);
        }
        // Asked before the rest is read: the header of another class is laid out in another way.
        if bytes.get(EI_CLASS) != Some(&ELFCLASS64) {
            return Err(Refusal::Not64Bit);
        }
        if bytes.get(EI_DATA) != Some(&ELFDATA2LSB) {
            return Err(Refusal::NotLittleEndian);
        }
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| Refusal::BrokenElf)?;
        if file.ehdr.e_machine != EM_X86_64 {
            return Err(Refusal::Machine(file.ehdr.e_machine));
        }
        if !matches!(file.ehdr.e_type, ET_EXEC | ET_DYN) {
            return Err(Refusal::FileType(file.ehdr.e_type));
        }
        Ok(Elf { bytes, file })
    }

    /// The header's entry address, for kernels without an entry note.
    pub fn entry(&self) -> u64 {
        self.file.ehdr.e_entry
    }

    /// The loadable segments that take memory, in file order.
    pub fn loads(&self) -> impl Iterator<Item = Result<Load<'a>, Refusal>> {
        let headers = self.file.segments().into_iter().flatten();
        headers.filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0).map(|header| {
            if header.p_filesz > header.p_memsz {
                return Err(Refusal::SegmentTooLong { paddr: header.p_paddr });
            }
            let data = self.slice(header.p_offset, header.p_filesz)?;
            Ok(Load { paddr: header.p_paddr, memory_len: header.p_memsz, data })
        })
    }

    /// The note segments.
    pub fn note_segments(&self) -> impl Iterator<Item = Result<NoteArea<'a>, Refusal>> {
        let headers = self.file.segments().into_iter().flatten();
        headers
            .filter(|header| header.p_type == PT_NOTE)
            .map(|header| self.note_area(header.p_offset, header.p_filesz, header.p_align))
    }

    /// The note sections, where kernels without a note segment keep their notes.
    pub fn note_sections(&self) -> impl Iterator<Item = Result<NoteArea<'a>, Refusal>> {
        let headers = self.file.section_headers().into_iter().flatten();
        headers
            .filter(|header| header.sh_type == SHT_NOTE)
            .map(|header| self.note_area(header.sh_offset, header.sh_size, header.sh_addralign))
    }

    fn note_area(&self, offset: u64, len: u64, align: u64) -> Result<NoteArea<'a>, Refusal> {
        Ok(NoteArea { bytes: self.slice(offset, len)?, align: if align == 8 { 8 } else { 4 } })
    }

    fn slice(&self, offset: u64, len: u64) -> Result<&'a [u8], Refusal> {
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            self.bytes.get(start..end)
        };
        range().ok_or(Refusal::OutsideFile { offset, len })
    }
}
