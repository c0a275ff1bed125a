//! The rows, one file per subject.

mod calls;
mod disk;
mod domains;
mod events;
mod fork;
mod grants;
mod instructions;
mod net;
mod paging;
mod switch;
mod tables;
mod traps;
mod user;

use crate::meter::{Effort, Measured};

/// Something to measure.
pub struct Row {
    /// Rows that are measured together.
    pub group: &'static str,
    /// Unique; one word.
    pub name: &'static str,
    /// Measures it.
    pub measure: fn(Effort) -> Measured,
}

macro_rules! rows {
    ($($group:literal { $($name:literal: $measure:path,)* })*) => {
        /// Every row.
        pub const ROWS: &[Row] = &[$($(Row { group: $group, name: $name, measure: $measure },)*)*];
    };
}

rows! {
    "mm" {
        "null-hypercall": calls::null,
        "unknown-hypercall": calls::unknown,
        "stack-switch": calls::stack_switch,
        "fpu-taskswitch": calls::fpu_taskswitch,
        "sched-yield": calls::sched_yield,
        "multicall-entry": calls::multicall_entry,
        "update-va-mapping-same": paging::update_va_mapping_same,
        "update-va-mapping-map-unmap": paging::update_va_mapping_map_unmap,
        "mmu-update-one": paging::mmu_update_one,
        "mmu-update-batch-same": paging::mmu_update_batch_same,
        "mmu-update-batch-map-unmap": paging::mmu_update_batch_map_unmap,
        "page-table-store": paging::page_table_store,
        "tlb-flush-local": paging::tlb_flush_local,
        "page-fault": traps::page_fault,
        "software-interrupt": traps::software_interrupt,
        "cpuid-forced": instructions::cpuid_forced,
        "rdmsr": instructions::rdmsr,
        "user-syscall": user::syscall,
        "pin-unpin-table": tables::pin_unpin,
        "fork-exit-page": fork::fork_exit,
        "grant-map-unmap": grants::map_unmap,
        "grant-copy-page": grants::copy_page,
    }
    "events" {
        "evtchn-send-masked": events::send_masked,
        "evtchn-send-upcall": events::send_upcall,
        "set-timer-op": events::set_timer,
        "vcpu-switch": switch::vcpu_switch,
        "wake-ping-pong": switch::wake_ping_pong,
    }
    "domains" {
        "create-start-8": domains::create_start_8,
        "create-start-200": domains::create_start_200,
    }
    "disk" {
        "read-4k-depth-1": disk::read_4k_depth_1,
        "read-4k-depth-32": disk::read_4k_depth_32,
        "read-64k-depth-1": disk::read_64k_depth_1,
        "read-64k-depth-32": disk::read_64k_depth_32,
        "connect": disk::connect,
    }
    "net" {
        "send-1500": net::send,
        "receive-1500": net::receive,
        "send-64k": net::send_large,
        "uplink-1500-and-back": net::uplink,
    }
}
