//! Is a file a guest kernel that Pavise can try to start? Only what a person gets wrong: the hypervisor checks it all.

use elf::{ElfBytes, abi, endian::LittleEndian, file::Class};
use std::{fs, path::Path};

/// Offset and value of the mark of a Linux bzImage (`Documentation/arch/x86/boot.rst`, field `header`).
const BZIMAGE_MARK: (usize, &[u8]) = (0x202, b"HdrS");

/// Checks the file; an answer other than `Ok` says what it is instead of a 64-bit x86-64 ELF file.
///
/// # Errors
/// A sentence without its subject, such as "is not an ELF file".
pub fn check(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    })?;
    check_bytes(&bytes).map_err(|problem| format!("{} {problem}", path.display()))
}

fn check_bytes(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.get(BZIMAGE_MARK.0..).is_some_and(|rest| rest.starts_with(BZIMAGE_MARK.1)) {
        return Err("is a Linux bzImage, which is not unpacked yet; name the vmlinux ELF file inside it");
    }
    if bytes.get(abi::EI_CLASS) == Some(&abi::ELFCLASS32) && bytes.starts_with(&abi::ELFMAGIC) {
        return Err("is a 32-bit ELF file");
    }
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|_| "is not an ELF file")?;
    if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != abi::EM_X86_64 {
        return Err("is an ELF file for another kind of CPU");
    }
    if file.segments().is_none_or(|segments| segments.is_empty()) {
        return Err("is an ELF file with nothing to load, perhaps an object file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files_are_told_apart() {
        let mut bzimage = vec![0; 0x300];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        assert!(check_bytes(&bzimage).unwrap_err().contains("bzImage"));
        assert_eq!(check_bytes(b"hello"), Err("is not an ELF file"));
        assert_eq!(check_bytes(b""), Err("is not an ELF file"));
        assert_eq!(check_bytes(b"\x7fELF\x01\x01\x01"), Err("is a 32-bit ELF file"));
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(check_bytes(&this), Ok(()));
        let mut foreign = this;
        foreign[18] = 183;
        assert_eq!(check_bytes(&foreign), Err("is an ELF file for another kind of CPU"));
    }

    #[test]
    fn a_missing_file_is_named() {
        assert_eq!(check(Path::new("/no/such")), Err("/no/such does not exist".to_owned()));
    }
}
