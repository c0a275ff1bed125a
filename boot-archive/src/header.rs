//! The fixed part at the start of an archive, shared by reader and writer.

/// First bytes of an archive.
pub const MAGIC: [u8; 8] = *b"PVArchiv";

/// Version of the format. A reader takes exactly its own version: archive and hypervisor are built together.
pub const VERSION: u32 = 4;

/// Length of the fixed header in bytes; the configuration follows it.
pub const HEADER_LEN: usize = 32;

/// Every blob starts at a multiple of this many bytes, so that ELF structures can be read in place.
pub const BLOB_ALIGN: usize = 16;

/// Length of the leading part of the header that the header's CRC covers.
const CHECKED_LEN: usize = 24;

/// The fixed header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub magic: [u8; 8],
    pub version: u32,
    pub config_len: u32,
    pub total_len: u64,
    pub crc32: u32,
}

impl Header {
    /// Decodes the header; the caller checks what it says.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let words = bytes.as_chunks::<4>().0;
        let word = |i: usize| words.get(i).map_or(0, |w| u32::from_le_bytes(*w));
        let mut magic = [0; 8];
        magic.copy_from_slice(&bytes[..8]);
        Self {
            magic,
            version: word(2),
            config_len: word(3),
            total_len: u64::from(word(4)) | u64::from(word(5)) << 32,
            crc32: word(6),
        }
    }

    /// Encodes the header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.config_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.total_len.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.crc32.to_le_bytes());
        bytes
    }

    /// The CRC-32 this header must carry when `config` follows it.
    pub fn expected_crc32(&self, config: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.encode()[..CHECKED_LEN]);
        hasher.update(config);
        hasher.finalize()
    }
}
