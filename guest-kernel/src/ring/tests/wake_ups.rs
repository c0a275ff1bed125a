//! Both sides as threads under `shuttle`, which runs one at a time and switches between them at every access to a shared
//! word. Each sleeps when it found nothing, until the other rings. If a wake-up is lost both sleep, which `shuttle` sees.

use super::*;
use shuttle::sync::atomic::AtomicU32 as Word;
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

const REQUESTS: u32 = 5;
/// Fewer than the requests, so that the frontend waits for room.
const ROOM: u32 = 2;

#[derive(Clone)]
struct Memory(Arc<Vec<Word>>);

impl SharedMemory for Memory {
    fn words(&self) -> usize {
        self.0.len()
    }

    fn load(&self, word: usize, _: Ordering) -> u32 {
        self.0[word].load(Ordering::SeqCst)
    }

    fn store(&self, word: usize, value: u32, _: Ordering) {
        self.0[word].store(value, Ordering::SeqCst);
    }

    /// All accesses are in one order here.
    fn barrier(&self) {}
}

/// An event channel: it stays rung until somebody waits.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Bell {
        Bell(Arc::new((Mutex::new(false), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.0.0.lock().unwrap();
        while !*rung {
            rung = self.0.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn run() {
    let memory = Memory(Arc::new((0..16 + ROOM * 7).map(|_| Word::new(0)).collect()));
    let (mut front, mut back) = ring(memory, 0);
    let (to_back, to_front) = (Bell::new(), Bell::new());
    let (rung, ringing) = (to_back.clone(), to_front.clone());
    let backend = thread::spawn(move || {
        let mut answered = 0;
        while answered < REQUESTS {
            match back.take().unwrap() {
                Some([value, ..]) => {
                    back.respond(&response(value));
                    answered += 1;
                    // Now and then two answers at once.
                    if (answered % 3 != 1 || answered == REQUESTS) && back.publish() {
                        ringing.ring();
                    }
                }
                None => {
                    if back.publish() {
                        ringing.ring();
                    }
                    if !back.arm().unwrap() {
                        rung.wait();
                    }
                }
            }
        }
    });
    let (mut sent, mut seen) = (0, 0);
    while seen < REQUESTS {
        while sent < REQUESTS && front.push(&request(sent)).is_some() {
            sent += 1;
        }
        if front.publish() {
            to_back.ring();
        }
        match front.take().unwrap() {
            Some([value, ..]) => {
                assert_eq!(value, seen);
                seen += 1;
            }
            None => {
                if !front.arm(1 + seen % 2).unwrap() {
                    to_front.wait();
                }
            }
        }
    }
    backend.join().unwrap();
}

#[test]
fn no_wake_up_is_lost() {
    shuttle::check_random(run, 3_000);
    shuttle::check_pct(run, 2_000, 3);
}
