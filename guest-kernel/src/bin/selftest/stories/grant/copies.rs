//! Copies by the hypervisor.

use super::*;
use crate::check::holds;
use guest_kernel::grant::{End, copy_request};
use guest_kernel::hypercall::mmuext::pin;

fn copy(source: End, dest: End, len: u16) -> Result<i16, Ending> {
    let mut request = GnttabCopy { status: 77, ..copy_request(source, dest, len) };
    op(GNTTABOP_COPY, &mut request).map_err(refusal)?;
    Ok(request.status)
}

fn frame(page: Page, offset: u16) -> End {
    End::Frame { mfn: page.mfn, offset }
}

fn by(grant: &Grant, offset: u16) -> Result<End, Ending> {
    Ok(End::Grant { domain: own_id()?, reference: grant.reference(), offset })
}

/// Between grants and frames, in all four ways, and nothing but what was asked for.
pub fn copies() -> Told {
    let (source, dest) = (patterned(1), patterned(2));
    let from = granted(source, Access::Read)?;
    let to = granted(dest, Access::Write)?;
    let ways = [
        (by(&from, 16)?, by(&to, 1024)?),
        (frame(source, 16), by(&to, 1024)?),
        (by(&from, 16)?, frame(dest, 1024)),
        (frame(source, 16), frame(dest, 1024)),
    ];
    for (n, (source, dest_end)) in ways.into_iter().enumerate() {
        (0..512).for_each(|index| dest.write(index, 2 << 32 | index as u64));
        let what = format!("way {n}");
        equal(&what, copy(source, dest_end, 64)?, GNTST_OKAY)?;
        for index in 0..512 {
            let inside = (128..136).contains(&index);
            let want = if inside { (1 << 32) | (index as u64 - 126) } else { (2 << 32) | index as u64 };
            equal(&what, dest.read(index), want)?;
        }
        holds("nothing is in use", flags(&from)? & GTF_READING == 0 && flags(&to)? & GTF_READING == 0)?;
    }
    equal("all of it", copy(by(&from, 0)?, by(&to, 0)?, 4096)?, GNTST_OKAY)?;
    holds("all of it", (0..512).all(|index| dest.read(index) == source.read(index)))?;
    dest.write(0, 0x0807_0605_0403_0201);
    equal("odd bytes", copy(frame(dest, 1), by(&to, 10)?, 3)?, GNTST_OKAY)?;
    equal("odd bytes", dest.read(1), 0x0000_0004_0302_0001)?;
    equal("none", copy(frame(source, 4096), by(&to, 4096)?, 0)?, GNTST_OKAY)?;
    ended(from)?;
    ended(to)
}

/// What is refused, and that nothing is in use after it.
pub fn refusals() -> Told {
    let (source, dest) = (patterned(1), patterned(2));
    let from = granted(source, Access::Read)?;
    let to = granted(dest, Access::Write)?;
    let own = own_id()?;
    let foreign = |domain, reference| End::Grant { domain, reference, offset: 0 };
    for (what, source_end, dest_end, len, status) in [
        ("behind the end", by(&from, 4095)?, frame(dest, 0), 2, GNTST_BAD_COPY_ARG),
        ("behind the other's end", by(&from, 0)?, frame(dest, 4000), 97, GNTST_BAD_COPY_ARG),
        ("more than a frame", frame(source, 0), by(&to, 0)?, 4097, GNTST_BAD_COPY_ARG),
        ("far offsets", frame(source, 0xffff), by(&to, 0xffff)?, 0xffff, GNTST_BAD_COPY_ARG),
        ("to a grant for reading", frame(dest, 0), by(&from, 0)?, 8, GNTST_GENERAL_ERROR),
        ("no such domain", foreign(STRANGER, 8), frame(dest, 0), 8, GNTST_BAD_DOMAIN),
        ("no such reference", foreign(own, 0xff_ffff), frame(dest, 0), 8, GNTST_BAD_GNTREF),
        ("no grant", foreign(own, to.reference() + 400), frame(dest, 0), 8, GNTST_GENERAL_ERROR),
        ("no such destination", frame(source, 0), foreign(own, 0xff_ffff), 8, GNTST_BAD_GNTREF),
        ("no frame", End::Frame { mfn: 0xff_ffff_ffff, offset: 0 }, frame(dest, 0), 8, GNTST_BAD_PAGE),
        ("no frame to copy to", frame(source, 0), End::Frame { mfn: u64::MAX, offset: 0 }, 8, GNTST_BAD_PAGE),
    ] {
        equal(what, copy(source_end, dest_end, len)?, status)?;
        let used = (flags(&from)? | flags(&to)?) & (GTF_READING | GTF_WRITING);
        equal(&format!("{what}: in use"), used, 0)?;
    }
    // A frame in another's name.
    let mut request = copy_request(frame(source, 0), frame(dest, 0), 8);
    request.source.domid = own;
    equal("call", op(GNTTABOP_COPY, &mut request), Ok(0))?;
    equal("a frame in a domain's name", request.status, GNTST_PERMISSION_DENIED)?;

    // A page table may be read by whom it was granted to, and written by nobody.
    let table = Page::read_only(&[])?;
    equal("pin", operate(pin(1, table.mfn)), Ok(0))?;
    let as_table = granted(table, Access::Write)?;
    equal("to a table", copy(frame(source, 0), frame(table, 0), 8)?, GNTST_GENERAL_ERROR)?;
    equal("to a granted table", copy(frame(source, 0), by(&as_table, 0)?, 8)?, GNTST_GENERAL_ERROR)?;
    equal("from a table", copy(by(&as_table, 0)?, frame(dest, 0), 8)?, GNTST_OKAY)?;
    equal("the table", table.read(0), 0)?;
    ended(as_table)?;
    equal("the destination", dest.read(1), 2 << 32 | 1)?;
    ended(from)?;
    ended(to)
}

/// A long list, in which some are refused.
pub fn lists() -> Told {
    let (source, dest) = (patterned(1), patterned(2));
    let from = granted(source, Access::Read)?;
    let to = granted(dest, Access::Write)?;
    let good = |n: u16| n % 5 != 2;
    let mut list = alloc::vec::Vec::new();
    for n in 0..400u16 {
        let source = if good(n) { by(&from, 8 * n)? } else { by(&from, 4096)? };
        list.push(GnttabCopy { status: 77, ..copy_request(source, by(&to, 8 * n)?, 8) });
    }
    // SAFETY: the pages are the story's.
    equal("copy", unsafe { hypercall::grant_copy(&mut list) }, Ok(0))?;
    for (n, done) in (0..).zip(&list) {
        equal("status", done.status, if good(n) { GNTST_OKAY } else { GNTST_BAD_COPY_ARG })?;
        let seed = if good(n) { 1 } else { 2 };
        equal("word", dest.read(n.into()), seed << 32 | u64::from(n))?;
    }
    ended(from)?;
    ended(to)
}
