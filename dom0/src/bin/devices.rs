//! Tells stories of drivers in domain 0, for the test suite `devices`: one per boot, named by `story=NAME` on the command
//! line. Every device here is one of QEMU's.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod kernel {
    use alloc::format;
    use alloc::string::String;
    use core::sync::atomic::{AtomicU32, Ordering};

    use dom0::pci::interrupt::Way;
    use dom0::virtio::{self, Device};
    use guest_kernel::start::command_line;
    use guest_kernel::verdict::{Outcome, Verdict};
    use guest_kernel::{StartInfo, cmdline, entry, event, exit, hypercall, memory, time};
    use virtio_drivers::transport::DeviceType;

    entry!(main);

    /// How a story ends.
    type Told = Result<(), String>;

    /// Bytes in a sector.
    const SECTOR: usize = 512;
    /// The sectors that are read, of a disk of 128: each is full of its number, as 64-bit words.
    const SECTORS: [u64; 5] = [0, 1, 63, 127, 1];
    /// How long a device may take.
    const PATIENCE: u64 = 5_000_000_000;

    /// Interrupts that were heard.
    static HEARD: AtomicU32 = AtomicU32::new(0);

    fn main(_info: &'static StartInfo) -> ! {
        let story = cmdline::option(command_line(), "story").unwrap_or("none");
        let told = match story {
            "devices-message" => read_disk(true),
            "devices-pin" => read_disk(false),
            _ => Err(String::from("there is no such story")),
        };
        let (outcome, text) = match told {
            Ok(()) => (Outcome::Pass, String::new()),
            Err(text) => (Outcome::Fail, text),
        };
        exit::finish(&Verdict { story, outcome, text: &text })
    }

    fn heard(_port: u32) {
        HEARD.fetch_add(1, Ordering::SeqCst);
    }

    fn now() -> u64 {
        time::now().unwrap_or(0)
    }

    /// Reads sectors of the first disk, one interrupt for each.
    fn read_disk(messages: bool) -> Told {
        event::init().map_err(|errno| format!("no events: {errno:?}"))?;
        event::enable();
        let functions = virtio::devices(DeviceType::Block).map_err(|errno| format!("no ports: {errno:?}"))?;
        let function = functions.first().ok_or("no disk was found")?;
        let mut device = Device::open(function, messages, heard).map_err(|error| format!("{error}"))?;
        let want = if messages { Way::Message } else { Way::Pin };
        if device.way() != want {
            return Err(format!("the device interrupts by {:?}", device.way()));
        }
        // Nothing beyond the modern interface.
        device.begin(Features::VERSION_1);
        let mut queue = device.queue::<8>(0, false, false).map_err(|error| format!("{error}"))?;
        device.start().map_err(|error| format!("{error}"))?;
        for sector in SECTORS {
            let mut request = Request::new(sector)?;
            let before = HEARD.load(Ordering::SeqCst);
            let (header, data, status) = request.parts();
            // SAFETY: the parts stay where they are until the request is taken back.
            let token = unsafe { queue.add(&[header], &mut [&mut *data, &mut *status]) };
            let token = token.map_err(|error| format!("sector {sector}: {error}"))?;
            if queue.should_notify() {
                use virtio_drivers::transport::Transport;
                device.transport().notify(0);
            }
            let deadline = now() + PATIENCE;
            while HEARD.load(Ordering::SeqCst) == before {
                if now() > deadline {
                    return Err(format!("sector {sector}: no interrupt, used: {}", queue.can_pop()));
                }
                let _ = hypercall::yield_now();
            }
            device.acknowledge();
            // SAFETY: these are the parts that were given.
            unsafe { queue.pop_used(token, &[header], &mut [&mut *data, &mut *status]) }
                .map_err(|error| format!("sector {sector}: {error}"))?;
            if status[0] != 0 || data.chunks(8).any(|word| word != sector.to_le_bytes()) {
                return Err(format!("sector {sector}: status {}, data {:x?}", status[0], &data[..16]));
            }
        }
        let interrupts = HEARD.load(Ordering::SeqCst) as usize;
        if interrupts > 2 * SECTORS.len() { Err(format!("{interrupts} interrupts")) } else { Ok(()) }
    }

    bitflags::bitflags! {
        /// Features that are agreed on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        struct Features: u64 {
            /// The device is a modern one.
            const VERSION_1 = 1 << 32;
        }
    }

    /// A page with the parts of a request: header, data, status.
    struct Request(memory::Run);

    impl Request {
        /// Reads a sector. Virtio 1.2, section 5.2.6.
        fn new(sector: u64) -> Result<Request, String> {
            let page = memory::lock().and_then(|mut memory| memory.allocate_run(1));
            let mut request = Request(page.map_err(|error| format!("{error}"))?);
            request.bytes()[8..16].copy_from_slice(&sector.to_le_bytes());
            request.bytes()[16 + SECTOR] = 0xff;
            Ok(request)
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the page is mapped, and this request's alone.
            unsafe { core::slice::from_raw_parts_mut(self.0.start().as_ptr(), 4096) }
        }

        fn parts(&mut self) -> (&[u8], &mut [u8], &mut [u8]) {
            let (header, rest) = self.bytes().split_at_mut(16);
            let (data, rest) = rest.split_at_mut(SECTOR);
            (header, data, &mut rest[..1])
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: build it for x86_64-hv.json");
}
