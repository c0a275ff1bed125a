//! Requests from bytes.

use super::path::Given;
use alloc::vec::Vec;
use guest_kernel::store::wire::{Permission, Strings, number};
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::*;

/// What a client asks for.
#[derive(Debug)]
pub enum Request<'a> {
    /// `XS_READ`
    Read(Given),
    /// `XS_DIRECTORY`
    Directory(Given),
    /// `XS_DIRECTORY_PART`: from this byte of the list on.
    DirectoryPart(Given, usize),
    /// `XS_GET_PERMS`
    Permissions(Given),
    /// `XS_WRITE`
    Write(Given, &'a [u8]),
    /// `XS_MKDIR`
    Mkdir(Given),
    /// `XS_RM`
    Remove(Given),
    /// `XS_SET_PERMS`: at least one entry.
    SetPermissions(Given, Vec<Permission>),
    /// `XS_WATCH`, with a token
    Watch(Given, &'a [u8]),
    /// `XS_UNWATCH`, with a token
    Unwatch(Given, &'a [u8]),
    /// `XS_RESET_WATCHES`
    ResetWatches,
    /// `XS_TRANSACTION_START`
    Start,
    /// `XS_TRANSACTION_END`: whether to commit
    End(bool),
    /// `XS_GET_DOMAIN_PATH`
    DomainPath(u16),
    /// `XS_IS_DOMAIN_INTRODUCED`
    IsIntroduced(u16),
    /// `XS_INTRODUCE`
    Introduce {
        /// The domain.
        domain: u16,
        /// The machine frame of its ring.
        frame: u64,
        /// Its port.
        port: u32,
    },
    /// `XS_RELEASE`
    Release(u16),
}

impl<'a> Request<'a> {
    /// Reads the request that `domain` made.
    ///
    /// # Errors
    /// `ENOSYS` if the server doesn't know the kind; `EINVAL`.
    pub fn parse(kind: u32, payload: &'a [u8], domain: u16) -> Result<Request<'a>, Errno> {
        let mut strings = Strings::new(payload);
        let mut string = || strings.next().ok_or(Errno::EINVAL);
        let path = |text| Given::parse(text, domain);
        let request = match kind {
            XS_READ => Request::Read(path(string()?)?),
            XS_DIRECTORY => Request::Directory(path(string()?)?),
            XS_DIRECTORY_PART => Request::DirectoryPart(path(string()?)?, numeral(string()?)?),
            XS_GET_PERMS => Request::Permissions(path(string()?)?),
            XS_MKDIR => Request::Mkdir(path(string()?)?),
            XS_RM => Request::Remove(path(string()?)?),
            XS_WATCH => Request::Watch(path(string()?)?, string()?),
            XS_UNWATCH => Request::Unwatch(path(string()?)?, string()?),
            XS_TRANSACTION_END => Request::End(match string()? {
                b"T" => true,
                b"F" => false,
                _ => return Err(Errno::EINVAL),
            }),
            XS_GET_DOMAIN_PATH => Request::DomainPath(numeral(string()?)?),
            XS_IS_DOMAIN_INTRODUCED => Request::IsIntroduced(numeral(string()?)?),
            XS_RELEASE => Request::Release(numeral(string()?)?),
            XS_INTRODUCE => Request::Introduce {
                domain: numeral(string()?)?,
                frame: numeral(string()?)?,
                port: numeral(string()?)?,
            },
            // The rest of these payloads is reserved, or a value of any bytes.
            XS_TRANSACTION_START => return Ok(Request::Start),
            XS_RESET_WATCHES => return Ok(Request::ResetWatches),
            XS_WRITE => return Ok(Request::Write(path(string()?)?, strings.rest())),
            XS_SET_PERMS => {
                let path = path(string()?)?;
                let all = strings.by_ref().map(|text| Permission::parse(text).ok_or(Errno::EINVAL));
                let all = all.collect::<Result<Vec<_>, _>>()?;
                if all.is_empty() {
                    return Err(Errno::EINVAL);
                }
                Request::SetPermissions(path, all)
            }
            _ => return Err(Errno::ENOSYS),
        };
        // These may end with a reserved string.
        let reserved = matches!(kind, XS_WATCH | XS_UNWATCH | XS_INTRODUCE);
        if strings.rest().is_empty() || reserved { Ok(request) } else { Err(Errno::EINVAL) }
    }

    /// The path that it names.
    pub fn path(&self) -> Option<&Given> {
        match self {
            Request::Read(path)
            | Request::Directory(path)
            | Request::DirectoryPart(path, _)
            | Request::Permissions(path)
            | Request::Write(path, _)
            | Request::Mkdir(path)
            | Request::Remove(path)
            | Request::SetPermissions(path, _)
            | Request::Watch(path, _)
            | Request::Unwatch(path, _) => Some(path),
            _ => None,
        }
    }
}

fn numeral<T: core::str::FromStr>(text: &[u8]) -> Result<T, Errno> {
    number(text).ok_or(Errno::EINVAL)
}
