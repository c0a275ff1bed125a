//! Messages as bytes. Both ends use this: nothing that comes from the other one is trusted.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::{SockMsg, XENSTORE_PAYLOAD_MAX, XSD_ERRORS};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes in front of each payload.
pub const HEADER: usize = size_of::<SockMsg>();

/// A payload longer than [`XENSTORE_PAYLOAD_MAX`]. Where the next message begins can't be trusted then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// A request, a reply or an event.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Message {
    /// An `XS_*`.
    pub kind: u32,
    /// The number that the client gave to the request; 0 in an event.
    pub request: u32,
    /// The transaction, or 0.
    pub transaction: u32,
    /// What the kind says.
    pub payload: Vec<u8>,
}

impl Message {
    /// Appends the message's bytes to `out`.
    ///
    /// # Errors
    /// [`TooLong`], and nothing is appended.
    pub fn encode(&self, out: &mut impl Extend<u8>) -> Result<(), TooLong> {
        let len = u32::try_from(self.payload.len()).ok().filter(|len| *len <= XENSTORE_PAYLOAD_MAX).ok_or(TooLong)?;
        let header = SockMsg { kind: self.kind, req_id: self.request, tx_id: self.transaction, len };
        out.extend(header.as_bytes().iter().copied());
        out.extend(self.payload.iter().copied());
        Ok(())
    }
}

/// Puts messages together from bytes that come in pieces of any size.
#[derive(Default, Debug)]
pub struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes bytes from `read` until a message is complete, and none beyond it. `read` fills the start of the slice and
    /// says how many bytes that were; 0 means that there are none now.
    ///
    /// # Errors
    /// [`TooLong`] and what `read` returns. Nothing can be read afterwards but a new stream, with a new `Assembler`.
    pub fn pull<E: From<TooLong>>(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<Message>, E> {
        loop {
            let wanted = self.wanted()?;
            if wanted == 0 {
                return Ok(Some(self.finish()));
            }
            let have = self.bytes.len();
            self.bytes.resize(have + wanted, 0);
            let got = read(&mut self.bytes[have..]);
            self.bytes.truncate(have + got.as_ref().map_or(0, |got| (*got).min(wanted)));
            if got? == 0 {
                return Ok(None);
            }
        }
    }

    fn header(&self) -> Option<SockMsg> {
        SockMsg::read_from_prefix(&self.bytes).ok().map(|(header, _)| header)
    }

    /// Bytes missing from the header, or, if that is there, from the message.
    fn wanted(&self) -> Result<usize, TooLong> {
        let end = match self.header() {
            None => HEADER,
            Some(header) if header.len > XENSTORE_PAYLOAD_MAX => return Err(TooLong),
            Some(header) => HEADER + header.len as usize,
        };
        Ok(end - self.bytes.len())
    }

    fn finish(&mut self) -> Message {
        let header = self.header().unwrap_or_default();
        let payload = self.bytes.split_off(HEADER.min(self.bytes.len()));
        self.bytes.clear();
        Message { kind: header.kind, request: header.req_id, transaction: header.tx_id, payload }
    }
}

/// The strings of a payload, each of which ends with a NUL. What follows the last NUL is [`Strings::rest`].
#[derive(Clone, Debug)]
pub struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    /// Those of `payload`.
    pub fn new(payload: &'a [u8]) -> Strings<'a> {
        Strings(payload)
    }

    /// The bytes that were not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (string, rest) = (&self.0[..end], &self.0[end + 1..]);
        self.0 = rest;
        Some(string)
    }
}

/// The name of an error on the wire. Errors that the ABI has no name for are `EINVAL`.
pub fn error_name(errno: Errno) -> &'static str {
    XSD_ERRORS.iter().find(|(known, _)| *known == errno).map_or("EINVAL", |(_, name)| name)
}

/// The error that a reply names, with its NUL or without. Names that the ABI doesn't list are `EIO`.
pub fn named_error(payload: &[u8]) -> Errno {
    let name = payload.strip_suffix(b"\0").unwrap_or(payload);
    XSD_ERRORS.iter().find(|(_, known)| known.as_bytes() == name).map_or(Errno::EIO, |(errno, _)| *errno)
}

/// What a domain may do with a node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rights {
    /// It may read its value and the names of its children.
    pub read: bool,
    /// It may change its value, make children and remove it.
    pub write: bool,
}

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights { read: false, write: false };
    /// Reading.
    pub const READ: Rights = Rights { read: true, write: false };
    /// Writing.
    pub const WRITE: Rights = Rights { read: false, write: true };
    /// Both.
    pub const BOTH: Rights = Rights { read: true, write: true };

    /// Whether these rights include all of `wanted`.
    pub const fn include(self, wanted: Rights) -> bool {
        (self.read || !wanted.read) && (self.write || !wanted.write)
    }
}

/// An entry of a node's permissions. That of the first entry's domain, the owner, is unlimited, and its rights are those
/// of all domains that have no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permission {
    /// The domain.
    pub domain: u16,
    /// Its rights.
    pub rights: Rights,
}

impl Permission {
    /// Rights of a domain.
    pub const fn new(domain: u16, rights: Rights) -> Permission {
        Permission { domain, rights }
    }

