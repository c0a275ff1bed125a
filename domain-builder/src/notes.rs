//! The ELF notes with owner "Xen": what a PV kernel tells its builder. Numbers and meanings: `xen/elfnote.h`.
//!
//! Notes that do not change what a 64-bit PV builder does (PAE_MODE, L1_MFN_VALID, PHYS32_ENTRY, ...) are skipped unread.

use alloc::string::String;

use pv_abi::elfnote;
use pv_abi::features::{FEATURE_NAMES, XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_DOM0, XENFEAT_SUPERVISOR_MODE_KERNEL};

use super::Refusal;
use super::elf::{Elf, NoteArea};
use addresses::HYPERVISOR_START;

/// Features that a kernel must not require. The others that have a name are offered, or mean nothing to a PV domain.
const REFUSED_FEATURES: [u32; 3] = [XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_SUPERVISOR_MODE_KERNEL, XENFEAT_DOM0];
/// Longest part of a note's text that is kept for a message.
const EXCERPT: usize = 48;

/// What the notes of an acceptable kernel say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelNotes {
    /// ENTRY: the first instruction. `None`: use the ELF header's.
    pub entry: Option<u64>,
    /// HYPERCALL_PAGE: where the kernel wants its hypercall stubs. Kernels without it execute `syscall` themselves.
    pub hypercall_page: Option<u64>,
    /// VIRT_BASE: the virtual address of pfn 0.
    pub virt_base: u64,
    /// PADDR_OFFSET: what `p_paddr` says for pfn 0.
    pub paddr_offset: u64,
    /// INIT_P2M: where the kernel wants its physical-to-machine table, away from everything else.
    pub init_p2m: Option<u64>,
    /// MOD_START_PFN: the ramdisk is passed by frame number and need not be mapped.
    pub ramdisk_by_pfn: bool,
    /// GUEST_OS and GUEST_VERSION, made printable, for the log.
    pub guest: String,
}

/// The notes whose text decides between taking and refusing the kernel.
#[derive(Default)]
struct Texts<'a> {
    version: Option<&'a [u8]>,
    loader: Option<&'a [u8]>,
    os: &'a [u8],
    os_version: &'a [u8],
}

impl KernelNotes {
    /// Reads the note segments, or the note sections if no segment has a Xen note, and applies the sanity rules.
    pub(super) fn read(elf: &Elf<'_>) -> Result<KernelNotes, Refusal> {
        let mut notes = KernelNotes::default();
        let mut texts = Texts::default();
        let mut found = false;
        for area in elf.note_segments() {
            found |= notes.take_area(&mut texts, &area?)?;
        }
        if !found {
            for area in elf.note_sections() {
                found |= notes.take_area(&mut texts, &area?)?;
            }
        }
        if !found {
            return Err(Refusal::NoXenNotes);
        }
        notes.judge(&texts)?;
        Ok(notes)
    }

    /// Takes every Xen note of an area; true if there was one.
    fn take_area<'a>(&mut self, texts: &mut Texts<'a>, area: &NoteArea<'a>) -> Result<bool, Refusal> {
        let mut found = false;
        let mut rest = area.bytes;
        while let Some((note, after)) = split_note(rest, area.align)? {
            if note.is_xen() {
                found = true;
                self.take(texts, &note)?;
            }
            rest = after;
        }
        Ok(found)
    }

    fn take<'a>(&mut self, texts: &mut Texts<'a>, note: &Note<'a>) -> Result<(), Refusal> {
        match note.kind {
            elfnote::XEN_ELFNOTE_ENTRY => self.entry = Some(note.number("ENTRY")?),
            elfnote::XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(note.number("HYPERCALL_PAGE")?),
            elfnote::XEN_ELFNOTE_VIRT_BASE => self.virt_base = note.number("VIRT_BASE")?,
            elfnote::XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = note.number("PADDR_OFFSET")?,
            elfnote::XEN_ELFNOTE_XEN_VERSION => texts.version = Some(note.text()),
            elfnote::XEN_ELFNOTE_GUEST_OS => texts.os = note.text(),
            elfnote::XEN_ELFNOTE_GUEST_VERSION => texts.os_version = note.text(),
            elfnote::XEN_ELFNOTE_LOADER => texts.loader = Some(note.text()),
            elfnote::XEN_ELFNOTE_FEATURES => check_features(note.text())?,
            elfnote::XEN_ELFNOTE_HV_START_LOW => check_hypervisor_start(note.number("HV_START_LOW")?)?,
            elfnote::XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(note.number("INIT_P2M")?),
            elfnote::XEN_ELFNOTE_MOD_START_PFN => self.ramdisk_by_pfn = note.number("MOD_START_PFN")? != 0,
            _ => {}
        }
        Ok(())
    }

    fn judge(&mut self, texts: &Texts<'_>) -> Result<(), Refusal> {
        need_prefix("XEN_VERSION", texts.version, "xen-3.0")?;
        // Linux kernels from before the LOADER note are known to load the generic way.
        if texts.os != b"linux" {
            need_prefix("LOADER", texts.loader, "generic")?;
        }
        self.guest = excerpt(texts.os);
        if !texts.os_version.is_empty() {
            self.guest.push(' ');
            self.guest.push_str(&excerpt(texts.os_version));
        }
        Ok(())
    }
}

