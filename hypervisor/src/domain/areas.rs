//! Records that a guest wants in memory of its own, at addresses of its kernel: run states and a copy of its clock record
//! (`VCPUOP_register_runstate_memory_area`, `VCPUOP_register_vcpu_time_memory_area`). They are written when the guest asks,
//! and each time the vCPU is put on a CPU.

use core::mem::offset_of;

use pv_abi::shared_info::VcpuTimeInfo;
use pv_abi::vcpu::{VcpuRunstateInfo, XEN_RUNSTATE_UPDATE};
use zerocopy::IntoBytes;

use crate::guest::{Fault, GuestCopy};
use crate::time::GuestRecord;

/// Writes the run states. With `flagged` (`VMASST_TYPE_runstate_update_flag`) a bit of the entry time says that they are
/// about to change.
///
/// # Errors
/// [`Fault`]; the guest may see a part of them.
pub fn write_run_states(
    guest: &mut impl GuestCopy,
    address: u64,
    mut info: VcpuRunstateInfo,
    flagged: bool,
) -> Result<(), Fault> {
    if !flagged {
        return guest.write_bytes(address, info.as_bytes());
    }
    let entry_time = address.wrapping_add(offset_of!(VcpuRunstateInfo, state_entry_time) as u64);
    info.state_entry_time |= XEN_RUNSTATE_UPDATE;
    guest.write_bytes(entry_time, info.state_entry_time.as_bytes())?;
    guest.write_bytes(address, info.as_bytes())?;
    info.state_entry_time &= !XEN_RUNSTATE_UPDATE;
    guest.write_bytes(entry_time, info.state_entry_time.as_bytes())
}

/// Writes the clock record, under its version protocol: odd while it changes.
///
/// # Errors
/// [`Fault`]; the guest may see a part of it.
pub fn write_clock(guest: &mut impl GuestCopy, address: u64, record: &GuestRecord) -> Result<(), Fault> {
    let mut version = 0u32;
    guest.read_bytes(address, version.as_mut_bytes())?;
    version |= 1;
    let info = VcpuTimeInfo {
        version,
        tsc_timestamp: record.tsc_timestamp,
        system_time: record.system_time,
        tsc_to_system_mul: record.scale.mul,
        tsc_shift: record.scale.shift,
        ..VcpuTimeInfo::default()
    };
    guest.write_bytes(address, version.as_bytes())?;
    guest.write_bytes(address, info.as_bytes())?;
    guest.write_bytes(address, version.wrapping_add(1).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::time::GuestScale;

    /// Guest memory that notes what it looked like after each write.
    struct Guest {
        memory: [u8; 64],
        after: Vec<[u8; 64]>,
    }

    impl Guest {
        fn new(memory: [u8; 64]) -> Guest {
            Guest { memory, after: Vec::new() }
        }
    }

    impl GuestCopy for Guest {
        fn read_bytes(&mut self, from: u64, buf: &mut [u8]) -> Result<(), Fault> {
            let from = usize::try_from(from).unwrap();
            buf.copy_from_slice(self.memory.get(from..from + buf.len()).ok_or(Fault(0))?);
            Ok(())
        }

        fn write_bytes(&mut self, to: u64, bytes: &[u8]) -> Result<(), Fault> {
            let to = usize::try_from(to).unwrap();
            self.memory.get_mut(to..to + bytes.len()).ok_or(Fault(0))?.copy_from_slice(bytes);
            self.after.push(self.memory);
            Ok(())
        }
    }

    fn word(memory: &[u8; 64], at: usize) -> u64 {
        u64::from_le_bytes(memory[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn a_reader_of_run_states_knows_when_they_change() {
        let old = VcpuRunstateInfo { state_entry_time: 5, time: [1; 4], ..VcpuRunstateInfo::default() };
        let new = VcpuRunstateInfo { state_entry_time: 9, time: [2; 4], ..VcpuRunstateInfo::default() };
        let mut guest = Guest::new([0; 64]);
        write_run_states(&mut guest, 8, old, false).unwrap();
        guest.after.clear();
        write_run_states(&mut guest, 8, new, true).unwrap();
        // Whoever finds the flag clear sees all old or all new values.
        for memory in &guest.after {
            if word(memory, 16) & XEN_RUNSTATE_UPDATE == 0 {
                assert_eq!((word(memory, 16), word(memory, 24)), (9, 2));
            }
        }
        assert_eq!(word(&guest.memory, 16), 9);
        assert!(write_run_states(&mut guest, 40, new, true).is_err());
    }

    #[test]
    fn a_reader_of_the_clock_knows_when_it_changes() {
        let record = GuestRecord { tsc_timestamp: 7, system_time: 8, scale: GuestScale { mul: 9, shift: -1 } };
        let mut guest = Guest::new([0; 64]);
        guest.memory[0] = 4;
        write_clock(&mut guest, 0, &record).unwrap();
        let (last, before) = guest.after.split_last().unwrap();
        assert!(before.iter().all(|memory| memory[0] == 5));
        assert_eq!((last[0], word(last, 8), word(last, 16)), (6, 7, 8));
        assert!(write_clock(&mut guest, 60, &record).is_err());
    }
}
