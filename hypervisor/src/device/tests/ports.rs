//! Which ports are reached.

use proptest::prelude::*;
use std::vec;

use crate::device::ports::{Access, Ports};
use crate::emulate::Width;

const WIDTHS: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];

/// Every access to every port, against a look at each of its bytes.
#[test]
fn an_access_goes_through_if_none_of_its_ports_is_refused() {
    let refused = vec![0x20..=0x21, 0x3f8..=0x3ff, 0xffff..=0xffff];
    let ports = Ports::all_but(refused.clone());
    for port in 0..=u16::MAX {
        for width in WIDTHS {
            let bytes = u32::from(port)..u32::from(port) + width.bytes() as u32;
            let is_config = bytes.clone().any(|byte| (0xcf8..0xd00).contains(&byte));
            let is_refused =
                |byte: u32| u16::try_from(byte).map_or(true, |byte| refused.iter().any(|own| own.contains(&byte)));
            let expected = match bytes.clone().any(is_refused) || is_config {
                true if port == 0xcf8 && width == Width::Dword => Access::ConfigAddress,
                true => Access::Nowhere,
                false => Access::Port,
            };
            assert_eq!(ports.access(port, width), expected, "{port:#x} {width:?}");
        }
    }
}

proptest! {
    /// Configuration space is reached at what was written last, within the four ports, if it was enabled; reserved bits never
    /// get through.
    #[test]
    fn configuration_goes_to_the_remembered_address(address: u32, offset in 0u16..4, width in 0usize..3) {
        let ports = Ports::all_but(vec![]);
        prop_assert_eq!(ports.access(0xcfc, Width::Dword), Access::Nowhere);
        ports.set_config_address(address);
        prop_assert_eq!(ports.config_address(), address);
        let (port, width) = (0xcfc + offset, WIDTHS[width]);
        let fits = usize::from(offset) + width.bytes() <= 4;
        let expected = if fits && address >> 31 == 1 {
            Access::Config { address: address & 0x80ff_fffc, port }
        } else {
            Access::Nowhere
        };
        prop_assert_eq!(ports.access(port, width), expected);
    }
}
