//! The reader, used by the hypervisor: each length and offset is checked before it is used.

use crate::{
    Blob, BootConfig, HEADER_LEN, MAGIC, VERSION,
    header::{BLOB_ALIGN, Header},
};
use core::fmt;

/// An archive whose header and configuration have been checked. Its blobs are checked one by one, when asked for.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    blobs_start: usize,
    config: BootConfig,
}

impl<'a> Archive<'a> {
    /// Checks the header and decodes the configuration. Bytes after the archive's own end are ignored.
    ///
    /// # Errors
    /// Says what is wrong when the bytes are no archive, an archive of another version, cut short or damaged.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let found = bytes.len() as u64;
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(ArchiveError::Truncated { expected: HEADER_LEN as u64, found });
        };
        let header = Header::decode(header);
        if header.magic != MAGIC {
            return Err(ArchiveError::BadMagic);
        }
        if header.version != VERSION {
            return Err(ArchiveError::BadVersion { found: header.version });
        }
        let truncated = ArchiveError::Truncated { expected: header.total_len, found };
        let bytes = usize::try_from(header.total_len).ok().and_then(|len| bytes.get(..len)).ok_or(truncated)?;
        let (config, blobs_start) = usize::try_from(header.config_len)
            .ok()
            .and_then(|len| HEADER_LEN.checked_add(len))
            .and_then(|end| Some((bytes.get(HEADER_LEN..end)?, end)))
            .ok_or(ArchiveError::Damaged)?;
        if header.expected_crc32(config) != header.crc32 {
            return Err(ArchiveError::Damaged);
        }
        let config = postcard::from_bytes(config).map_err(|_| ArchiveError::BadConfig)?;
        Ok(Self { bytes, blobs_start, config })
    }

    /// The configuration.
    pub fn config(&self) -> &BootConfig {
        &self.config
    }

    /// The bytes of a blob, after checking that it lies in the archive and that its CRC-32 is right.
    ///
    /// Each call reads the whole blob once, at about three instructions per byte.
    ///
    /// # Errors
    /// Says which of the two checks failed.
    pub fn blob(&self, blob: &Blob) -> Result<&'a [u8], BlobError> {
        let bytes = self.blob_unchecked(blob)?;
        let computed = crc32fast::hash(bytes);
        if computed != blob.crc32 {
            return Err(BlobError::Checksum { stored: blob.crc32, computed });
        }
        Ok(bytes)
    }

    /// The bytes of a blob whose CRC-32 was found right before, after checking that it lies in the archive.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn blob_unchecked(&self, blob: &Blob) -> Result<&'a [u8], BlobError> {
        let span = || {
            let start = usize::try_from(blob.offset).ok()?;
            let end = start.checked_add(usize::try_from(blob.len).ok()?)?;
            (start >= self.blobs_start && start.is_multiple_of(BLOB_ALIGN)).then_some(())?;
            self.bytes.get(start..end)
        };
        span().ok_or(BlobError::OutOfBounds)
    }
}

/// Why an archive is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// It is shorter than it says, or than a header.
    Truncated {
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// It doesn't start with [`MAGIC`].
    BadMagic,
    /// It has another format version.
    BadVersion {
        /// The version it has.
        found: u32,
    },
    /// Header or configuration are not what was written: the CRC-32 is wrong.
    Damaged,
    /// The CRC-32 is right, yet the configuration doesn't decode.
    BadConfig,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { expected, found } => write!(f, "cut short: {found} bytes of {expected}"),
            Self::BadMagic => f.write_str("not a boot archive: wrong magic"),
            Self::BadVersion { found } => write!(f, "format version {found}, need {VERSION}"),
            Self::Damaged => f.write_str("damaged: checksum of header and configuration is wrong"),
            Self::BadConfig => f.write_str("the configuration does not decode"),
        }
    }
}

impl core::error::Error for ArchiveError {}

/// Why a blob is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobError {
    /// It doesn't lie in the data part of the archive.
    OutOfBounds,
    /// Its bytes are not what was written.
    Checksum {
        /// The CRC-32 in the configuration.
        stored: u32,
        /// The CRC-32 of the bytes.
        computed: u32,
    },
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds => f.write_str("lies outside the boot archive"),
            Self::Checksum { stored, computed } => {
                write!(f, "damaged: checksum is {computed:#010x}, should be {stored:#010x}")
            }
        }
    }
}

impl core::error::Error for BlobError {}
