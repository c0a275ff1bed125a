//! From an address in the hypervisor to its source, by the debug information and the symbols of the ELF file.

use crate::paths;
use addr2line::{
    Context as DebugInfo,
    gimli::{Dwarf, EndianSlice, LittleEndian, SectionId},
};
use anyhow::{Context, Result};
use elf::{ElfBytes, abi, endian::LittleEndian as ElfLittleEndian};
use std::{collections::BTreeMap, path::Path};

/// The source of an ELF file's code.
pub struct Source<'a> {
    debug_info: DebugInfo<EndianSlice<'a, LittleEndian>>,
    symbols: BTreeMap<u64, String>,
}

/// A function that an instruction belongs to: the one it was written in, or one that this was inlined into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// File and line: of the instruction, or of the call that was inlined. Files of the repository are named from its
    /// top.
    pub place: Option<(String, u32)>,
}

impl Frame {
    /// Is it from the hypervisor, rather than from the standard library or another crate?
    pub fn is_ours(&self) -> bool {
        // `pavise::f`, `<pavise::T>::f`, but not `<core::cell::Cell<pavise::T>>::f`.
        let name = self.function.trim_start_matches(['<', '&']);
        ["pavise::", "pv_abi::"].iter().any(|crate_name| name.starts_with(crate_name))
    }
}

impl<'a> Source<'a> {
    /// Reads it from the contents of an ELF file.
    ///
    /// # Errors
    /// When the file can't be read as one.
    pub fn of(file: &'a [u8]) -> Result<Source<'a>> {
        let elf = ElfBytes::<ElfLittleEndian>::minimal_parse(file)?;
        let section = |id: SectionId| -> Result<_> {
            let data = match elf.section_header_by_name(id.name())? {
                Some(header) => elf.section_data(&header)?.0,
                None => &[],
            };
            Ok(EndianSlice::new(data, LittleEndian))
        };
        let debug_info = DebugInfo::from_dwarf(Dwarf::load(section)?)?;
        let (table, names) = elf.symbol_table()?.context("no symbol table")?;
        let code = table.iter().filter(|symbol| matches!(symbol.st_symtype(), abi::STT_FUNC | abi::STT_NOTYPE));
        let symbols = code.filter_map(|symbol| {
            let name = names.get(usize::try_from(symbol.st_name).ok()?).ok()?;
            Some((symbol.st_value, format!("{:#}", rustc_demangle::demangle(name))))
        });
        Ok(Source { debug_info, symbols: symbols.collect() })
    }

    /// The functions that the instruction at `address` belongs to, innermost first; at least one.
    ///
    /// # Errors
    /// When the debug information is damaged.
    pub fn frames(&self, address: u64) -> Result<Vec<Frame>> {
        let mut found = self.debug_info.find_frames(address).skip_all_loads()?;
        let mut frames = Vec::new();
        while let Some(frame) = found.next()? {
            let Some(function) = frame.function else { continue };
            let place = frame.location.and_then(|location| Some((shown(location.file?), location.line?)));
            frames.push(Frame { function: function.demangle()?.into_owned(), place });
        }
        if frames.is_empty() {
            // Assembly has no debug information.
            let symbol = self.symbols.range(..=address).next_back();
            let function = symbol.map_or_else(|| format!("{address:#x}"), |(_, name)| name.clone());
            frames.push(Frame { function, place: None });
        }
        Ok(frames)
    }
}

fn shown(file: &str) -> String {
    paths::shown(Path::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, fs};

    #[inline(never)]
    fn here() -> u64 {
        here as *const () as u64
    }

    #[test]
    fn the_test_program_finds_itself() {
        let file = fs::read(env::current_exe().unwrap()).unwrap();
        let source = Source::of(&file).unwrap();
        let (address, _) = source.symbols.iter().find(|(_, name)| name.ends_with("source::tests::here")).unwrap();
        let frames = source.frames(*address).unwrap();
        let outermost = frames.last().unwrap();
        assert!(outermost.function.ends_with("here"), "{frames:?}");
        assert_eq!(outermost.place.as_ref().unwrap().0, "xtask/src/commands/bench/source.rs");
        assert_ne!(here(), 0);
    }

    #[test]
    fn ours_is_told_by_its_name() {
        let is_ours = |function: &str| Frame { function: function.to_owned(), place: None }.is_ours();
        assert!(is_ours("pavise::system::machine"));
        assert!(is_ours("<pavise::mm::Mmu as core::fmt::Debug>::fmt"));
        assert!(!is_ours("<core::cell::Cell<pavise::mm::Mmu>>::get"));
        assert!(!is_ours("memcpy"));
    }

    #[test]
    fn code_without_debug_information_has_its_symbol() {
        let file = fs::read(env::current_exe().unwrap()).unwrap();
        let mut source = Source::of(&file).unwrap();
        source.symbols.insert(0xffff_f000_0000_0010, "stub".to_owned());
        assert_eq!(source.frames(0xffff_f000_0000_0012).unwrap(), [Frame { function: "stub".to_owned(), place: None }]);
        source.symbols.clear();
        assert_eq!(source.frames(0xffff_f000_0000_0012).unwrap()[0].function, "0xfffff00000000012");
    }
}
