//! Unpacking the kernel in a bzImage.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Cursor, Read};

/// Most bytes that a kernel may have; Debian's have 60 MB.
const MOST: usize = 1 << 30;

/// How a kernel is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Gzip,
    Xz,
    Lz4,
    Zstd,
}

/// What `./x` can unpack, by the first bytes.
const KNOWN: [(&[u8], Format); 4] = [
    (&[0x1f, 0x8b], Format::Gzip),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Format::Xz),
    (&LZ4_LEGACY, Format::Lz4),
    (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
];

/// What else Linux can be built with.
const OTHERS: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (&[0x5d, 0, 0], "LZMA"), (&[0x89, b'L', b'Z', b'O'], "LZO")];

/// The magic number of the frame format that came before the standard one (LZ4 frame format description, "Legacy frame").
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Most bytes in one of its blocks, unpacked.
const LZ4_BLOCK: usize = 8 << 20;

/// A compressed kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Payload<'a> {
    format: Format,
    /// Without the length at the end.
    bytes: &'a [u8],
    /// Its length when unpacked.
    length: usize,
}

impl<'a> Payload<'a> {
    /// The payload of a bzImage. Its last four bytes are the length of what is in it: gzip ends with it by itself, to the
    /// others Linux's build appends it.
    ///
    /// # Errors
    /// A sentence without its subject if it is in a format that can't be unpacked.
    pub fn of(payload: &'a [u8]) -> Result<Self, String> {
        let starts = |magic: &[u8]| payload.starts_with(magic);
        let Some(&(_, format)) = KNOWN.iter().find(|(magic, _)| starts(magic)) else {
            let name = OTHERS.iter().find(|(magic, _)| starts(magic)).map_or("an unknown format", |(_, name)| name);
            return Err(format!("is a Linux bzImage compressed with {name}; gzip, xz, lz4 and zstd can be unpacked"));
        };
        let (bytes, length) = payload.split_last_chunk().ok_or("is a Linux bzImage that is cut off")?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        Ok(Self { format, bytes: if format == Format::Gzip { payload } else { bytes }, length })
    }

    /// The file inside.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn unpack(&self) -> Result<Vec<u8>> {
        ensure!(self.length <= MOST, "it says that it has {} bytes", self.length);
        let mut out = Vec::with_capacity(self.length);
        match self.format {
            Format::Gzip => self.read(flate2::read::GzDecoder::new(self.bytes), &mut out)?,
            Format::Xz => self.read(xz4rust::XzReader::new(Cursor::new(self.bytes.to_vec())), &mut out)?,
            Format::Zstd => self.read(ruzstd::decoding::StreamingDecoder::new(self.bytes)?, &mut out)?,
            Format::Lz4 => unpack_lz4(self.bytes, self.length, &mut out)?,
        }
        ensure!(out.len() == self.length, "{} bytes are in it, not {} as it says", out.len(), self.length);
        Ok(out)
    }

    /// Reads one byte more than there should be, so that too many are noticed.
    fn read(&self, from: impl Read, out: &mut Vec<u8>) -> Result<()> {
        from.take(self.length as u64 + 1).read_to_end(out)?;
        Ok(())
    }
}

/// Blocks, each behind its length.
fn unpack_lz4(bytes: &[u8], length: usize, out: &mut Vec<u8>) -> Result<()> {
    let mut rest = bytes.strip_prefix(&LZ4_LEGACY).context("no magic number")?;
    while let Some((size, blocks)) = rest.split_first_chunk() {
        let size = usize::try_from(u32::from_le_bytes(*size))?;
        let Some((block, later)) = blocks.split_at_checked(size) else { bail!("a block is cut off") };
        out.extend(lz4_flex::block::decompress(block, LZ4_BLOCK)?);
        ensure!(out.len() <= length, "more is in it than the {length} bytes that it says");
        rest = later;
    }
    ensure!(rest.is_empty(), "a block is cut off");
    Ok(())
}
