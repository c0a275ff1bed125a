//! A device, from its discovery to its queues. Virtio 1.2, sections 3.1.1 (initialisation) and 4.1 (PCI).

use core::fmt::{self, Debug};
use core::ops::BitAnd;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use alloc::vec::Vec;

use bitflags::Flags;
use guest_kernel::event::Handler;
use guest_kernel::hypercall;
use pci_types::{CommandRegister, PciHeader};
use pv_abi::errno::Errno;
use virtio_drivers::Hal;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::bus::{DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VirtioPciError, virtio_device_type};
use virtio_drivers::transport::{DeviceType, Transport};

use super::Memory;
use crate::pci::Ports;
use crate::pci::interrupt::{Interrupt, Way};
use crate::pci::scan::{self, Function};

/// Why a device can't be used.
#[derive(Debug)]
pub enum Error {
    /// The hypervisor's refusal.
    Refused(Errno),
    /// The device isn't as the specification has it, or has no modern interface.
    Transport(VirtioPciError),
    /// A queue can't be made.
    Queue(virtio_drivers::Error),
    /// The device takes no message for its queues.
    NoMessages,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(errno) => write!(f, "the hypervisor refuses: {errno:?}"),
            Error::Transport(error) => write!(f, "{error}"),
            Error::Queue(error) => write!(f, "queue: {error}"),
            Error::NoMessages => f.write_str("the device takes no message vector"),
        }
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Refused(errno)
    }
}

/// A device, with its transport and its interrupt.
///
/// Its driver calls [`Device::begin`], makes the queues ([`Device::queue`]), and then [`Device::start`]. When the event port
/// ([`Device::port`]) has had an event: [`Device::acknowledge`] first, then the queues, until nothing is left in them.
pub struct Device {
    transport: PciTransport,
    interrupt: Interrupt,
    /// Registers of the common configuration beyond those that the transport uses.
    common: Common,
}

/// All virtio devices of a type, in the order of their addresses.
///
/// # Errors
/// The hypervisor's, if the domain may not use ports.
pub fn devices(kind: DeviceType) -> Result<Vec<Function>, Errno> {
    let mut functions = scan::functions(&Ports::open()?);
    functions.retain(|function| kind_of(function) == Some(kind));
    Ok(functions)
}

fn kind_of(function: &Function) -> Option<DeviceType> {
    use virtio_drivers::transport::pci::bus::{DeviceFunctionInfo, HeaderType};
    virtio_device_type(&DeviceFunctionInfo {
        vendor_id: function.vendor,
        device_id: function.device,
        class: function.class.0,
        subclass: function.class.1,
        prog_if: 0,
        revision: 0,
        header_type: HeaderType::Standard,
    })
}

impl Device {
    /// Opens a device. `handler` is called for each event of its port, upcalls masked; `messages` says that it shall interrupt
    /// by message if it can.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(function: &Function, messages: bool, handler: Handler) -> Result<Device, Error> {
        let access = Ports::open()?;
        let address = function.address;
        hypercall::add_pci_device(0, address.bus(), function.devfn())?;
        PciHeader::new(address).update_command(access, |command| {
            command | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE
        });
        let place = DeviceFunction { bus: address.bus(), device: address.device(), function: address.function() };
        let mut root = PciRoot::new(access);
        let transport = PciTransport::new::<Memory, _>(&mut root, place).map_err(Error::Transport)?;
        let common = Common::find(&mut root, access, place).map_err(Error::Transport)?;
        let interrupt = Interrupt::bind(function, access, messages, handler)?;
        Ok(Device { transport, interrupt, common })
    }

    /// Resets the device and agrees on features; the answer is those that both sides have.
    pub fn begin<F: Flags<Bits = u64> + BitAnd<Output = F> + Debug>(&mut self, supported: F) -> F {
        self.transport.begin_init(supported)
    }

    /// Makes a queue that interrupts. `indirect` and `event_idx` say that these features were agreed on.
    ///
    /// # Errors
    /// [`Error`].
    pub fn queue<const SIZE: usize>(
        &mut self,
        index: u16,
        indirect: bool,
        event_idx: bool,
    ) -> Result<VirtQueue<Memory, SIZE>, Error> {
        // The message comes first: a queue that is enabled keeps its own.
        if self.interrupt.way == Way::Message && !self.common.set_queue_message(index, ENTRY) {
            return Err(Error::NoMessages);
        }
        VirtQueue::new(&mut self.transport, index, indirect, event_idx).map_err(Error::Queue)
    }

    /// How large a queue may be.
    pub fn queue_size(&mut self, index: u16) -> u32 {
        self.transport.max_queue_size(index)
    }

    /// Sets up a queue that interrupts, in memory of the driver's own: at these machine addresses are its descriptors, its
    /// available ring and its used ring, all zeros.
    ///
    /// # Errors
    /// [`Error::NoMessages`].
    pub fn set_queue(&mut self, index: u16, size: u16, parts: [u64; 3]) -> Result<(), Error> {
        if self.interrupt.way == Way::Message && !self.common.set_queue_message(index, ENTRY) {
            return Err(Error::NoMessages);
        }
        let [descriptors, available, used] = parts;
        self.transport.queue_set(index, size.into(), descriptors, available, used);
        Ok(())
    }

    /// The queues are there: the device begins to work.
    ///
    /// # Errors
    /// [`Error::NoMessages`].
    pub fn start(&mut self) -> Result<(), Error> {
        if self.interrupt.way == Way::Message && !self.common.set_config_message(ENTRY) {
            return Err(Error::NoMessages);
        }
        self.transport.finish_init();
        Ok(())
    }

    /// The event port of its interrupt.
    pub fn port(&self) -> u32 {
        self.interrupt.port
    }

    /// How it interrupts.
    pub fn way(&self) -> Way {
        self.interrupt.way
    }

    /// Says that an interrupt was heard: the next may come. What is looked for afterwards is not missed.
    pub fn acknowledge(&mut self) {
        if self.interrupt.way == Way::Pin {
            // The pin goes quiet.
            self.transport.ack_interrupt();
        }
        self.interrupt.end();
    }

    /// Says that an interrupt was dealt with, without a look at the device.
    pub fn end_interrupt(&self) {
        self.interrupt.end();
    }

    /// The machine address of its table of messages, if it interrupts by message.
    pub fn message_table(&self) -> Option<u64> {
        self.interrupt.table
    }

    /// Tells the device of what was added to its queue number `index`, if it wants to be told.
    pub fn notify<const SIZE: usize>(&mut self, index: u16, queue: &VirtQueue<Memory, SIZE>) {
        // The queue has shown the device its entries; the look at whether that sleeps must not come before.
        fence(Ordering::SeqCst);
        if queue.should_notify() {
            self.transport.notify(index);
        }
    }

    /// The transport, for queues and the device's configuration.
    pub fn transport(&mut self) -> &mut PciTransport {
        &mut self.transport
    }
}

