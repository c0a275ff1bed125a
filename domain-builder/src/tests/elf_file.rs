//! Writes ELF files with chosen segments and notes.

use alloc::vec;
use alloc::vec::Vec;

use pv_abi::elfnote::*;

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;

/// A `PT_LOAD` segment. The virtual address is always written as 0: nothing may depend on it.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    pub paddr: u64,
    pub memory_len: u64,
    pub data: Vec<u8>,
}

/// An ELF file to be written.
#[derive(Clone, Debug)]
pub struct ElfFile {
    pub entry: u64,
    pub loads: Vec<LoadSpec>,
    /// Type and descriptor of notes with owner "Xen".
    pub notes: Vec<(u32, Vec<u8>)>,
    /// Put the notes into a section and not into a segment.
    pub notes_in_section: bool,
}

impl ElfFile {
    /// A kernel of one page at 1 MiB that is acceptable and asks for nothing special.
    pub fn plain() -> ElfFile {
        let load = LoadSpec { paddr: 0x10_0000, memory_len: 4096, data: vec![0xc3; 16] };
        let mut file = ElfFile { entry: 0x10_0000, loads: vec![load], notes: vec![], notes_in_section: false };
        file.text(XEN_ELFNOTE_XEN_VERSION, "xen-3.0").text(XEN_ELFNOTE_LOADER, "generic");
        file
    }

    /// Adds a note, or replaces the one of this type.
    pub fn note(&mut self, kind: u32, descriptor: &[u8]) -> &mut ElfFile {
        self.without(kind).notes.push((kind, descriptor.to_vec()));
        self
    }

    pub fn without(&mut self, kind: u32) -> &mut ElfFile {
        self.notes.retain(|(k, _)| *k != kind);
        self
    }

    pub fn number(&mut self, kind: u32, value: u64) -> &mut ElfFile {
        self.note(kind, &value.to_le_bytes())
    }

    pub fn text(&mut self, kind: u32, value: &str) -> &mut ElfFile {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.note(kind, &bytes)
    }

    /// The file's bytes: header, program headers, section headers, notes, segments.
    pub fn bytes(&self) -> Vec<u8> {
        let (segments, sections) = if self.notes_in_section { (0, 1) } else { (1, 0) };
        let phnum = self.loads.len() + segments;
        let shoff = EHDR + phnum * PHDR;
        let note_offset = shoff + sections * SHDR;
        let notes = self.note_bytes();

        let mut file = self.header(phnum, if sections == 0 { 0 } else { shoff }, sections);
        if segments == 1 {
            file.extend(program_header(4, note_offset, 0, notes.len(), notes.len()));
        }
        let mut offset = note_offset + notes.len();
        for load in &self.loads {
            let memory_len = usize::try_from(load.memory_len).unwrap();
            file.extend(program_header(1, offset, load.paddr, load.data.len(), memory_len));
            offset += load.data.len();
        }
        if sections == 1 {
            let words: [u64; 8] = [7 << 32, 0, 0, note_offset as u64, notes.len() as u64, 0, 4, 0];
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        file.extend(notes);
        file.extend(self.loads.iter().flat_map(|load| &load.data));
        file
    }

    fn header(&self, phnum: usize, shoff: usize, shnum: usize) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(16, 0);
        header.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [self.entry, EHDR as u64, shoff as u64] {
            header.extend(word.to_le_bytes());
        }
        header.extend([0; 4]);
        for half in [EHDR, PHDR, phnum, SHDR, shnum, 0] {
            header.extend(u16::try_from(half).unwrap().to_le_bytes());
        }
        header
    }

    fn note_bytes(&self) -> Vec<u8> {
        // One of another owner first, as linkers put their build id.
        let mut bytes = raw_note(b"GNU\0", 3, &[0xaa; 20]);
        for (kind, descriptor) in &self.notes {
            bytes.extend(raw_note(b"Xen\0", *kind, descriptor));
        }
        bytes
    }
}

fn raw_note(owner: &[u8; 4], kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut note = 4u32.to_le_bytes().to_vec();
    note.extend(u32::try_from(descriptor.len()).unwrap().to_le_bytes());
    note.extend(kind.to_le_bytes());
    note.extend(owner);
    note.extend(descriptor);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn program_header(kind: u32, offset: usize, paddr: u64, file_len: usize, memory_len: usize) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(7u32.to_le_bytes());
    for word in [offset as u64, 0, paddr, file_len as u64, memory_len as u64, 4] {
        header.extend(word.to_le_bytes());
    }
    header
}
