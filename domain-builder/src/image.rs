//! A kernel image that passed every check: where its bytes go, where it starts, and what its notes ask for.
//!
//! Invariant: every address of a [`KernelImage`] is a guest address, and the segments are sorted, disjoint and inside
//! [`KernelImage::pfns`].

use alloc::vec::Vec;

use super::elf::{Elf, Load};
use super::{KernelNotes, PfnRange, Refusal};
use addresses::{GuestVa, PAGE_SHIFT, PAGE_SIZE, Pfn};

/// A checked Xen PV kernel, borrowed from its uncompressed ELF file.
pub struct KernelImage<'a> {
    notes: KernelNotes,
    base: GuestVa,
    entry: GuestVa,
    hypercall_page: Option<Pfn>,
    p2m_address: Option<GuestVa>,
    segments: Vec<Segment<'a>>,
    pfns: PfnRange,
}

/// A stretch of the image's memory.
///
/// Its place counts from the first byte of pfn 0, which is also its distance from VIRT_BASE.
pub struct Segment<'a> {
    /// Where the first byte goes.
    pub start: u64,
    /// Bytes of memory.
    pub memory_len: u64,
    /// The first bytes' contents; the others are zero.
    pub data: &'a [u8],
}

impl<'a> KernelImage<'a> {
    /// Checks an uncompressed kernel file of unknown origin.
    pub fn parse(file: &'a [u8]) -> Result<KernelImage<'a>, Refusal> {
        let elf = Elf::parse(file)?;
        let notes = KernelNotes::read(&elf)?;
        let segments = place_segments(&elf, notes.paddr_offset)?;
        let pfns = covering_pfns(&segments)?;
        let base = check_base(notes.virt_base, pfns)?;
        let room = AddressRoom { base, pfns };
        Ok(KernelImage {
            base,
            entry: room.check_entry(notes.entry.unwrap_or(elf.entry()))?,
            hypercall_page: notes.hypercall_page.map(|address| room.check_hypercall_page(address)).transpose()?,
            p2m_address: notes.init_p2m.map_or(Ok(None), |address| room.check_p2m(address))?,
            notes,
            segments,
            pfns,
        })
    }

    /// What the kernel's ELF notes say.
    pub fn notes(&self) -> &KernelNotes {
        &self.notes
    }

    /// The virtual address of pfn 0, on a page boundary.
    pub fn base(&self) -> GuestVa {
        self.base
    }

    /// The first instruction, inside the image.
    pub fn entry(&self) -> GuestVa {
        self.entry
    }

    /// The page of the image that wants to be filled with hypercall stubs.
    pub fn hypercall_page(&self) -> Option<Pfn> {
        self.hypercall_page
    }

    /// Where the kernel wants its physical-to-machine table. `None`: in the contiguous area, after the image.
    pub fn p2m_address(&self) -> Option<GuestVa> {
        self.p2m_address
    }

    /// The contents, by ascending place.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// The frames from the first segment's start to the last one's end.
    pub fn pfns(&self) -> PfnRange {
        self.pfns
    }
}

/// Places the segments by physical address, and sorts them.
fn place_segments<'a>(elf: &Elf<'a>, paddr_offset: u64) -> Result<Vec<Segment<'a>>, Refusal> {
    let mut segments = elf.loads().map(|load| place(load?, paddr_offset)).collect::<Result<Vec<_>, _>>()?;
    segments.sort_unstable_by_key(|segment| segment.start);
    for pair in segments.windows(2) {
        if let [low, high] = pair
            && high.start - low.start < low.memory_len
        {
            return Err(Refusal::SegmentsOverlap { at: high.start });
        }
    }
    Ok(segments)
}

fn place(load: Load<'_>, paddr_offset: u64) -> Result<Segment<'_>, Refusal> {
    let Load { paddr, memory_len, data } = load;
    let start = paddr.checked_sub(paddr_offset).ok_or(Refusal::SegmentAddress { paddr, len: memory_len })?;
    // The end is rounded up to a page later, which must not overflow either.
    let end = start.checked_add(memory_len).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE as u64));
    end.ok_or(Refusal::SegmentAddress { paddr, len: memory_len })?;
    Ok(Segment { start, memory_len, data })
}

fn covering_pfns(segments: &[Segment<'_>]) -> Result<PfnRange, Refusal> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Err(Refusal::NoSegments) };
    let start = first.start >> PAGE_SHIFT;
    let end = (last.start + last.memory_len).div_ceil(PAGE_SIZE as u64);
    Ok(PfnRange { start: Pfn(start), count: end - start })
}

fn check_base(virt_base: u64, pfns: PfnRange) -> Result<GuestVa, Refusal> {
    check_alignment("VIRT_BASE", virt_base)?;
    GuestVa::new(virt_base)
        .and_then(|base| base.span(pfns.end() << PAGE_SHIFT))
        .ok_or(Refusal::NotGuestRange { what: "kernel image", start: virt_base })
}

fn check_alignment(note: &'static str, address: u64) -> Result<(), Refusal> {
    if address.is_multiple_of(PAGE_SIZE as u64) { Ok(()) } else { Err(Refusal::Misaligned { note, address }) }
}

/// The image's place in the address space: what the notes' addresses are checked against.
struct AddressRoom {
    base: GuestVa,
    pfns: PfnRange,
}

impl AddressRoom {
    /// The frame of the image that an address falls into.
    fn pfn(&self, address: u64) -> Option<Pfn> {
        let pfn = Pfn(address.checked_sub(self.base.get())? >> PAGE_SHIFT);
        self.pfns.contains(pfn).then_some(pfn)
    }

    fn check_entry(&self, address: u64) -> Result<GuestVa, Refusal> {
        let inside = self.pfn(address).and_then(|_| GuestVa::new(address));
        inside.ok_or(Refusal::OutsideImage { note: "ENTRY", address })
    }

    fn check_hypercall_page(&self, address: u64) -> Result<Pfn, Refusal> {
        check_alignment("HYPERCALL_PAGE", address)?;
        self.pfn(address).ok_or(Refusal::OutsideImage { note: "HYPERCALL_PAGE", address })
    }

    /// As Xen's toolstack does, ignores an address that is not on a page boundary or not below VIRT_BASE.
    fn check_p2m(&self, address: u64) -> Result<Option<GuestVa>, Refusal> {
        if self.pfn(address).is_some() {
            return Err(Refusal::P2mOverlap(address));
        }
        if address >= self.base.get() || !address.is_multiple_of(PAGE_SIZE as u64) {
            return Ok(None);
        }
        match GuestVa::new(address) {
            Some(va) => Ok(Some(va)),
            None => Err(Refusal::NotGuestRange { what: "physical-to-machine table", start: address }),
        }
    }
}
