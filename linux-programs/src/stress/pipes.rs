//! A stream of bytes through a chain of processes, each of which changes them.

use super::{Numbers, failed};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, pipe};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::exit;

/// Processes in the chain.
const LENGTH: u8 = 3;

pub fn round(number: u64, _folder: &Path) -> Result<(), String> {
    let bytes = Numbers::new(number).bytes(100_000);
    let mut children = Vec::new();
    let mut from: Option<File> = None;
    for _ in 0..=LENGTH {
        let (end, to) = pipe().map_err(failed("pipe"))?;
        // SAFETY: this process has one thread, so the child may do what the parent may.
        match unsafe { fork() }.map_err(failed("fork"))? {
            ForkResult::Child => {
                drop(end);
                let passed = match from {
                    None => File::from(to).write_all(&bytes),
                    Some(from) => pass(from, to.into()),
                };
                exit(i32::from(passed.is_err()));
            }
            ForkResult::Parent { child } => children.push(child),
        }
        from = Some(end.into());
    }
    let mut arrived = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut arrived).map_err(|error| format!("reading: {error}"))?;
    }
    for child in children {
        if waitpid(child, None) != Ok(WaitStatus::Exited(child, 0)) {
            return Err("a process of the chain failed".to_owned());
        }
    }
    if arrived.len() == bytes.len() && arrived.iter().zip(&bytes).all(|(to, from)| *to == from.wrapping_add(LENGTH)) {
        Ok(())
    } else {
        Err(format!("{} bytes arrived of {}, or others", arrived.len(), bytes.len()))
    }
}

/// Passes bytes on, each greater by one.
fn pass(mut from: File, mut to: File) -> std::io::Result<()> {
    let mut buffer = [0; 3000];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        buffer[..count].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        to.write_all(&buffer[..count])?;
    }
}
