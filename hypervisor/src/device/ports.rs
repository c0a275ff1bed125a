//! I/O ports of the domain that has the hardware.
//!
//! PCI configuration space is behind two registers, an address at 0xcf8 and data at 0xcfc (PCI Local Bus 3.0, section
//! 3.2.2.3.2). The hypervisor uses them too. So the domain's address is only remembered, and written together with the
//! access to the data, in one step.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, Ordering};

use alloc::vec::Vec;

use crate::emulate::Width;

/// The configuration address register: 32 bits. Bytes of it are other registers of the chipset, such as reset.
const CONFIG_ADDRESS: u16 = 0xcf8;
/// The data that the address selects.
const CONFIG_DATA: u16 = 0xcfc;
/// In the address: accesses to the data are to configuration space.
const ENABLED: u32 = 1 << 31;
/// The rest of the address: bus, device, function and register. Others are reserved.
const PLACE: u32 = 0x00ff_fffc;

/// Where an access of a domain's goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nowhere: it reads as all ones, and writes are dropped.
    Nowhere,
    /// To the port itself.
    Port,
    /// To the remembered configuration address.
    ConfigAddress,
    /// To configuration space: the value for the address register, and the data's port.
    Config {
        /// Goes to port 0xcf8 first.
        address: u32,
        /// 0xcfc to 0xcff.
        port: u16,
    },
}

/// The ports that a domain may use.
#[derive(Debug)]
pub struct Ports {
    refused: Vec<RangeInclusive<u16>>,
    config_address: AtomicU32,
}

impl Ports {
    /// All but these.
    pub fn all_but(refused: Vec<RangeInclusive<u16>>) -> Ports {
        Ports { refused, config_address: AtomicU32::new(0) }
    }

    /// Where an access goes.
    pub fn access(&self, port: u16, width: Width) -> Access {
        let count = match width {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        };
        // No port follows the last one: what reaches beyond goes nowhere.
        let Some(last) = port.checked_add(count - 1) else { return Access::Nowhere };
        let touches = |first: u16, end: u16| port <= end && last >= first;
        if port == CONFIG_ADDRESS && width == Width::Dword {
            return Access::ConfigAddress;
        }
        if port >= CONFIG_DATA && last < CONFIG_DATA + 4 {
            let address = self.config_address();
            let enabled = address & ENABLED != 0;
            return if enabled {
                Access::Config { address: address & (ENABLED | PLACE), port }
            } else {
                Access::Nowhere
            };
        }
        if touches(CONFIG_ADDRESS, CONFIG_DATA + 3) || self.refused.iter().any(|own| touches(*own.start(), *own.end()))
        {
            return Access::Nowhere;
        }
        Access::Port
    }

    /// The configuration address that the domain wrote last.
    pub fn config_address(&self) -> u32 {
        self.config_address.load(Ordering::Relaxed)
    }

    /// It writes another one.
    pub fn set_config_address(&self, address: u32) {
        self.config_address.store(address, Ordering::Relaxed);
    }
}