    /// From text like `r5`.
    pub fn parse(text: &[u8]) -> Option<Permission> {
        let (letter, domain) = text.split_first()?;
        let rights = match letter {
            b'n' => Rights::NONE,
            b'r' => Rights::READ,
            b'w' => Rights::WRITE,
            b'b' => Rights::BOTH,
            _ => return None,
        };
        Some(Permission { domain: number(domain)?, rights })
    }
}

impl core::fmt::Display for Permission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let letter = match (self.rights.read, self.rights.write) {
            (false, false) => 'n',
            (true, false) => 'r',
            (false, true) => 'w',
            (true, true) => 'b',
        };
        write!(f, "{letter}{}", self.domain)
    }
}

/// A payload of NUL-terminated strings.
pub fn strings<S: ToString>(all: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut payload = Vec::new();
    for string in all {
        payload.extend_from_slice(string.to_string().as_bytes());
        payload.push(0);
    }
    payload
}

/// A decimal number, of digits only.
pub fn number<T: core::str::FromStr>(text: &[u8]) -> Option<T> {
    let digits = text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// Text that both ends show to people; bytes that are none become `?`.
pub fn printable(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[derive(PartialEq, Eq, Debug)]
    struct Long;

    impl From<TooLong> for Long {
        fn from(_: TooLong) -> Long {
            Long
        }
    }

    /// Feeds `bytes` in pieces of the lengths in `pieces`, over and over.
    fn assemble(bytes: &[u8], pieces: &[usize]) -> Result<Vec<Message>, Long> {
        let mut assembler = Assembler::default();
        let (mut messages, mut rest) = (Vec::new(), bytes);
        for piece in pieces.iter().cycle() {
            let (mut now, later) = rest.split_at((*piece).min(rest.len()));
            while let Some(message) = assembler.pull(|buffer| {
                let count = buffer.len().min(now.len());
                buffer[..count].copy_from_slice(&now[..count]);
                now = &now[count..];
                Ok::<usize, Long>(count)
            })? {
                messages.push(message);
            }
            assert!(now.is_empty());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        Ok(messages)
    }

    fn message() -> impl Strategy<Value = Message> {
        let payload = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            proptest::collection::vec(any::<u8>(), 4080..=4096),
        ];
        (any::<u32>(), any::<u32>(), any::<u32>(), payload).prop_map(|(kind, request, transaction, payload)| Message {
            kind,
            request,
            transaction,
            payload,
        })
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            messages in proptest::collection::vec(message(), 0..6),
            pieces in proptest::collection::vec(1..2000usize, 1..8),
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                message.encode(&mut bytes).unwrap();
            }
            prop_assert_eq!(assemble(&bytes, &pieces), Ok(messages));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // The third byte of a length is mostly not 0: too long.
            let _ = assemble(&bytes, &[7]);
            let _ = Permission::parse(&bytes);
            let _ = named_error(&bytes);
            let strings = Strings::new(&bytes);
            prop_assert_eq!(strings.count(), bytes.iter().filter(|byte| **byte == 0).count());
        }
    }

    #[test]
    fn the_longest_payload_passes_and_a_longer_one_does_not() {
        let mut message = Message { payload: vec![7; 4096], ..Message::default() };
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        assert_eq!(assemble(&bytes, &[1000]).unwrap(), [message.clone()]);
        message.payload.push(7);
        bytes.clear();
        assert_eq!(message.encode(&mut bytes), Err(TooLong));
        assert!(bytes.is_empty());
        let header = SockMsg { len: 4097, ..SockMsg::default() };
        assert_eq!(assemble(header.as_bytes(), &[16]), Err(Long));
    }

    #[test]
    fn a_reader_that_claims_too_much_is_not_believed() {
        let mut assembler = Assembler::default();
        let mut calls = 0;
        let read = |buffer: &mut [u8]| {
            calls += 1;
            Ok::<usize, TooLong>(if calls == 1 { buffer.len() + 5 } else { 0 })
        };
        assert_eq!(assembler.pull(read).unwrap(), Some(Message::default()));
    }

    #[test]
    fn texts() {
        let rights = [("n1", Rights::NONE), ("r1", Rights::READ), ("w1", Rights::WRITE), ("b1", Rights::BOTH)];
        for (text, rights) in rights {
            let permission = Permission::new(1, rights);
            assert_eq!(Permission::parse(text.as_bytes()), Some(permission));
            assert_eq!(permission.to_string(), text);
        }
        for wrong in ["", "r", "x1", "r-1", "r70000", "r1 ", "r+1"] {
            assert_eq!(Permission::parse(wrong.as_bytes()), None, "{wrong}");
        }
        for (errno, name) in XSD_ERRORS {
            assert_eq!(error_name(errno), name);
            assert_eq!(named_error(&[name.as_bytes(), b"\0"].concat()), errno);
        }
        assert_eq!(error_name(Errno::ESRCH), "EINVAL");
        assert_eq!(named_error(b"EWHAT\0"), Errno::EIO);
        let mut two = Strings::new(b"a\0\0b");
        assert_eq!(
            (two.next(), two.next(), two.next(), two.rest()),
            (Some(&b"a"[..]), Some(&b""[..]), None, &b"b"[..])
        );
        assert_eq!(strings(["a", ""]), b"a\0\0");
        assert_eq!(printable(b"a\0~\xff"), "a?~?");
    }
}
