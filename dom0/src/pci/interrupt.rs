//! A function's interrupt as an event port: a message (MSI-X) where the function has a table of them, else its pin.
//!
//! The hypervisor writes the table and programs the interrupt controllers; here it is only asked to. Functions whose pins
//! are wired together share an event port, and each of their drivers is told of every interrupt.

use alloc::vec::Vec;

use guest_kernel::event::{self, Handler};
use guest_kernel::hypercall;
use guest_kernel::sync::Mutex;
use pci_types::capability::{MsixCapability, PciCapability};
use pci_types::{Bar, CommandRegister, EndpointHeader, PciHeader};
use pv_abi::errno::Errno;

use super::Ports;
use super::scan::Function;

/// How a function asks for attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By entry 0 of its table of messages.
    Message,
    /// By its pin, level-triggered.
    Pin,
}

/// A function's interrupt.
#[derive(Debug)]
pub struct Interrupt {
    /// How it comes.
    pub way: Way,
    /// The event port that it comes to.
    pub port: u32,
    /// The machine address of the table that its message is in.
    pub table: Option<u64>,
    pirq: u32,
}

/// A line of the machine's that some function's pin is wired to.
struct Line {
    gsi: u32,
    pirq: u32,
    port: u32,
}

/// The lines in use. They stay bound: their functions may share them.
static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// The interrupt line register of a pin that is wired to nothing. PCI Local Bus 3.0, section 6.2.4.
const NOT_CONNECTED: u8 = 0xff;

impl Interrupt {
    /// Binds a function's interrupt: by message if `messages` and it can, else by its pin. `handler` is called for each,
    /// upcalls masked; of a pin's port only the first driver's is kept.
    ///
    /// # Errors
    /// The hypervisor's; `ENODEV` for a function that has no interrupt.
    pub fn bind(function: &Function, access: Ports, messages: bool, handler: Handler) -> Result<Interrupt, Errno> {
        let header = PciHeader::new(function.address);
        let mut endpoint = EndpointHeader::from_header(header, access).ok_or(Errno::ENODEV)?;
        let table = if messages { table(&endpoint, access) } else { None };
        // With messages on, the pin is quiet; said twice, because not all devices keep to that.
        endpoint.update_command(access, |command| match table {
            Some(_) => command | CommandRegister::INTERRUPT_DISABLE,
            None => command & !CommandRegister::INTERRUPT_DISABLE,
        });
        let Some(Table { base, address }) = table else { return pin(&endpoint, access, handler) };
        let pirq = hypercall::map_message(0, function.address.bus(), function.devfn(), Some((base, 0)))?;
        let port = event::bind_pirq(pirq, handler)?;
        Ok(Interrupt { way: Way::Message, port, table: Some(address), pirq })
    }

    /// Says that the interrupt was dealt with: the next may come. A pin must be quiet by now, or it comes at once.
    pub fn end(&self) {
        // The number is one that the hypervisor gave.
        let _ = hypercall::end_interrupt(self.pirq);
    }
}

/// Where a function's table of messages is.
struct Table {
    /// The start of its region.
    base: u64,
    /// Its own start.
    address: u64,
}

fn table(endpoint: &EndpointHeader, access: Ports) -> Option<Table> {
    let is_table = |capability| match capability {
        PciCapability::MsiX(msix) => Some(msix),
        _ => None,
    };
    let msix: MsixCapability = endpoint.capabilities(access).find_map(is_table)?;
    let base = match endpoint.bar(msix.table_bar(), access)? {
        Bar::Memory32 { address, .. } => address.into(),
        Bar::Memory64 { address, .. } => address,
        Bar::Io { .. } => return None,
    };
    Some(Table { base, address: base + u64::from(msix.table_offset()) })
}

/// A pin's line is the one that the firmware has written down, which wired it.
fn pin(endpoint: &EndpointHeader, access: Ports, handler: Handler) -> Result<Interrupt, Errno> {
    let (pin, line) = endpoint.interrupt(access);
    if pin == 0 || line == NOT_CONNECTED {
        return Err(Errno::ENODEV);
    }
    let gsi = u32::from(line);
    let mut lines = LINES.lock();
    if let Some(line) = lines.iter().find(|line| line.gsi == gsi) {
        return Ok(Interrupt { way: Way::Pin, port: line.port, table: None, pirq: line.pirq });
    }
    // Where ACPI says nothing of the line, it is as PCI has it: level-triggered, active low.
    hypercall::setup_gsi(gsi, true, true)?;
    let pirq = hypercall::map_gsi(gsi)?;
    let port = event::bind_pirq(pirq, handler)?;
    lines.push(Line { gsi, pirq, port });
    Ok(Interrupt { way: Way::Pin, port, table: None, pirq })
}
