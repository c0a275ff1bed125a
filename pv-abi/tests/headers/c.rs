//! Makes, compiles and runs the C program, and compares.

use std::path::Path;
use std::process::Command;

use crate::table::Row;

const HEADERS: &str = "/usr/include/xen";

/// `__XEN_TOOLS__` selects the newest interface and shows what only toolstacks use.
const PROLOGUE: &str = r#"
#define __XEN_TOOLS__ 1
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/version.h>
#include <xen/features.h>
#include <xen/elfnote.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/sched.h>
#include <xen/memory.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/vcpu.h>
#include <xen/callback.h>
#include <xen/physdev.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/io/ring.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
#include <xen/io/xenbus.h>
#include <xen/io/protocols.h>
#include <xen/io/blkif.h>
#include <xen/io/netif.h>

/* The macro is assembly, so let the assembler turn it into bytes. */
__asm__(".data\nemulate_prefix: " XEN_EMULATE_PREFIX "\n.text");
extern const unsigned char emulate_prefix[];

#define V(expression) printf("%lld\n", (long long)(expression))
int main(void)
{
"#;

/// Describes each row whose C expression does not have the Rust value. `name` names the program's files.
pub fn disagreements(rows: &[Row], name: &str) -> Vec<String> {
    let values = run(&program(rows), name);
    assert_eq!(values.len(), rows.len(), "the C program printed another number of values");
    rows.iter()
        .zip(values)
        .filter(|(row, c)| row.rust != *c)
        .map(|(row, c)| format!("{}: {:#x} here, but {} is {c:#x}", row.what, row.rust, row.c))
        .collect()
}

fn program(rows: &[Row]) -> String {
    let mut text = PROLOGUE.to_string();
    for row in rows {
        text += &format!("    V({});\n", row.c);
    }
    text + "    return 0;\n}\n"
}

/// Compiles and runs the program. Panics with advice if it can't: a check that is skipped is no check.
fn run(program: &str, name: &str) -> Vec<i64> {
    assert!(
        Path::new(HEADERS).join("xen.h").exists(),
        "the Xen headers are not in {HEADERS}: install the package libxen-dev (4.17)"
    );
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join(format!("headers-{name}.c"));
    let binary = directory.join(format!("headers-{name}"));
    std::fs::write(&source, program).expect("can't write the C program");
    let compiler = Command::new("cc")
        .args(["-std=gnu11", "-w", "-o"])
        .args([&binary, &source])
        .output()
        .expect("can't run cc: install the package gcc");
    assert!(
        compiler.status.success(),
        "the C program does not compile; the headers must be those of libxen-dev 4.17:\n{}",
        String::from_utf8_lossy(&compiler.stderr)
    );
    let output = Command::new(&binary).output().expect("can't run the C program");
    assert!(output.status.success(), "the C program failed: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("the C program prints numbers");
    text.lines().map(|line| line.parse().expect("the C program prints numbers")).collect()
}
