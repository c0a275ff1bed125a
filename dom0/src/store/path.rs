//! Paths: checked, absolute.

use alloc::format;
use alloc::string::String;
use core::fmt;
use pv_abi::errno::Errno;
use pv_abi::io::xenstore::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

/// The path of domains' homes.
const HOMES: &str = "/local/domain";

/// The special path whose watches fire when a domain is introduced.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// The special path whose watches fire when a domain is released, or has shut down.
pub const RELEASE_DOMAIN: &str = "@releaseDomain";

/// A domain's home.
pub fn home(domain: u16) -> String {
    format!("{HOMES}/{domain}")
}

/// A path that starts with `/`, or that of a special watch, which starts with `@`. Only characters that the protocol
/// allows are in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Path(String);

/// A path as a client wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The path.
    pub path: Path,
    /// How many bytes of it the client left out: those of its home, and the `/` behind it.
    pub left_out: usize,
}

impl Given {
    /// Checks a path that `domain` wrote.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn parse(bytes: &[u8], domain: u16) -> Result<Given, Errno> {
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-/_@".contains(c);
        let ends_badly = text.ends_with('/') && text != "/";
        if text.is_empty() || !text.chars().all(is_allowed) || text.contains("//") || ends_badly {
            return Err(Errno::EINVAL);
        }
        let is_absolute = text.starts_with(['/', '@']);
        let longest = if is_absolute { XENSTORE_ABS_PATH_MAX } else { XENSTORE_REL_PATH_MAX };
        if text.len() > longest {
            return Err(Errno::EINVAL);
        }
        if is_absolute {
            return Ok(Given { path: Path(text.into()), left_out: 0 });
        }
        let path = format!("{}/{text}", home(domain));
        Ok(Given { left_out: path.len() - text.len(), path: Path(path) })
    }
}

impl Path {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is that of a special watch, which is no node.
    pub fn is_special(&self) -> bool {
        self.0.starts_with('@')
    }

    /// Bytes of it, without those of a home.
    pub fn own_len(&self) -> usize {
        let in_home = self.0.strip_prefix(HOMES).and_then(|rest| rest.strip_prefix('/')?.split_once('/'));
        in_home.map_or(self.0.len(), |(_, rest)| rest.len())
    }

    /// Whether it is that of the root.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names on the way from the root to a node; none for the root.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// A path and all those above it, the root first.
pub fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.match_indices('/').map(|(end, _)| if end == 0 { "/" } else { &path[..end] });
    inner.chain((path != "/").then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn parse(text: &str) -> Option<(String, usize)> {
        Given::parse(text.as_bytes(), 7).ok().map(|given| (given.path.to_string(), given.left_out))
    }

    #[test]
    fn paths_are_checked_and_made_absolute() {
        assert_eq!(parse("/"), Some(("/".into(), 0)));
        assert_eq!(parse("/a/b-c_d@e"), Some(("/a/b-c_d@e".into(), 0)));
        assert_eq!(parse("x/y"), Some(("/local/domain/7/x/y".into(), 16)));
        assert_eq!(parse("@releaseDomain"), Some(("@releaseDomain".into(), 0)));
        for wrong in ["", "/a/", "//", "/a//b", "a/", "/a b", "/ä", "/a\0", "a.b", "/a+"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(parse(&"/a".repeat(1536)).is_some());
        assert!(parse(&"/a".repeat(1537)).is_none());
        assert!(parse(&"a".repeat(2048)).is_some());
        assert!(parse(&"a".repeat(2049)).is_none());
    }

    #[test]
    fn names_and_prefixes() {
        assert_eq!(names("/a/b").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(names("/").count(), 0);
        assert_eq!(prefixes("/a/b").collect::<Vec<_>>(), ["/", "/a", "/a/b"]);
        assert_eq!(prefixes("/").collect::<Vec<_>>(), ["/"]);
        assert_eq!(prefixes("@x").collect::<Vec<_>>(), ["@x"]);
    }
}
