//! A kernel's ELF file, as far as a builder of PV domains needs it. Format: the ELF specification, and `elfnote.h` for the
//! notes that are named "Xen".

use alloc::vec::Vec;
use pv_abi::elfnote::{XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_HYPERCALL_PAGE, XEN_ELFNOTE_VIRT_BASE};

/// Program headers of these types are looked at.
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Machine: x86-64.
const EM_X86_64: u16 = 62;
/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Not a 64-bit x86-64 ELF file.
    NotElf,
    /// It ends before what it says is in it.
    Short,
    /// It has no note ENTRY or VIRT_BASE, or no segment.
    NoKernel,
    /// A segment or address is where no kernel can have it.
    Misplaced,
}

/// A part of the file that belongs in memory; zeros follow it up to the next page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// Where it goes, from the domain's first byte on.
    pub start: u64,
    /// Its length in memory.
    pub length: u64,
    /// Its bytes in the file, no more than that.
    pub bytes: &'a [u8],
}

/// A kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image<'a> {
    /// Its segments.
    pub segments: Vec<Segment<'a>>,
    /// The address of the domain's first byte.
    pub base: u64,
    /// Where it starts.
    pub entry: u64,
    /// The address of the page that wants hypercall stubs, if there is one.
    pub hypercall_page: Option<u64>,
}

impl<'a> Image<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// What is [`Wrong`].
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, Wrong> {
        // Class 64, little-endian.
        if !file.starts_with(b"\x7fELF\x02\x01") || half(file, 18)? != EM_X86_64 {
            return Err(Wrong::NotElf);
        }
        let table = index(word(file, 32)?)?;
        let mut image = Image { segments: Vec::new(), base: 0, entry: 0, hypercall_page: None };
        for number in 0..usize::from(half(file, 56)?) {
            let header = part(file, table.saturating_add(number * PROGRAM_HEADER), PROGRAM_HEADER)?;
            let bytes = part(file, index(word(header, 8)?)?, index(word(header, 32)?)?)?;
            match quarter(header, 0)? {
                PT_LOAD => {
                    let (start, length) = (word(header, 24)?, word(header, 40)?);
                    if length < bytes.len() as u64 || start.checked_add(length).is_none_or(|end| end >> 47 != 0) {
                        return Err(Wrong::Misplaced);
                    }
                    image.segments.push(Segment { start, length, bytes });
                }
                PT_NOTE => image.read_notes(bytes)?,
                _ => {}
            }
        }
        if image.segments.is_empty() || image.base == 0 || image.entry == 0 { Err(Wrong::NoKernel) } else { Ok(image) }
    }

    /// One past the last byte of all segments, from the domain's first on.
    pub fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.start + segment.length).max().unwrap_or(0)
    }

    fn read_notes(&mut self, mut notes: &[u8]) -> Result<(), Wrong> {
        while !notes.is_empty() {
            let (name, value) = (quarter(notes, 0)? as usize, quarter(notes, 4)? as usize);
            let kind = quarter(notes, 8)?;
            let contents = part(notes, 12, name)?;
            let at = 12 + name.next_multiple_of(4);
            let bytes = part(notes, at, value)?;
            if contents == b"Xen\0" && value == 8 {
                let number = word(bytes, 0)?;
                match kind {
                    XEN_ELFNOTE_ENTRY => self.entry = number,
                    XEN_ELFNOTE_VIRT_BASE => self.base = number,
                    XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(number),
                    _ => {}
                }
            }
            notes = notes.get(at + value.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn index(number: u64) -> Result<usize, Wrong> {
    usize::try_from(number).map_err(|_| Wrong::Short)
}

fn part(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Wrong> {
    bytes.get(at..).and_then(|bytes| bytes.get(..length)).ok_or(Wrong::Short)
}

fn half(bytes: &[u8], at: usize) -> Result<u16, Wrong> {
    Ok(u16::from_le_bytes(part(bytes, at, 2)?.try_into().map_err(|_| Wrong::Short)?))
}

fn quarter(bytes: &[u8], at: usize) -> Result<u32, Wrong> {
    Ok(u32::from_le_bytes(part(bytes, at, 4)?.try_into().map_err(|_| Wrong::Short)?))
}

fn word(bytes: &[u8], at: usize) -> Result<u64, Wrong> {
    Ok(u64::from_le_bytes(part(bytes, at, 8)?.try_into().map_err(|_| Wrong::Short)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    /// A file with one segment of `bytes` and the notes that are asked for.
    fn file(bytes: &[u8], notes: &[(u32, u64)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, value) in notes {
            for word in [4, 8, *kind] {
                list.extend_from_slice(&word.to_le_bytes());
            }
            list.extend_from_slice(b"Xen\0");
            list.extend_from_slice(&value.to_le_bytes());
        }
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[56..58].copy_from_slice(&2_u16.to_le_bytes());
        let data = 64 + 2 * PROGRAM_HEADER as u64;
        let headers = [
            (PT_LOAD, data, 0x10_0000, bytes.len() as u64, 0x2000),
            (PT_NOTE, data + bytes.len() as u64, 0, list.len() as u64, 0),
        ];
        for (kind, offset, place, length, memory) in headers {
            let mut header = [0; PROGRAM_HEADER];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            for (at, value) in [(8, offset), (24, place), (32, length), (40, memory)] {
                header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
            }
            file.extend_from_slice(&header);
        }
        file.extend_from_slice(bytes);
        file.extend_from_slice(&list);
        file
    }

    const NOTES: [(u32, u64); 3] = [
        (XEN_ELFNOTE_ENTRY, 0xffff_ffff_8010_0000),
        (XEN_ELFNOTE_VIRT_BASE, 0xffff_ffff_8000_0000),
        (XEN_ELFNOTE_HYPERCALL_PAGE, 0xffff_ffff_8010_1000),
    ];

    #[test]
    fn a_kernel_is_read() {
        let file = file(b"code", &NOTES);
        let image = Image::parse(&file).unwrap();
        assert_eq!((image.entry, image.base), (0xffff_ffff_8010_0000, 0xffff_ffff_8000_0000));
        assert_eq!(image.hypercall_page, Some(0xffff_ffff_8010_1000));
        assert_eq!(image.segments, [Segment { start: 0x10_0000, length: 0x2000, bytes: b"code" }]);
        assert_eq!(image.end(), 0x10_2000);
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(Image::parse(b""), Err(Wrong::NotElf));
        assert_eq!(Image::parse(&file(b"code", &NOTES[1..])), Err(Wrong::NoKernel));
        assert_eq!(Image::parse(&file(&[0; 0x2001], &NOTES)), Err(Wrong::Misplaced));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(cut in 0_usize..400, at in 0_usize..400, byte: u8) {
            let mut file = file(b"code", &NOTES);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            file.truncate(cut);
            let _ = Image::parse(&file);
        }
    }
}
