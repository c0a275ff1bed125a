//! The values that fields and command-line options have in common.

use clap::ValueEnum;
use std::{fmt, str::FromStr};

/// An amount of memory in whole MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    mib: u64,
}

impl Memory {
    /// So many MiB.
    pub const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// So many GiB.
    pub const fn gib(gib: u64) -> Self {
        Self { mib: gib << 10 }
    }

    /// The amount in MiB.
    pub const fn as_mib(self) -> u64 {
        self.mib
    }

    /// The amount in pages of 4 KiB.
    pub const fn pages(self) -> u64 {
        self.mib << 8
    }
}

impl FromStr for Memory {
    type Err = String;

    /// Reads "512 MiB" or "4 GiB"; the blank may be missing.
    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = [("MiB", 1), ("GiB", 1 << 10)];
        let parsed = sizes.iter().find_map(|(unit, factor)| {
            let number: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            // Bounded, so that no sum of a file's amounts can overflow.
            number.checked_mul(*factor).filter(|mib| *mib <= 1 << 32)
        });
        parsed.map(Self::mib).ok_or_else(|| "an amount of memory such as \"512 MiB\" or \"4 GiB\"".to_owned())
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mib {
            mib if mib > 0 && mib.is_multiple_of(1 << 10) => write!(f, "{} GiB", mib >> 10),
            mib => write!(f, "{mib} MiB"),
        }
    }
}

/// The program that plays a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// For everything.
    Qemu,
    /// For its CPU models ([`crate::bochs`]): BIOS, and no devices of ours.
    Bochs,
}

/// The firmware that boots the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Firmware {
    /// The old PC BIOS, from an MBR disk.
    Bios,
    /// UEFI, from a GPT disk.
    Uefi,
}

impl Firmware {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bios, Self::Uefi];

    /// As written in machine files and on command lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// QEMU's board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chipset {
    /// i440FX of 1996, with PCI.
    Pc,
    /// Q35 of 2007, with PCI Express.
    Q35,
}

impl Chipset {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Pc, Self::Q35];

    /// As QEMU's `-machine` and machine files have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::Q35 => "q35",
        }
    }
}
