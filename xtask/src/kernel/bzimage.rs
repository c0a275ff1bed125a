//! A Linux bzImage: where in it the compressed kernel is.
//!
//! Field names and offsets are those of the kernel's documentation, `Documentation/arch/x86/boot.rst`.

/// The field `header` and its value.
const MARK: (usize, &[u8]) = (0x202, b"HdrS");
const SETUP_SECTS: usize = 0x1f1;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// The first version of the protocol that tells where the payload is.
const WITH_PAYLOAD: u16 = 0x0208;
const SECTOR: usize = 512;
/// The number of sectors that 0 means.
const OLD_SETUP_SECTS: u8 = 4;

/// The compressed kernel in a bzImage; `None` if `file` is none.
///
/// # Errors
/// A sentence without its subject if there is none in it.
pub fn payload(file: &[u8]) -> Result<Option<&[u8]>, String> {
    if !file.get(MARK.0..).is_some_and(|rest| rest.starts_with(MARK.1)) {
        return Ok(None);
    }
    let cut_off = || "is a Linux bzImage that is cut off".to_owned();
    let version = file.get(VERSION..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_le_bytes(*bytes));
    if version.ok_or_else(cut_off)? < WITH_PAYLOAD {
        return Err("is a Linux bzImage from before 2008, which doesn't tell where the kernel is in it".to_owned());
    }
    let sectors = match file.get(SETUP_SECTS) {
        Some(0) | None => OLD_SETUP_SECTS,
        Some(&sectors) => sectors,
    };
    let (offset, length) = (word(file, PAYLOAD_OFFSET), word(file, PAYLOAD_LENGTH));
    // The setup code follows the boot sector; offsets count from the protected-mode code behind it.
    let start = offset.map(|offset| (usize::from(sectors) + 1) * SECTOR + offset);
    let payload = start.zip(length).and_then(|(start, length)| file.get(start..)?.get(..length));
    payload.map(Some).ok_or_else(cut_off)
}

fn word(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
