//! Compares the crate with Debian's `libxen-dev` headers: the value of every constant and flag, the size of every
//! struct, the offset and size of every field.
//!
//! The rows are in `guest`, `resources`, `control` and `io`: one line each, with the Rust item on the left and its C
//! expression on the right. From all rows one C program is made, compiled against `/usr/include/xen` and run; then its
//! values are compared. Forgetting a row fails as well: a struct row must name all fields to compile, a set of flags is
//! compared with its own list, and the sources are searched for public items that no row names.

mod c;
mod control;
mod coverage;
mod guest;
mod io;
mod resources;
mod table;

use pv_abi::cpuid::XEN_EMULATE_PREFIX;
use pv_abi::errno::Errno;
use pv_abi::io::xenbus::XEN_IO_PROTO_ABI_X86_64;
use pv_abi::io::xenstore::XSD_ERRORS;

use crate::table::Table;

/// Public items without a counterpart in the headers, or compared by [`add_text`]; and why.
const NO_ROW: &[(&str, &str)] = &[
    ("elfnote::OWNER", "text that the headers only describe"),
    ("features::FEATURE_NAMES", "text from the toolstack's ELF loader"),
    ("memory::E820Entry", "a BIOS format"),
    ("memory::E820_RAM", "a BIOS number"),
    ("memory::E820_RESERVED", "a BIOS number"),
    ("mmu::MMU_UPDATE_COMMAND_MASK", "the headers only describe it"),
    ("mmu::MMU_UPDATE_PREEMPTED", "used by guests and hypervisors, but in no public header"),
    ("cpuid::XEN_EMULATE_PREFIX", "bytes, compared by add_text"),
    ("xenbus::XEN_IO_PROTO_ABI_X86_64", "text, compared by add_text"),
    ("xenstore::XSD_ERRORS", "a table, compared by add_text"),
    ("errno::Errno", "an enum, compared whole by add_errno"),
];

fn all_rows() -> Table {
    let mut table = Table::default();
    guest::add(&mut table);
    resources::add(&mut table);
    control::add(&mut table);
    io::add(&mut table);
    add_errno(&mut table);
    add_text(&mut table);
    table
}

/// Every error that exists in Rust, by name.
fn add_errno(table: &mut Table) {
    for errno in Errno::ALL {
        table.value(format!("{errno:?}"), errno.number().into(), format!("XEN_{errno:?}"));
    }
}

/// Strings, and the tables of them.
fn add_text(table: &mut Table) {
    let equal = |text: &str, c: &str| format!("!strcmp({c}, \"{text}\")");
    table.value("protocol name".into(), 1, equal(XEN_IO_PROTO_ABI_X86_64, "XEN_IO_PROTO_ABI_X86_64"));
    for (i, byte) in XEN_EMULATE_PREFIX.into_iter().enumerate() {
        table.value(format!("emulate prefix byte {i}"), byte.into(), format!("emulate_prefix[{i}]"));
    }
    let count = "sizeof(xsd_errors) / sizeof(xsd_errors[0])";
    table.value("number of XenStore errors".into(), XSD_ERRORS.len() as i64, count.into());
    for (i, (errno, name)) in XSD_ERRORS.into_iter().enumerate() {
        table.value(format!("XenStore error {i}"), errno.number().into(), format!("xsd_errors[{i}].errnum"));
        table.value(format!("XenStore error {i} name"), 1, equal(name, &format!("xsd_errors[{i}].errstring")));
    }
}

#[test]
fn the_crate_agrees_with_the_c_headers() {
    let wrong = c::disagreements(all_rows().rows(), "all");
    assert!(wrong.is_empty(), "{} items differ from the C headers:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_wrong_row_is_found() {
    let mut table = Table::default();
    table.value("right".into(), 29, "__HYPERVISOR_sched_op".into());
    table.value("wrong".into(), 28, "__HYPERVISOR_sched_op".into());
    table.value("wrong sign".into(), 0xffff_ffff, "-1".into());
    let wrong = c::disagreements(table.rows(), "wrong");
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].starts_with("wrong: "), "{wrong:?}");
}

#[test]
fn every_public_item_has_a_row() {
    let (missing, stale) = coverage::gaps(&all_rows(), NO_ROW);
    assert!(missing.is_empty(), "no row for {missing:#?}");
    assert!(stale.is_empty(), "NO_ROW names items that don't exist: {stale:#?}");
}
