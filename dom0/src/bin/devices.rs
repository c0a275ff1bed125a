//! Tells stories of drivers in domain 0, for the test suite `devices`: one per boot, named by `story=NAME` on the command
//! line. Every device here is one of QEMU's.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod kernel {
    use alloc::format;
    use alloc::string::String;
    use core::ops::Range;
    use core::sync::atomic::{AtomicU32, Ordering};

    use dom0::pci::interrupt::Way;
    use dom0::virtio::{self, Device};
    use guest_kernel::hypercall::{Flush, Vcpus, update_va_mapping_otherdomain};
    use guest_kernel::paging::{Mfn, PAGE_SIZE, Rights, kernel_page};
    use guest_kernel::start::{command_line, start_info};
    use guest_kernel::verdict::{Outcome, Verdict};
    use guest_kernel::{StartInfo, cmdline, entry, event, exit, hypercall, memory, probe, time};
    use pv_abi::domid::{DOMID_IO, DOMID_SELF};
    use pv_abi::errno::Errno;
    use virtio_drivers::transport::DeviceType;

    entry!(main);

    /// How a story ends.
    type Told = Result<(), String>;

    /// Bytes in a sector.
    const SECTOR: usize = 512;
    /// The sectors that are read, of a disk of 128: each is full of its number, as 64-bit words.
    const SECTORS: [u64; 5] = [0, 1, 63, 127, 1];
    /// Interrupts that were heard.
    static HEARD: AtomicU32 = AtomicU32::new(0);

    fn main(_info: &'static StartInfo) -> ! {
        let story = cmdline::option(command_line(), "story").unwrap_or("none");
        let told = match story {
            "devices-message" => read_disk(true),
            "devices-pin" => read_disk(false),
            "devices-own" => own(),
            "devices-storm" => storm(),
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
        let mut device = disk(messages)?;
        let mut queue = device.queue::<8>(0, false, false).map_err(|error| format!("{error}"))?;
        device.start().map_err(|error| format!("{error}"))?;
        for sector in SECTORS {
            let mut request = Request::new(sector)?;
            let before = HEARD.load(Ordering::SeqCst);
            let (header, data, status) = request.parts();
            // SAFETY: the parts stay where they are until the request is taken back.
            let token = unsafe { queue.add(&[header], &mut [&mut *data, &mut *status]) };
            let token = token.map_err(|error| format!("sector {sector}: {error}"))?;
            device.notify(0, &queue);
            event::disable();
            while HEARD.load(Ordering::SeqCst) == before {
                // Wakes with upcalls on. An interrupt that is lost is a story without an end.
                let _ = hypercall::block();
                event::disable();
            }
            event::enable();
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

    /// The first disk, reset, to interrupt by message or by pin.
    fn disk(messages: bool) -> Result<Device, String> {
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
        Ok(device)
    }

    /// How long the line screams.
    const STORM: u64 = 4_000_000_000;

    /// A line that stays active: the domain says that it has dealt with the interrupt, and hasn't. It comes once for each
    /// such word.
    fn storm() -> Told {
        let mut device = disk(false)?;
        let mut queue = device.queue::<8>(0, false, false).map_err(|error| format!("{error}"))?;
        device.start().map_err(|error| format!("{error}"))?;
        let mut request = Request::new(0)?;
        let (header, data, status) = request.parts();
        // SAFETY: the page stays where it is until the story ends, and the device with it.
        unsafe { queue.add(&[header], &mut [data, status]) }.map_err(|error| format!("{error}"))?;
        {
            use virtio_drivers::transport::Transport;
            device.transport().notify(0);
        }
        let (end, mut words) = (now() + STORM, 0u32);
        let mut before = 0;
        while now() < end {
            let heard = HEARD.load(Ordering::SeqCst);
            if heard > words + 1 {
                return Err(format!("{heard} interrupts after {words} words"));
            }
            if heard > before {
                before = heard;
                words += 1;
                // The device's own register isn't read, so that the pin stays active.
                device.end_interrupt();
            }
        }
        if words < 100 { Err(format!("{words} interrupts are no storm")) } else { Ok(()) }
    }

    /// Where frames are tried to be mapped.
    const PAGE: u64 = memory::KERNEL_PAGES.start;

    /// Frames that are the hypervisor's own: I/O APIC, timer, local APICs, and where messages go.
    const OWN_FRAMES: [u64; 4] = [0xf_ec00, 0xf_ed00, 0xf_ee00, 0xf_eeff];

    /// RAM on every machine that tells this story.
    const RAM: Range<u64> = 0x100..0x8000;

    /// Ports that are the hypervisor's own: interrupt controllers, timer, clock, system control, console, exit, reset.
    const OWN_PORTS: [u16; 10] = [0x20, 0x21, 0xa1, 0x40, 0x71, 0x92, 0x3f8, 0x3fd, 0xf4, 0xcf9];

    /// The domain has the hardware, but for what the hypervisor uses; and no memory that isn't its own.
    fn own() -> Told {
        let device = disk(true)?;
        let page = PAGE..PAGE + PAGE_SIZE;
        memory::lock().and_then(|mut memory| memory.map(page, Rights::Write)).map_err(|error| format!("{error}"))?;
        for write in [false, true] {
            let is_mapped = |mfn, domain| {
                let rights = if write { Rights::Write } else { Rights::Read };
                // SAFETY: nothing lives in the page.
                let answer = unsafe {
                    update_va_mapping_otherdomain(
                        PAGE,
                        kernel_page(Mfn(mfn), rights),
                        Flush::Address(Vcpus::All),
                        domain,
                    )
                };
                answer.is_ok()
            };
            for mfn in OWN_FRAMES {
                if is_mapped(mfn, DOMID_IO) || is_mapped(mfn, DOMID_SELF) {
                    return Err(format!("frame {mfn:#x} was mapped"));
                }
            }
            for mfn in RAM {
                // Beyond its frames the domain has the page that it shares with the hypervisor.
                let is_own = memory::address_of_frame(mfn).is_some() || mfn == start_info().shared_info / PAGE_SIZE;
                if is_mapped(mfn, DOMID_IO) || !is_own && mfn % 16 == 0 && is_mapped(mfn, DOMID_SELF) {
                    return Err(format!("RAM at frame {mfn:#x} was mapped as a device's"));
                }
            }
            if !is_mapped(0xb8, DOMID_IO) {
                return Err(String::from("video memory isn't the domain's"));
            }
            let table = device.message_table().ok_or("the disk has no table of messages")?;
            if is_mapped(table / PAGE_SIZE, DOMID_IO) == write {
                return Err(format!("the table of messages at {table:#x}, written to: {write}"));
            }
        }
        for port in OWN_PORTS {
            // SAFETY: nothing listens; if something did, the story would end with the machine.
            let read = unsafe { probe::outb(port, 0x06) }.and_then(|()| probe::inb(port));
            if read != Ok(0xff) {
                return Err(format!("port {port:#x}: {read:?}"));
            }
        }
        // The console's line is the hypervisor's; there is no line 1000.
        let lines = [hypercall::map_gsi(4), hypercall::map_gsi(1000)];
        if lines != [Err(Errno::EBUSY), Err(Errno::EINVAL)] {
            return Err(format!("lines: {lines:?}"));
        }
        Ok(())
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
