//! The requests, over whatever carries them: a ring, or a call in the domain that has the server.

use super::wire::{Permission, Strings, number, strings};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use core::str::FromStr;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::*;

/// How often a transaction is tried that others' changes get in the way of.
const ATTEMPTS: usize = 64;

/// A transaction, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tx(pub u32);

impl Tx {
    /// No transaction: the request is one by itself.
    pub const NONE: Tx = Tx(0);
}

/// A watched path changed, or something below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// What changed: relative if the watch is.
    pub path: String,
    /// The watch's.
    pub token: String,
}

impl Event {
    /// From the payload of an `XS_WATCH_EVENT`. `None` if it is none.
    pub fn parse(payload: &[u8]) -> Option<Event> {
        let mut strings = Strings::new(payload);
        let mut next = || core::str::from_utf8(strings.next()?).ok().map(String::from);
        Some(Event { path: next()?, token: next()? })
    }
}

/// A connection to XenStore. Paths without `/` in front are relative to the domain's home, `/local/domain/N`.
///
/// All requests fail with the server's error, with `E2BIG` if they are too long to be sent, or with `EIO` if the
/// connection or the reply is broken.
pub trait Bus {
    /// Makes a request and waits for its reply, whose payload it returns. `parts` in a row are the request's payload.
    ///
    /// # Errors
    /// Those of all requests.
    fn request(&mut self, kind: u32, tx: Tx, parts: &[&[u8]]) -> Result<Vec<u8>, Errno>;

    /// The next event that came, if one did.
    fn event(&mut self) -> Option<Event>;