/// The entry of the table of messages that all queues use.
const ENTRY: u16 = 0;

/// The common configuration structure. Virtio 1.2, section 4.1.4.3.
struct Common(NonNull<u8>);

// SAFETY: registers can be reached from any CPU, and a device has one driver.
unsafe impl Send for Common {}

/// Offsets of its registers.
const CONFIG_MESSAGE: usize = 0x10;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_MESSAGE: usize = 0x1a;
/// Its length, at least.
const COMMON_LENGTH: usize = 0x38;

/// In the capability that says where it is: region, and offset there. Virtio 1.2, section 4.1.4.
const CAP_REGION: u8 = 4;
const CAP_OFFSET: u8 = 8;

impl Common {
    fn find(root: &mut PciRoot<Ports>, access: Ports, place: DeviceFunction) -> Result<Common, VirtioPciError> {
        use virtio_drivers::transport::pci::bus::{ConfigurationAccess, PCI_CAP_ID_VNDR};
        let is_common = |header: u16| header.to_le_bytes()[1] == VIRTIO_PCI_CAP_COMMON_CFG;
        let capability = root
            .capabilities(place)
            .find(|capability| capability.id == PCI_CAP_ID_VNDR && is_common(capability.private_header))
            .ok_or(VirtioPciError::MissingCommonConfig)?;
        let [region, ..] = access.read_word(place, capability.offset + CAP_REGION).to_le_bytes();
        let offset = access.read_word(place, capability.offset + CAP_OFFSET);
        let info = root.bar_info(place, region)?.ok_or(VirtioPciError::BarNotAllocated(region))?;
        let (base, size) = info.memory_address_size().ok_or(VirtioPciError::UnexpectedIoBar)?;
        if u64::from(offset) + COMMON_LENGTH as u64 > size {
            return Err(VirtioPciError::BarOffsetOutOfRange);
        }
        // SAFETY: the device says that its registers are there, and the transport has believed it.
        Ok(Common(unsafe { Memory::mmio_phys_to_virt(base + u64::from(offset), COMMON_LENGTH) }))
    }

    fn register(&self, offset: usize) -> *mut u16 {
        // SAFETY: the offsets above are in the structure, all of which is mapped.
        unsafe { self.0.as_ptr().add(offset).cast() }
    }

    /// Writes a message's entry, which the device takes by showing it.
    fn set(&self, offset: usize, entry: u16) -> bool {
        let register = self.register(offset);
        // SAFETY: an aligned register of the structure, which the transport doesn't use.
        unsafe {
            register.write_volatile(entry);
            register.read_volatile() == entry
        }
    }

    fn set_config_message(&self, entry: u16) -> bool {
        self.set(CONFIG_MESSAGE, entry)
    }

    fn set_queue_message(&self, queue: u16, entry: u16) -> bool {
        // SAFETY: as in `set`; the transport selects anew before each use of a queue's registers.
        unsafe { self.register(QUEUE_SELECT).write_volatile(queue) };
        self.set(QUEUE_MESSAGE, entry)
    }
}
