//! A file that is written, flushed and read again.

use super::Numbers;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

pub fn round(number: u64, folder: &Path) -> Result<(), String> {
    let path = folder.join(format!("linux-stress-{}", number % 4));
    let result = write_and_read(number, &path);
    // A worker that failed leaves its file for who looks into it.
    if result.is_ok() {
        fs::remove_file(&path).map_err(|error| format!("removing: {error}"))?;
    }
    result
}

fn write_and_read(number: u64, path: &Path) -> Result<(), String> {
    let words = |what: &'static str| move |error| format!("{what}: {error}");
    let length = 64 << (number % 8);
    let contents = Numbers::new(number).bytes(length << 7);
    let sum = crc32fast::hash(&contents);
    let mut file = File::create_new(path).map_err(words("creating"))?;
    file.write_all(&contents).map_err(words("writing"))?;
    file.sync_all().map_err(words("flushing"))?;
    drop((file, contents));

    let mut file = File::open(path).map_err(words("opening"))?;
    let mut read = Vec::new();
    file.read_to_end(&mut read).map_err(words("reading"))?;
    file.rewind().map_err(words("seeking"))?;
    if crc32fast::hash(&read) == sum { Ok(()) } else { Err("the file has other contents".to_owned()) }
}
