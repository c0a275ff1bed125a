//! Link-layer addresses.

use core::fmt;
use core::str::FromStr;

/// The address of a network device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is not six hexadecimal bytes with colons between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParseMacError;

impl Mac {
    /// All devices.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// For a group of devices, or for all.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// For the bridge itself: bridges keep 01-80-c2-00-00-00 to -0f to themselves (IEEE 802.1Q, 8.6.3).
    pub fn is_reserved(self) -> bool {
        self.0[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.0[5] < 0x10
    }

    /// Can be a device's own: neither a group nor nobody.
    pub fn is_station(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }

    /// The six bytes at `offset`, if they are there.
    pub fn read(bytes: &[u8], offset: usize) -> Option<Mac> {
        bytes.get(offset..)?.first_chunk().copied().map(Mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Mac, ParseMacError> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(ParseMacError)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(ParseMacError);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| ParseMacError)?;
        }
        parts.next().is_none().then_some(Mac(bytes)).ok_or(ParseMacError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_and_back() {
        let mac = Mac([0, 0x16, 0x3e, 0xab, 0xcd, 0xef]);
        assert_eq!(mac.to_string(), "00:16:3e:ab:cd:ef");
        assert_eq!("00:16:3E:ab:cd:ef".parse(), Ok(mac));
        for wrong in
            ["", "00:16:3e:ab:cd", "00:16:3e:ab:cd:ef:00", "0:16:3e:ab:cd:ef", "+0:16:3e:ab:cd:ef", "00-16-3e-ab-cd-ef"]
        {
            assert_eq!(wrong.parse::<Mac>(), Err(ParseMacError), "{wrong}");
        }
    }

    #[test]
    fn kinds() {
        assert!(Mac::BROADCAST.is_group() && !Mac::BROADCAST.is_station());
        assert!(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]).is_reserved());
        assert!(!Mac([0x01, 0x80, 0xc2, 0, 0, 0x10]).is_reserved());
        assert!(!Mac([0; 6]).is_station());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_station());
    }
}
