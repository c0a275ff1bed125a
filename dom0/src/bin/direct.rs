//! Measures what it costs domain 0 itself to read a disk, for `./x bench io`: the same reads as those of the bench guest, and
//! printed in the same way, but with no back end and no frontend in between.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod kernel {
    use alloc::vec::Vec;
    use dom0::block::virtio::{self, VirtioDisk};
    use dom0::block::{Chunk, Disk, Operation};
    use dom0::service::{self, Full, Next, Service};
    use guest_kernel::memory::Run;
    use guest_kernel::probe::rdtsc;
    use guest_kernel::start::command_line;
    use guest_kernel::verdict::{Outcome, Verdict};
    use guest_kernel::{StartInfo, cmdline, entry, exit, memory, println};

    entry!(main);

    /// The reads: name, bytes of each, and how many are under way at a time.
    const ROWS: [(&str, u32, usize); 4] = [
        ("direct-read-4k-depth-1", 4 << 10, 1),
        ("direct-read-4k-depth-32", 4 << 10, 32),
        ("direct-read-64k-depth-1", 64 << 10, 1),
        ("direct-read-64k-depth-32", 64 << 10, 32),
    ];
    const MAX_DEPTH: usize = 32;
    /// Pages of a buffer.
    const PAGES: usize = 16;

    fn main(_info: &'static StartInfo) -> ! {
        let services = service::services().unwrap_or_else(|error| panic!("events: {error:?}"));
        let added = services.add(|waker| {
            let functions = virtio::functions().unwrap_or_default();
            let function = functions.first().unwrap_or_else(|| panic!("there is no disk"));
            let disk = VirtioDisk::open(function, waker).unwrap_or_else(|error| panic!("the disk: {error}"));
            Ok::<_, Full>((Reader::new(disk), ()))
        });
        added.unwrap_or_else(|Full| panic!("a service has no place"));
        service::run(&services)
    }

    fn option(name: &str, otherwise: u64) -> u64 {
        cmdline::option(command_line(), name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    }

    struct Reader {
        disk: VirtioDisk,
        buffers: Vec<Run>,
        free: Vec<usize>,
        /// The row, and batches of it that are left.
        row: usize,
        left: u64,
        /// Operations of a batch; begun and done of this one.
        operations: u64,
        begun: u64,
        done: u64,
        /// The first sector of the next piece.
        next: u64,
        started: u64,
        best: u64,
    }

    impl Reader {
        fn new(disk: VirtioDisk) -> Reader {
            let mut memory = memory::lock().unwrap_or_else(|error| panic!("memory: {error}"));
            let buffer = |_| memory.allocate_run(PAGES).unwrap_or_else(|error| panic!("memory: {error}"));
            let buffers = (0..MAX_DEPTH).map(buffer).collect();
            let operations = option("operations", 256);
            let mut reader = Reader {
                disk,
                buffers,
                free: Vec::new(),
                row: 0,
                left: 0,
                operations,
                begun: 0,
                done: 0,
                next: 0,
                started: 0,
                best: u64::MAX,
            };
            reader.begin_row(0);
            reader
        }

        fn begin_row(&mut self, row: usize) {
            // The first batch doesn't count.
            (self.row, self.left, self.best) = (row, option("batches", 8) + 1, u64::MAX);
            self.free = (0..ROWS[row].2).collect();
            self.begin_batch();
        }

        fn begin_batch(&mut self) {
            (self.begun, self.done, self.started) = (0, 0, rdtsc());
        }

        fn end_batch(&mut self) {
            let ticks = rdtsc() - self.started;
            self.left -= 1;
            if self.left < option("batches", 8) {
                self.best = self.best.min(ticks);
            }
            if self.left > 0 {
                return self.begin_batch();
            }
            println!("bench: disk {} {} {}", ROWS[self.row].0, self.best, self.operations);
            if self.row + 1 == ROWS.len() {
                exit::finish(&Verdict { story: "bench", outcome: Outcome::Pass, text: "" });
            }
            self.begin_row(self.row + 1);
        }

        fn submit(&mut self) {
            let bytes = ROWS[self.row].1;
            while self.begun < self.operations
                && let Some(slot) = self.free.pop()
            {
                let into = Chunk { address: self.buffers[slot].machine_address(), bytes };
                let read = Operation::Read { sector: self.next, into: &[into] };
                assert!(self.disk.submit(slot as u64, read).is_ok(), "the disk has more room than that");
                self.begun += 1;
                self.next += u64::from(bytes / 512);
                if self.next >= self.disk.geometry().sectors {
                    self.next = 0;
                }
            }
            self.disk.kick();
        }
    }

    impl Service for Reader {
        fn work(&mut self, _now: u64) -> Next {
            self.submit();
            while let Some((slot, result)) = self.disk.complete() {
                assert!(result.is_ok(), "the disk failed");
                self.free.push(usize::try_from(slot).unwrap_or(0));
                self.done += 1;
                if self.done == self.operations {
                    self.end_batch();
                }
            }
            self.submit();
            Next::Wait
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: build it for x86_64-hv.json");
}
