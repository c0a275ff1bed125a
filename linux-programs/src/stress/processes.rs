//! Processes that become another program, several at a time.

use std::path::Path;
use std::process::Command;

/// The argument with which this program only ends, with [`CODE`].
pub const EXIT: &str = "exit";
/// A code that is no accident.
pub const CODE: u8 = 43;

pub fn round(_number: u64, _folder: &Path) -> Result<(), String> {
    let start = |_| Command::new("/proc/self/exe").arg(EXIT).spawn().map_err(|error| format!("no process: {error}"));
    let children = (0..4).map(start).collect::<Result<Vec<_>, _>>()?;
    for mut child in children {
        let status = child.wait().map_err(|error| format!("waiting: {error}"))?;
        if status.code() != Some(CODE.into()) {
            return Err(format!("a program ended with {status}"));
        }
    }
    Ok(())
}
