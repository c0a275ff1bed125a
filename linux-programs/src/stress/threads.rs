//! Threads that hand numbers to each other and count together.

use super::Numbers;
use std::path::Path;
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;

const THREADS: u64 = 6;
const NUMBERS: u64 = 500;

pub fn round(number: u64, _folder: &Path) -> Result<(), String> {
    let (sender, receiver) = mpsc::sync_channel(3);
    let total = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let start = Arc::new(Barrier::new(usize::try_from(THREADS).map_err(|error| error.to_string())?));
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let (sender, total, start) = (sender.clone(), Arc::clone(&total), Arc::clone(&start));
            thread::spawn(move || {
                let mut numbers = Numbers::new(number ^ index);
                start.wait();
                for _ in 0..NUMBERS {
                    // The receiver lives as long as there are senders.
                    _ = sender.send(numbers.next());
                    *total.0.lock().expect("nobody panics with the lock") += 1;
                    total.1.notify_one();
                }
            })
        })
        .collect();
    drop(sender);
    let sum = receiver.iter().fold(0_u64, u64::wrapping_add);
    let counted = total.0.lock().expect("nobody panics with the lock");
    let counted = *total.1.wait_while(counted, |count| *count < THREADS * NUMBERS).expect("nobody panics with it");
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    let expected = (0..THREADS)
        .flat_map(|index| {
            let mut numbers = Numbers::new(number ^ index);
            (0..NUMBERS).map(move |_| numbers.next())
        })
        .fold(0_u64, u64::wrapping_add);
    if (sum, counted) == (expected, THREADS * NUMBERS) {
        Ok(())
    } else {
        Err(format!("{counted} numbers with the sum {sum:#x}, not {expected:#x}"))
    }
}
