//! The writer, used by the host tools and by tests.

use crate::{BLOB_ALIGN, Blob, BootConfig, HEADER_LEN, MAGIC, VERSION, header::Header};
use alloc::vec::Vec;
use core::fmt;

/// Collects blobs, then writes the archive.
///
/// A [`Blob`]'s offset counts from the start of the archive, but the length of the configuration in front of the
/// blobs is known only at the end. So [`add`](Self::add) hands out blobs relative to the first one, and
/// [`finish`](Self::finish) moves those of the configuration to their final place.
#[derive(Clone, Debug, Default)]
pub struct ArchiveWriter {
    data: Vec<u8>,
    blobs: Vec<Blob>,
}

impl ArchiveWriter {
    /// A writer without blobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a blob, for use in the configuration given to [`finish`](Self::finish) of this same writer. Bytes that
    /// were added before are stored once.
    pub fn add(&mut self, bytes: &[u8]) -> Blob {
        let crc32 = crc32fast::hash(bytes);
        let known = |blob: &&Blob| blob.crc32 == crc32 && self.stored(blob) == Some(bytes);
        if let Some(blob) = self.blobs.iter().find(known) {
            return *blob;
        }
        self.data.resize(self.data.len().next_multiple_of(BLOB_ALIGN), 0);
        let blob = Blob { offset: self.data.len() as u64, len: bytes.len() as u64, crc32 };
        self.data.extend_from_slice(bytes);
        self.blobs.push(blob);
        blob
    }

    fn stored(&self, blob: &Blob) -> Option<&[u8]> {
        let start = usize::try_from(blob.offset).ok()?;
        self.data.get(start..start.checked_add(usize::try_from(blob.len).ok()?)?)
    }

    /// Writes the archive: header, configuration, blobs.
    ///
    /// # Errors
    /// When the configuration is 4 GiB long or more.
    pub fn finish(self, config: BootConfig) -> Result<Vec<u8>, WriteError> {
        let (config, data_start) = place(config)?;
        let config_len = u32::try_from(config.len()).map_err(|_| WriteError)?;
        let total_len = (data_start + self.data.len()) as u64;
        let mut header = Header { magic: MAGIC, version: VERSION, config_len, total_len, crc32: 0 };
        header.crc32 = header.expected_crc32(&config);

        let mut archive = Vec::with_capacity(data_start + self.data.len());
        archive.extend_from_slice(&header.encode());
        archive.extend_from_slice(&config);
        archive.resize(data_start, 0);
        archive.extend_from_slice(&self.data);
        Ok(archive)
    }
}

/// Encodes `config` with its blobs moved behind it, and returns where the first blob goes.
///
/// Numbers are encoded in as many bytes as they need, so larger offsets may need a longer configuration, which
/// moves the blobs again. The start only ever grows and an offset takes ten bytes at most, so this ends.
fn place(config: BootConfig) -> Result<(Vec<u8>, usize), WriteError> {
    let mut start = 0;
    loop {
        let encoded = postcard::to_allocvec(&moved(config.clone(), start as u64)).map_err(|_| WriteError)?;
        let needed = (HEADER_LEN + encoded.len()).next_multiple_of(BLOB_ALIGN);
        if needed <= start {
            return Ok((encoded, start));
        }
        start = needed;
    }
}

fn moved(mut config: BootConfig, by: u64) -> BootConfig {
    let domains = config.domains.iter_mut();
    let blobs = domains.flat_map(|d| [Some(&mut d.kernel), d.ramdisk.as_mut()]).chain([config.symbols.as_mut()]);
    for blob in blobs.flatten() {
        blob.offset = blob.offset.saturating_add(by);
    }
    config
}

/// The configuration is too long for the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteError;

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is too long for a boot archive")
    }
}

impl core::error::Error for WriteError {}