    /// A node's value.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn read(&mut self, tx: Tx, path: &str) -> Result<Vec<u8>, Errno> {
        self.request(XS_READ, tx, &[path.as_bytes(), b"\0"])
    }

    /// A node's value as text.
    ///
    /// # Errors
    /// As [`Bus`] says; `EINVAL` if it is no text.
    fn read_text(&mut self, tx: Tx, path: &str) -> Result<String, Errno> {
        String::from_utf8(self.read(tx, path)?).map_err(|_| Errno::EINVAL)
    }

    /// A node's value as a decimal number, or as what else can be parsed.
    ///
    /// # Errors
    /// As [`Bus`] says; `EINVAL` if it is none.
    fn read_number<T: FromStr>(&mut self, tx: Tx, path: &str) -> Result<T, Errno>
    where
        Self: Sized,
    {
        self.read_text(tx, path)?.parse().map_err(|_| Errno::EINVAL)
    }

    /// Writes a node, which is made if it isn't there, as are those above it.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn write(&mut self, tx: Tx, path: &str, value: &[u8]) -> Result<(), Errno> {
        self.request(XS_WRITE, tx, &[path.as_bytes(), b"\0", value]).map(drop)
    }

    /// Writes anything that has a text.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn write_text(&mut self, tx: Tx, path: &str, value: impl Display) -> Result<(), Errno>
    where
        Self: Sized,
    {
        self.write(tx, path, value.to_string().as_bytes())
    }

    /// Makes a node if it isn't there.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn mkdir(&mut self, tx: Tx, path: &str) -> Result<(), Errno> {
        self.request(XS_MKDIR, tx, &[path.as_bytes(), b"\0"]).map(drop)
    }

    /// Removes a node and all below it. That there is none is no error, if there is one above.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn remove(&mut self, tx: Tx, path: &str) -> Result<(), Errno> {
        self.request(XS_RM, tx, &[path.as_bytes(), b"\0"]).map(drop)
    }

    /// The names of a node's children, however many there are.
    ///
    /// # Errors
    /// As [`Bus`] says; `EAGAIN` if they don't stop changing while they are listed in parts.
    fn directory(&mut self, tx: Tx, path: &str) -> Result<Vec<String>, Errno> {
        match self.request(XS_DIRECTORY, tx, &[path.as_bytes(), b"\0"]) {
            Err(Errno::E2BIG) => {
                (0..ATTEMPTS).find_map(|_| directory_in_parts(self, tx, path).transpose()).unwrap_or(Err(Errno::EAGAIN))
            }
            names => texts(&names?),
        }
    }

    /// A node's permissions, its owner's first.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn permissions(&mut self, tx: Tx, path: &str) -> Result<Vec<Permission>, Errno> {
        let reply = self.request(XS_GET_PERMS, tx, &[path.as_bytes(), b"\0"])?;
        Strings::new(&reply).map(|text| Permission::parse(text).ok_or(Errno::EIO)).collect()
    }

    /// Sets a node's permissions, its owner's first.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn set_permissions(&mut self, tx: Tx, path: &str, all: &[Permission]) -> Result<(), Errno> {
        self.request(XS_SET_PERMS, tx, &[path.as_bytes(), b"\0", &strings(all)]).map(drop)
    }

    /// Asks for an [`Event`] with this token for each change at `path` or below, and for one at once.
    ///
    /// # Errors
    /// As [`Bus`] says; `EEXIST` if there is this watch already.
    fn watch(&mut self, path: &str, token: &str) -> Result<(), Errno> {
        self.request(XS_WATCH, Tx::NONE, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"]).map(drop)
    }

    /// Ends a watch. Events that came before may still be there.
    ///
    /// # Errors
    /// As [`Bus`] says; `ENOENT` if there is no such watch.
    fn unwatch(&mut self, path: &str, token: &str) -> Result<(), Errno> {
        self.request(XS_UNWATCH, Tx::NONE, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"]).map(drop)
    }

    /// Ends all watches and transactions of this connection.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn reset_watches(&mut self) -> Result<(), Errno> {
        self.request(XS_RESET_WATCHES, Tx::NONE, &[b"\0"]).map(drop)
    }

    /// Starts a transaction, which [`Bus::end`] ends.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn start(&mut self) -> Result<Tx, Errno> {
        let reply = self.request(XS_TRANSACTION_START, Tx::NONE, &[b"\0"])?;
        let id = number(Strings::new(&reply).next().unwrap_or(&reply)).filter(|id| *id != 0);
        id.map(Tx).ok_or(Errno::EIO)
    }

    /// Ends a transaction: makes its changes, or drops them.
    ///
    /// # Errors
    /// As [`Bus`] says; `EAGAIN` if others have changed what it saw, and then none of its changes are made.
    fn end(&mut self, tx: Tx, commit: bool) -> Result<(), Errno> {
        self.request(XS_TRANSACTION_END, tx, &[if commit { b"T\0" } else { b"F\0" }]).map(drop)
    }

    /// Does `body` in a transaction, and again as often as others' changes get in its way. If it fails its changes are
    /// dropped.
    ///
    /// # Errors
    /// Those of `body`, or of the transaction; `EAGAIN` after many attempts.
    fn transaction<T>(&mut self, mut body: impl FnMut(&mut Self, Tx) -> Result<T, Errno>) -> Result<T, Errno>
    where
        Self: Sized,
    {
        for _ in 0..ATTEMPTS {
            let tx = self.start()?;
            match body(self, tx) {
                Ok(result) => match self.end(tx, true) {
                    Err(Errno::EAGAIN) => {}
                    ended => return ended.map(|()| result),
                },
                Err(error) => {
                    let _ = self.end(tx, false);
                    if error != Errno::EAGAIN {
                        return Err(error);
                    }
                }
            }
        }
        Err(Errno::EAGAIN)
    }

    /// A domain's home.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn domain_path(&mut self, domain: u16) -> Result<String, Errno> {
        let reply = self.request(XS_GET_DOMAIN_PATH, Tx::NONE, &[&strings([domain])])?;
        texts(&reply)?.pop().ok_or(Errno::EIO)
    }

    /// Whether the server has a connection with a domain.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn is_introduced(&mut self, domain: u16) -> Result<bool, Errno> {
        Ok(self.request(XS_IS_DOMAIN_INTRODUCED, Tx::NONE, &[&strings([domain])])? == b"T\0")
    }

    /// Tells the server of a domain, of the machine frame of its ring, and of its port.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn introduce(&mut self, domain: u16, frame: u64, port: u32) -> Result<(), Errno> {
        let numbers = strings([u64::from(domain), frame, u64::from(port)]);
        self.request(XS_INTRODUCE, Tx::NONE, &[&numbers]).map(drop)
    }

    /// Tells the server that a domain is gone.
    ///
    /// # Errors
    /// As [`Bus`] says.
    fn release(&mut self, domain: u16) -> Result<(), Errno> {
        self.request(XS_RELEASE, Tx::NONE, &[&strings([domain])]).map(drop)
    }
}

/// One attempt to list children in parts; `None` if they changed meanwhile.
fn directory_in_parts<B: Bus + ?Sized>(bus: &mut B, tx: Tx, path: &str) -> Result<Option<Vec<String>>, Errno> {
    let (mut names, mut offset, mut first) = (Vec::new(), 0, None);
    loop {
        let reply = bus.request(XS_DIRECTORY_PART, tx, &[path.as_bytes(), b"\0", &strings([offset])])?;
        let mut part = Strings::new(&reply);
        let generation = part.next().ok_or(Errno::EIO)?.to_vec();
        if first.get_or_insert_with(|| generation.clone()) != &generation {
            return Ok(None);
        }
        // The list ends with an empty name.
        let list = part.rest();
        let end = list == b"\0" || list.is_empty() || list.ends_with(b"\0\0");
        names.extend(texts(list)?.into_iter().filter(|name| !name.is_empty()));
        if end {
            return Ok(Some(names));
        }
        offset += list.len();
    }
}

fn texts(payload: &[u8]) -> Result<Vec<String>, Errno> {
    let text = |string| core::str::from_utf8(string).map(String::from).map_err(|_| Errno::EIO);
    Strings::new(payload).map(text).collect()
}