/// One note of any owner.
struct Note<'a> {
    owner: &'a [u8],
    kind: u32,
    descriptor: &'a [u8],
}

impl<'a> Note<'a> {
    /// The owner's length counts its NUL.
    fn is_xen(&self) -> bool {
        self.owner.strip_suffix(b"\0") == Some(elfnote::OWNER.as_bytes())
    }

    fn number(&self, name: &'static str) -> Result<u64, Refusal> {
        let bytes = self.descriptor;
        if !matches!(bytes.len(), 1 | 2 | 4 | 8) {
            return Err(Refusal::NoteWidth { note: name, width: bytes.len() });
        }
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The text up to a NUL or, as in Debian's FEATURES, up to the descriptor's end.
    fn text(&self) -> &'a [u8] {
        self.descriptor.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Cuts the first note off `bytes`. `None` when not even a note header is left.
fn split_note(bytes: &[u8], align: usize) -> Result<Option<(Note<'_>, &[u8])>, Refusal> {
    let Some((header, rest)) = bytes.split_first_chunk::<12>() else { return Ok(None) };
    let [n0, n1, n2, n3, d0, d1, d2, d3, k0, k1, k2, k3] = *header;
    let owner_len = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
    let descriptor_len = u32::from_le_bytes([d0, d1, d2, d3]) as usize;
    let owner = rest.get(..owner_len).ok_or(Refusal::BrokenNotes)?;
    // Padding counts from the note's start.
    let after_owner = rest.get((owner_len + 12).next_multiple_of(align) - 12..).ok_or(Refusal::BrokenNotes)?;
    let descriptor = after_owner.get(..descriptor_len).ok_or(Refusal::BrokenNotes)?;
    // The last note of an area may lack its padding.
    let after = after_owner.get(descriptor_len.next_multiple_of(align)..).unwrap_or_default();
    Ok(Some((Note { owner, kind: u32::from_le_bytes([k0, k1, k2, k3]), descriptor }, after)))
}

fn need_prefix(note: &'static str, text: Option<&[u8]>, need: &'static str) -> Result<(), Refusal> {
    let text = text.ok_or(Refusal::NoteMissing(note))?;
    if text.starts_with(need.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::NoteValue { note, found: excerpt(text), need })
}

/// Names are separated by `|`. One that begins with `!` is required, the others are only known to the kernel.
fn check_features(text: &[u8]) -> Result<(), Refusal> {
    let required = text.split(|byte| *byte == b'|').filter_map(|name| name.strip_prefix(b"!"));
    let refused = required.into_iter().find(|name| !serves_feature(name));
    refused.map_or(Ok(()), |name| Err(Refusal::Feature(excerpt(name))))
}

fn serves_feature(name: &[u8]) -> bool {
    let known = FEATURE_NAMES.iter().find(|(known, _)| known.as_bytes() == name);
    known.is_some_and(|(_, bit)| !REFUSED_FEATURES.contains(bit))
}

fn check_hypervisor_start(lowest: u64) -> Result<(), Refusal> {
    if HYPERVISOR_START < lowest { Err(Refusal::HypervisorStart { lowest }) } else { Ok(()) }
}

/// Printable, and short enough that an image can't flood the log.
fn excerpt(text: &[u8]) -> String {
    text.iter().take(EXCERPT).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}
