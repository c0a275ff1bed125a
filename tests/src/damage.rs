//! Ways to spoil a file: what a bad disk, a cut-off download or a wrong build leaves. Pure.

use anyhow::{Context, Result, ensure};
use boot_archive::Archive;

/// Something wrong with a file.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// The second half is missing.
    Half,
    /// A bit of this byte is wrong.
    Byte(usize),
    /// One text is another of the same length, wherever it stands.
    Text(&'static [u8], &'static [u8]),
    /// In a boot archive: a bit in the middle of this domain's kernel is wrong.
    KernelOf(&'static str),
}

impl Damage {
    /// Does it.
    ///
    /// # Errors
    /// When the file has nothing to damage in that way.
    pub fn apply(self, file: &mut Vec<u8>) -> Result<()> {
        match self {
            Damage::Half => file.truncate(file.len() / 2),
            Damage::Byte(at) => *file.get_mut(at).context("the file is too short")? ^= 1,
            Damage::Text(old, new) => replace(file, old, new)?,
            Damage::KernelOf(domain) => {
                let archive = Archive::parse(file)?;
                let domain = archive.config().domains.iter().find(|other| other.name == domain);
                let kernel = domain.context("there is no such domain")?.kernel;
                Damage::Byte(usize::try_from(kernel.offset + kernel.len / 2)?).apply(file)?;
            }
        }
        Ok(())
    }
}

fn replace(file: &mut [u8], old: &[u8], new: &[u8]) -> Result<()> {
    ensure!(old.len() == new.len(), "'{}' has another length", new.escape_ascii());
    let places: Vec<usize> = (0..file.len()).filter(|at| file[*at..].starts_with(old)).collect();
    ensure!(!places.is_empty(), "'{}' is not in the file", old.escape_ascii());
    places.into_iter().for_each(|at| file[at..at + new.len()].copy_from_slice(new));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_archive::{
        ArchiveWriter, BlobError, BootConfig, ConsoleConfig, DomainConfig, LogLevel, Scheduling, WhenAllStopped, Xpti,
    };

    fn damaged(damage: Damage, file: &[u8]) -> Result<Vec<u8>> {
        let mut file = file.to_vec();
        damage.apply(&mut file)?;
        Ok(file)
    }

    #[test]
    fn files() {
        assert_eq!(damaged(Damage::Half, b"abcd").unwrap(), b"ab");
        assert_eq!(damaged(Damage::Byte(1), b"abcd").unwrap(), b"accd");
        assert!(damaged(Damage::Byte(4), b"abcd").is_err());
        assert_eq!(damaged(Damage::Text(b"bc", b"xy"), b"abcbcd").unwrap(), b"axyxyd");
        assert!(damaged(Damage::Text(b"xx", b"yy"), b"abcd").is_err());
        assert!(damaged(Damage::Text(b"b", b"yy"), b"abcd").is_err());
    }

    #[test]
    fn a_kernel_in_an_archive() {
        let mut writer = ArchiveWriter::new();
        let mut domain = |name: &str| DomainConfig {
            name: name.to_owned(),
            control: false,
            command_line: String::new(),
            memory_pages: 1,
            vcpus: 1,
            scheduling: Scheduling::default(),
            kernel: writer.add(name.as_bytes()),
            ramdisk: None,
            disks: Vec::new(),
            networks: Vec::new(),
        };
        let domains = vec![domain("good"), domain("bad")];
        let console = ConsoleConfig { log_level: LogLevel::Info };
        let when_all_stopped = WhenAllStopped::Stay;
        let config = BootConfig { console, when_all_stopped, xpti: Xpti::Auto, domains, symbols: None };
        let archive = damaged(Damage::KernelOf("bad"), &writer.finish(config).unwrap()).unwrap();

        let archive = Archive::parse(&archive).unwrap();
        let [good, bad] = &archive.config().domains[..] else { panic!("two domains") };
        assert_eq!(archive.blob(&good.kernel), Ok(&b"good"[..]));
        assert!(matches!(archive.blob(&bad.kernel), Err(BlobError::Checksum { .. })));
        assert!(damaged(Damage::KernelOf("bad"), b"no archive").is_err());
    }
}
