//! The hypervisor's symbol table: from an address in its image to a function name.
//!
//! Layout, little-endian: the number of entries (`u32`); the entries, sorted by address, each an offset from the
//! lowest address of the image (`u32`) and an offset into the names (`u32`); then the names, each ended by a zero
//! byte. An entry with an empty name says that no function starts there: it ends the one before.

use alloc::{collections::BTreeMap, vec::Vec};
use core::fmt;

/// Length of one entry in bytes.
const ENTRY_LEN: usize = 8;

/// A symbol table in place. It is read while the hypervisor panics, so nothing here allocates or panics.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    /// Offset and name of each entry. Sorted when well made; if not, answers are wrong and nothing worse.
    entries: &'a [[u8; ENTRY_LEN]],
    names: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// Finds the entries and the names.
    ///
    /// # Errors
    /// When the bytes are too few for the entries they announce.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolsError> {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(SymbolsError)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| SymbolsError)?;
        let len = count.checked_mul(ENTRY_LEN).ok_or(SymbolsError)?;
        let (entries, names) = rest.split_at_checked(len).ok_or(SymbolsError)?;
        Ok(Self { entries: entries.as_chunks().0, names })
    }

    /// The function that holds the byte at `offset` from the start of the image, and the distance from the
    /// function's first byte.
    pub fn lookup(&self, offset: u32) -> Option<(&'a str, u32)> {
        let index = self.entries.partition_point(|entry| split(entry).0 <= offset).checked_sub(1)?;
        let (start, name) = split(self.entries.get(index)?);
        let name = self.name(name)?;
        if name.is_empty() { None } else { Some((name, offset.checked_sub(start)?)) }
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let tail = self.names.get(usize::try_from(offset).ok()?..)?;
        let len = tail.iter().position(|&byte| byte == 0)?;
        core::str::from_utf8(tail.get(..len)?).ok()
    }
}

/// Address and name offset of an entry.
fn split(entry: &[u8; ENTRY_LEN]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *entry;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Makes a symbol table from functions given as offset from the start of the image, length in bytes, and name.
/// Functions may come in any order; of several at one offset the last one counts.
///
/// # Errors
/// When the table would be 4 GiB long or more.
pub fn encode_symbols<'n>(functions: impl IntoIterator<Item = (u32, u32, &'n str)>) -> Result<Vec<u8>, SymbolsError> {
    let mut at = BTreeMap::new();
    for (start, len, name) in functions {
        at.insert(start, name);
        if let Some(end) = start.checked_add(len).filter(|_| len > 0) {
            at.entry(end).or_insert("");
        }
    }
    let mut names = Vec::new();
    let mut table = u32::try_from(at.len()).map_err(|_| SymbolsError)?.to_le_bytes().to_vec();
    for (start, name) in at {
        let name_offset = u32::try_from(names.len()).map_err(|_| SymbolsError)?;
        names.extend(name.bytes().filter(|&byte| byte != 0).chain([0]));
        table.extend(start.to_le_bytes().into_iter().chain(name_offset.to_le_bytes()));
    }
    table.append(&mut names);
    Ok(table)
}

/// A symbol table that is cut short, or would be too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolsError;

impl fmt::Display for SymbolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the symbol table has a wrong length")
    }
}

impl core::error::Error for SymbolsError {}
