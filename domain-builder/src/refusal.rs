//! Why a kernel image can't become a domain. Each cause has its own variant, and says so in one line of the boot log.

use alloc::string::String;
use core::fmt;

use addresses::PAGE_SIZE;

/// A start-of-day that was refused; nothing has run yet. [`fmt::Display`] names the note, address or amount at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The file does not begin with the ELF magic.
    NotElf,
    /// The ELF class is not 64-bit.
    Not64Bit,
    /// The ELF data encoding is not little-endian.
    NotLittleEndian,
    /// `e_machine` is not x86-64.
    Machine(u16),
    /// `e_type` is neither an executable nor a position-independent one.
    FileType(u16),
    /// A table that the ELF header points at is cut off or has entries of the wrong size.
    BrokenElf,
    /// A loadable or note segment, or a note section, has bytes outside the file.
    OutsideFile {
        /// Where the bytes would start in the file.
        offset: u64,
        /// How many there would be.
        len: u64,
    },
    /// There is nothing to load.
    NoSegments,
    /// A segment has more bytes in the file than in memory.
    SegmentTooLong {
        /// The segment's `p_paddr`.
        paddr: u64,
    },
    /// A segment lies below the note `PADDR_OFFSET`, or runs over the end of the address space.
    SegmentAddress {
        /// The segment's `p_paddr`.
        paddr: u64,
        /// The segment's `p_memsz`.
        len: u64,
    },
    /// Two segments claim the same byte.
    SegmentsOverlap {
        /// The first byte that both claim, counted from pfn 0.
        at: u64,
    },
    /// The file has no ELF note whose owner is "Xen", so it is no PV kernel.
    NoXenNotes,
    /// A note runs over the end of its segment or section.
    BrokenNotes,
    /// A note that every PV kernel must have is absent.
    NoteMissing(&'static str),
    /// A number note has a width other than 1, 2, 4 or 8 bytes.
    NoteWidth {
        /// The note's name, without `XEN_ELFNOTE_`.
        note: &'static str,
        /// The width found, in bytes.
        width: usize,
    },
    /// A text note has a value that we can't serve.
    NoteValue {
        /// The note's name, without `XEN_ELFNOTE_`.
        note: &'static str,
        /// What it says, made printable and cut to a sensible length.
        found: String,
        /// What it should begin with.
        need: &'static str,
    },
    /// The note `FEATURES` requires a feature that a PV domain does not have.
    Feature(String),
    /// The note `HV_START_LOW` does not let the hypervisor's range start where ours does.
    HypervisorStart {
        /// The lowest start that the kernel can live with.
        lowest: u64,
    },
    /// A note's address is not a multiple of the page size.
    Misaligned {
        /// The note's name, without `XEN_ELFNOTE_`.
        note: &'static str,
        /// Its value.
        address: u64,
    },
    /// A range the domain starts with would be non-canonical, wrap around, or lie in the hypervisor's range.
    NotGuestRange {
        /// What would be there.
        what: &'static str,
        /// Where it would start.
        start: u64,
    },
    /// A note (or `e_entry`, for want of one) points outside the kernel image.
    OutsideImage {
        /// The note's name, without `XEN_ELFNOTE_`.
        note: &'static str,
        /// Its value.
        address: u64,
    },
    /// The note `INIT_P2M` points into the kernel image, or so close below it that the p2m would run into it.
    P2mOverlap(u64),
    /// The domain has less memory than the kernel, the ramdisk and the boot structures take.
    TooSmall {
        /// Pages needed.
        needed: u64,
        /// Pages given.
        given: u64,
    },
    /// The domain has more memory than page tables can name.
    TooLarge(u64),
    /// The command line does not fit `start_info`.
    CommandLine(usize),
    /// The layout was planned for another kernel image or ramdisk.
    OtherPlan,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB_PER_PAGE: u64 = PAGE_SIZE as u64 / 1024;
        match self {
            Refusal::NotElf => f.write_str("not an ELF file"),
            Refusal::Not64Bit => f.write_str("ELF file is not 64-bit"),
            Refusal::NotLittleEndian => f.write_str("ELF file is not little-endian"),
            Refusal::Machine(machine) => write!(f, "ELF machine is {machine}, need 62 (x86-64)"),
            Refusal::FileType(kind) => write!(f, "ELF type is {kind}, need 2 (executable) or 3 (shared)"),
            Refusal::BrokenElf => f.write_str("ELF header or a table it points at is cut off"),
            Refusal::OutsideFile { offset, len } => {
                write!(f, "ELF segment or section at file offset {offset:#x}, {len:#x} bytes, leaves the file")
            }
            Refusal::NoSegments => f.write_str("ELF file has nothing to load"),
            Refusal::SegmentTooLong { paddr } => {
                write!(f, "ELF segment at paddr {paddr:#x} is longer in the file than in memory")
            }
            Refusal::SegmentAddress { paddr, len } => {
                write!(f, "ELF segment at paddr {paddr:#x}, {len:#x} bytes, lies outside memory")
            }
            Refusal::SegmentsOverlap { at } => write!(f, "ELF segments overlap at pseudo-physical address {at:#x}"),
            Refusal::NoXenNotes => f.write_str("ELF file has no Xen notes"),
            Refusal::BrokenNotes => f.write_str("ELF notes are cut off"),
            Refusal::NoteMissing(note) => write!(f, "ELF note {note} is missing"),
            Refusal::NoteWidth { note, width } => {
                write!(f, "ELF note {note} has {width} bytes, need a number of 1, 2, 4 or 8")
            }
            Refusal::NoteValue { note, found, need } => write!(f, "ELF note {note} is '{found}', need '{need}'"),
            Refusal::Feature(name) => write!(f, "ELF note FEATURES requires '{name}', which PV domains do not have"),
            Refusal::HypervisorStart { lowest } => {
                write!(f, "ELF note HV_START_LOW is {lowest:#x}, above the hypervisor's start")
            }
            Refusal::Misaligned { note, address } => {
                write!(f, "ELF note {note} is {address:#x}, not on a page boundary")
            }
            Refusal::NotGuestRange { what, start } => {
                write!(f, "{what} at {start:#x} would leave the guest's address range")
            }
            Refusal::OutsideImage { note, address } => {
                write!(f, "ELF note {note} is {address:#x}, outside the kernel image")
            }
            Refusal::P2mOverlap(address) => {
                write!(f, "ELF note INIT_P2M is {address:#x}: the p2m would overlap the kernel")
            }
            Refusal::TooSmall { needed, given } => {
                write!(f, "needs at least {} KiB of memory, has {} KiB", needed * KIB_PER_PAGE, given * KIB_PER_PAGE)
            }
            Refusal::TooLarge(pages) => write!(f, "{pages:#x} pages of memory are more than page tables can name"),
            Refusal::CommandLine(len) => write!(f, "command line has {len} bytes, at most 1023 fit"),
            Refusal::OtherPlan => f.write_str("layout was planned for another kernel or ramdisk"),
        }
    }
}

impl core::error::Error for Refusal {}
