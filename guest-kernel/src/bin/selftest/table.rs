//! The list of stories. It agrees with `stories.list`, which the host reads; the build fails otherwise.

use crate::check::Told;
use crate::stories::*;

/// A story: its name on the command line, its suite, and the function that tells it.
pub struct Story {
    /// One word.
    pub name: &'static str,
    /// `abi`: same verdict on Pavise and on Xen. `crash`: the domain is killed.
    pub suite: &'static str,
    /// The story.
    pub tell: fn() -> Told,
}

macro_rules! stories {
    ($($suite:ident { $($name:literal: $tell:path,)* })*) => {
        /// Every story, in the order of `stories.list`.
        pub const STORIES: &[Story] = &[$($(Story { name: $name, suite: stringify!($suite), tell: $tell },)*)*];
    };
}

stories! {
    abi {
        "hello": start::hello,
        "start-segments": start::segments,
        "version-numbers": version::numbers,
        "version-strings": version::strings,
        "version-platform": version::platform,
        "version-features": version::features,
        "version-bad": version::bad,
        "console-write": console::write,
        "console-write-past-the-end": console::write_past_the_end,
        "console-read": console::read,
        "sched-yield": sched::yielding,
        "sched-poll-timeout": sched::poll_timeout,
        "sched-poll-past": sched::poll_past,
        "sched-poll-bad": sched::poll_bad,
        "sched-bad": sched::bad,
        "hypercall-unknown": calls::unknown,
        "hypercall-page": calls::page,
        "hypercall-registers": calls::registers,
        "trap-table-arguments": table::arguments,
        "trap-table-replace": table::replace,
        "trap-table-partial": table::partial,
        "trap-exceptions": traps::exceptions,
        "trap-selectors": traps::selectors,
        "trap-software-interrupts": traps::software_interrupts,
        "trap-open-software-interrupts": traps::open_software_interrupts,
        "trap-page-faults": traps::page_faults,
        "trap-single-step": traps::single_step,
        "trap-floating-point": traps::floating_point,
        "frame-words": frame::words,
        "frame-placement": frame::placement,
        "frame-flags": frame::flags,
        "iret-restores": iret::restores,
        "iret-upcall-mask": iret::upcall_mask,
        "iret-native": iret::native,
        "callbacks-set": callbacks::set_callbacks,
        "callbacks-op": callbacks::callback_op,
        "stack-switch": callbacks::stack_switch,
        "segment-bases": segments::bases,
        "segment-selector": segments::selector,
        "segment-msrs": segments::msrs,
        "msr-reads": msrs::reads,
        "msr-writes": msrs::writes,
        "msr-unknown": msrs::unknown,
        "cpuid-hypervisor-leaves": cpuid::hypervisor_leaves,
        "cpuid-hidden-features": cpuid::hidden_features,
        "cpuid-shown-features": cpuid::shown_features,
        "cpuid-native": cpuid::native,
        "cpuid-prefix": cpuid::prefix,
        "control-registers": control::registers,
        "control-writes": control::writes,
        "control-task-switched": control::task_switched,
        "privileged-instructions": control::privileged_instructions,
        "interrupt-flag": control::interrupt_flag,
        "tsc": control::time_stamp_counter,
        "io-ports": ports::refused_without_privilege,
        "multicall-results": multicall::results,
        "multicall-bad": multicall::bad,
        "multicall-nested": multicall::nested,
        "vm-assist": assist::assists,
        "memory-queries": memory_op::queries,
        "memory-machphys-mapping": memory_op::machphys_mapping,
        "memory-map": memory_op::memory_map,
        "memory-bad": memory_op::bad,
        "frames-p2m-and-m2p": frames::both_tables_agree,
        "frames-m2p-read-only": frames::m2p_read_only,
        "frames-page-tables": frames::page_tables,
        "frames-page-tables-read-only": frames::page_tables_read_only,
        "frames-start-info": frames::start_info_page,
    }
    crash {
        "crash-no-handler": crash::no_handler,
        "crash-page-fault-no-handler": crash::page_fault_no_handler,
        "crash-jump-to-nothing": crash::jump_to_nothing,
        "crash-iret-frame-unmapped": crash::iret_frame_unmapped,
        "crash-iret-frame-in-hypervisor": crash::iret_frame_in_hypervisor,
        "crash-iret-to-user-without-tables": crash::iret_to_user_without_tables,
        "crash-stack-unmapped": crash::stack_unmapped,
        "crash-stack-in-hypervisor": crash::stack_in_hypervisor,
        "crash-stack-not-canonical": crash::stack_not_canonical,
        "crash-handler-faults": crash::handler_faults,
        "crash-panic": crash::panic,
        "shutdown-poweroff": shutdown::poweroff,
        "shutdown-reboot": shutdown::reboot,
        "shutdown-crash": shutdown::crash,
        "shutdown-watchdog": shutdown::watchdog,
    }
    mmu {
        "space-kernel-pages": space::kernel_pages,
        "space-heap-grows": space::heap_grows,
        "space-build-teardown": space::build_teardown,
        "space-tables-read-only": space::tables_read_only,
        "space-live-changes": space::live_changes,
        "space-copy-on-write": space::copy_on_write,
        "space-thousand-tables": space::thousand_tables,
        "space-out-of-frames": space::out_of_frames,
        "task-registers": task::registers,
        "task-system-calls": task::system_calls,
        "task-demand-paging": task::demand_paging,
        "task-fork": task::fork,
        "task-family": task::family,
        "task-killed": task::killed,
        "task-many": task::many,
    }
}

const _: () =
    assert!(agrees(include_str!("../../../stories.list").as_bytes()), "stories.list disagrees with this table");

/// Whether the lines of `list` are `name suite` of the stories, in order.
const fn agrees(list: &[u8]) -> bool {
    let mut at = 0;
    let mut story = 0;
    while story < STORIES.len() {
        at = match expect(list, at, STORIES[story].name.as_bytes(), b' ') {
            Some(at) => at,
            None => return false,
        };
        at = match expect(list, at, STORIES[story].suite.as_bytes(), b'\n') {
            Some(at) => at,
            None => return false,
        };
        story += 1;
    }
    at == list.len()
}

/// Where `list` goes on behind `word` and `end`, if they are what it has at `at`.
const fn expect(list: &[u8], at: usize, word: &[u8], end: u8) -> Option<usize> {
    if at + word.len() >= list.len() {
        return None;
    }
    let mut i = 0;
    while i < word.len() {
        if list[at + i] != word[i] {
            return None;
        }
        i += 1;
    }
    if list[at + i] == end { Some(at + i + 1) } else { None }
}
