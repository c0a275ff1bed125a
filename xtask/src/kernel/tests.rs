//! Files that are and are not guest kernels.

use super::*;

/// A bzImage with this payload, behind setup code of 4 sectors.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 5 * 512 + 64];
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    file[0x248..0x24c].copy_from_slice(&64_u32.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    file.extend_from_slice(payload);
    file
}

/// What is packed in the files below.
fn text() -> Vec<u8> {
    (0..20_000_u32).flat_map(|number| (number * number).to_le_bytes()).collect()
}

/// The text through a program of the host, and its length behind it.
fn packed(program: &str, arguments: &[&str], with_length: bool) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    fs::write(&file, text()).unwrap();
    let mut command = std::process::Command::new(program);
    // A host without the program can't make the file.
    let mut packed = command.args(arguments).stdin(fs::File::open(&file).unwrap()).output().ok()?.stdout;
    if with_length {
        packed.extend_from_slice(&u32::try_from(text().len()).unwrap().to_le_bytes());
    }
    Some(packed)
}

#[track_caller]
fn unpacks(payload: Option<Vec<u8>>) {
    let Some(mut payload) = payload else { return };
    assert_eq!(payload::Payload::of(&payload).unwrap().unpack().unwrap(), text());
    // A byte in the middle is another one: either it is noticed, or the length is right nevertheless.
    let middle = payload.len() / 2;
    payload[middle] ^= 0x55;
    if let Ok(damaged) = payload::Payload::of(&payload).unwrap().unpack() {
        assert_eq!(damaged.len(), text().len());
    }
    payload.truncate(middle);
    assert!(payload::Payload::of(&payload).unwrap().unpack().is_err());
}

#[test]
fn formats_of_debians_kernels_are_unpacked() {
    unpacks(packed("gzip", &["-c"], false));
    unpacks(packed("xz", &["-c", "--check=crc32", "--x86", "--lzma2"], true));
    unpacks(packed("lz4", &["-c", "-l"], true));
    unpacks(packed("zstd", &["-c"], true));
}

#[test]
fn other_formats_are_refused_by_name() {
    let cases: [(&[u8], &str); 4] = [
        (b"BZh91AY", "compressed with bzip2"),
        (&[0x5d, 0, 0, 0x80, 0, 0, 0, 0], "compressed with LZMA"),
        (b"\x89LZO\0\r\n\x1a\n", "compressed with LZO"),
        (b"something", "compressed with an unknown format"),
    ];
    for (payload, said) in cases {
        let problem = kind(&bzimage(payload)).unwrap_err();
        assert!(problem.contains(said), "{problem}");
    }
}

#[test]
fn a_bzimage_that_is_cut_off_is_none() {
    let whole = bzimage(&[0xfd, b'7', b'z', b'X', b'Z', 0, 1, 2, 3, 4]);
    assert!(matches!(kind(&whole), Ok(Kind::BzImage(_))));
    assert!(kind(&whole[..whole.len() - 1]).unwrap_err().contains("cut off"));
    let mut old = whole;
    old[0x206] = 7;
    old[0x207] = 2;
    assert!(kind(&old).unwrap_err().contains("before 2008"));
}

#[test]
fn kinds_of_files_are_told_apart() {
    assert_eq!(kind(b"hello").unwrap_err(), "is not an ELF file");
    assert_eq!(kind(b"").unwrap_err(), "is not an ELF file");
    assert_eq!(kind(b"\x7fELF\x01\x01\x01").unwrap_err(), "is a 32-bit ELF file");
    let this = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(kind(&this), Ok(Kind::Elf));
    let mut foreign = this;
    foreign[18] = 183;
    assert_eq!(kind(&foreign).unwrap_err(), "is an ELF file for another kind of CPU");
}

#[test]
fn a_missing_file_is_named() {
    assert_eq!(check(Path::new("/no/such")), Err("/no/such does not exist".to_owned()));
}
