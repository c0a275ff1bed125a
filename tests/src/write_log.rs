//! What a disk that loses power keeps, by QEMU's log of its writes (driver `blklogwrites`, the format of Linux's target
//! `log-writes`): what was written before the last flush. What was written later may be lost, so it is. Pure.

use anyhow::{Context, Result, ensure};

/// The first word of the first sector.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// An entry's flags.
const FLUSH: u64 = 1 << 0;
const DISCARD: u64 = 1 << 2;

/// Applies to `disk`, which has what it had in the beginning, the writes of `log` up to its last flush. Returns how many
/// flushes there were.
///
/// # Errors
/// When the log makes no sense.
pub fn replay(log: &[u8], disk: &mut [u8]) -> Result<usize> {
    // QEMU writes the head with the first flush.
    let Some(head) = log.get(..32).filter(|head| head.iter().any(|byte| *byte != 0)) else { return Ok(0) };
    ensure!((word(head, 0), word(head, 1)) == (MAGIC, VERSION), "not a log of writes");
    let sector = usize::try_from(word(head, 3) & 0xffff_ffff)?;
    ensure!(sector >= 512 && sector.is_power_of_two(), "sectors of {sector} bytes");
    let (mut at, mut flushes) = (sector, 0);
    // Writes since the last flush: place on the disk, data.
    let mut waiting: Vec<(usize, &[u8])> = Vec::new();
    // The head was written with the last flush, if not later: entries that it doesn't count are lost anyway.
    for _ in 0..word(head, 2) {
        let entry = log.get(at..at + 32).context("the log is too short")?;
        let (place, sectors, flags) = (word(entry, 0), word(entry, 1), word(entry, 2));
        let (place, bytes) = (usize::try_from(place)? * sector, usize::try_from(sectors)? * sector);
        ensure!(flags & DISCARD == 0, "a discard");
        at += sector;
        let data = log.get(at..at + bytes).context("the log is too short")?;
        at += bytes;
        if bytes > 0 {
            waiting.push((place, data));
        }
        if flags & FLUSH != 0 {
            flushes += 1;
            for (place, data) in waiting.drain(..) {
                disk.get_mut(place..place + data.len()).context("a write beyond the disk")?.copy_from_slice(data);
            }
        }
    }
    Ok(flushes)
}

/// The word with this number; it is there.
fn word(bytes: &[u8], number: usize) -> u64 {
    let bytes = bytes.get(8 * number..8 * number + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: [u64; 4]) -> Vec<u8> {
        let mut sector: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        sector.resize(512, 0);
        sector
    }

    fn write(place: u64, data: u8) -> Vec<u8> {
        [sector([place, 1, 0, 0]), vec![data; 512]].concat()
    }

    fn flush() -> Vec<u8> {
        sector([0, 0, FLUSH, 0])
    }

    fn log(entries: &[Vec<u8>]) -> Vec<u8> {
        [sector([MAGIC, VERSION, entries.len() as u64, 512]), entries.concat()].concat()
    }

    fn kept(entries: &[Vec<u8>]) -> (usize, Vec<u8>) {
        let mut disk = vec![0; 2048];
        let flushes = replay(&log(entries), &mut disk).unwrap();
        (flushes, disk.chunks(512).map(|sector| sector[0]).collect())
    }

    #[test]
    fn what_was_written_before_a_flush_is_kept() {
        assert_eq!(replay(&[], &mut []).unwrap(), 0);
        assert_eq!(replay(&[[0; 512].to_vec(), write(0, 1)].concat(), &mut []).unwrap(), 0);
        assert_eq!(kept(&[]), (0, vec![0; 4]));
        assert_eq!(kept(&[write(0, 1), write(2, 2)]), (0, vec![0; 4]));
        let entries = [write(0, 1), write(2, 2), write(2, 3), flush(), write(1, 4)];
        assert_eq!(kept(&entries), (1, vec![1, 0, 3, 0]));
        assert_eq!(kept(&[entries.concat(), flush()]), (0, vec![0; 4]), "no more entries than the head says");
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut disk = [0; 512];
        assert!(replay(&[1; 4096], &mut disk).is_err());
        let log = log(&[write(1, 1), flush()]);
        assert!(replay(&log, &mut disk).is_err(), "beyond the disk");
        assert!(replay(&log[..log.len() - 600], &mut [0; 2048]).is_err());
    }
}
