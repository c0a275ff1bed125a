//! The hypervisor's symbol table for its backtraces, made from its ELF file.

use anyhow::{Context, Result};
use boot_archive::encode_symbols;
use elf::{ElfBytes, abi, endian::LittleEndian};

/// Makes the table: the functions' offsets from the image's lowest address (the lowest `p_vaddr` of a `PT_LOAD`
/// segment), and their names as written in the source, without the hash.
///
/// # Errors
/// When `elf` is no ELF file, or one without symbols or loadable segments.
pub fn table(elf: &[u8]) -> Result<Vec<u8>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(elf)?;
    let segments = file.segments().context("no segments")?;
    let loaded = segments.iter().filter(|segment| segment.p_type == abi::PT_LOAD);
    let base = loaded.map(|segment| segment.p_vaddr).min().context("no loadable segment")?;

    let (symbols, names) = file.symbol_table()?.context("no symbol table")?;
    let functions = symbols.iter().filter(|symbol| symbol.st_symtype() == abi::STT_FUNC).filter_map(|symbol| {
        let offset = u32::try_from(symbol.st_value.checked_sub(base)?).ok()?;
        let name = names.get(usize::try_from(symbol.st_name).ok()?).ok()?;
        Some((offset, u32::try_from(symbol.st_size).ok()?, format!("{:#}", rustc_demangle::demangle(name))))
    });
    let functions: Vec<_> = functions.collect();
    Ok(encode_symbols(functions.iter().map(|(offset, len, name)| (*offset, *len, name.as_str())))?)
}
