//! The suites, in the order in which they run. A new one is a file with a function that lists its tests, and a line in
//! [`all`].

mod abi;
mod bad_input;
mod boot;
mod crash;
mod devices;
mod dom0;
mod domains;
mod events;
mod grants;
mod host;
mod hostile;
mod io;
mod isolation;
mod lint;
mod linux;
mod machine_files;
mod mmu;
mod models;
mod network;
mod oracle;
mod panic;
mod ramdisk;
mod sched;
mod shares;
mod store;

use crate::suite::Test;
use anyhow::Result;

/// All tests; with `full`, the matrices of machines have no holes, and the tests that take minutes are there.
///
/// # Errors
/// When a file that names tests can't be read.
pub fn all(full: bool) -> Result<Vec<Test>> {
    let mut tests = lint::tests();
    tests.extend(host::tests());
    tests.extend(machine_files::tests());
    tests.extend(boot::tests(full));
    tests.extend(bad_input::tests());
    tests.extend(ramdisk::tests());
    tests.extend(crash::tests()?);
    tests.extend(domains::tests()?);
    tests.extend(devices::tests()?);
    tests.extend(dom0::tests());
    tests.extend(io::tests());
    tests.extend(store::tests());
    tests.extend(hostile::tests(full));
    tests.extend(linux::tests(full));
    tests.extend(panic::tests());
    tests.extend(abi::tests()?);
    tests.extend(mmu::tests()?);
    tests.extend(network::tests(full));
    tests.extend(isolation::tests(full)?);
    tests.extend(models::tests(full)?);
    tests.extend(events::tests()?);
    tests.extend(grants::tests()?);
    tests.extend(sched::tests(full)?);
    tests.extend(shares::tests());
    tests.extend(oracle::tests()?);
    Ok(tests)
}
