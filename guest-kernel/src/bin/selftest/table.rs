//! The list of stories. It agrees with `stories.list`, which the host reads; the build fails otherwise.

use crate::check::Told;
use crate::stories::*;

/// A story: its name on the command line, its suite, and the function that tells it.
pub struct Story {
    /// One word.
    pub name: &'static str,
    /// `abi`, `mmu`: same verdict on Pavise and on Xen. `neighbour`: told beside another. `crash`: the domain is killed.
    /// `boot`: for a machine made for it. `domains`: told by the control domain; `child`: by those that it makes.
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
    mmu {
        "mmu-update-levels": mmu::updates::levels,
        "mmu-update-values": mmu::updates::values,
        "mmu-update-commands": mmu::updates::commands,
        "mmu-update-plain-stores": mmu::updates::plain_stores,
        "mmu-update-machphys": mmu::updates::machine_to_physical,
        "mmu-update-bad-slots": mmu::updates::bad_slots,
        "mmu-update-bad-entries": mmu::updates::bad_entries,
        "mmu-update-counts": mmu::updates::counts,
        "mmu-update-bad-lists": mmu::updates::bad_lists,
        "mmu-update-other-domains": mmu::updates::other_domains,
        "mmu-va-mapping": mmu::va_mapping::mapping,
        "mmu-va-no-execute": mmu::va_mapping::no_execute,
        "mmu-va-bad-addresses": mmu::va_mapping::bad_addresses,
        "mmu-va-bad-entries": mmu::va_mapping::bad_entries,
        "mmu-va-bad-masks": mmu::va_mapping::bad_masks,
        "mmu-va-other-domains": mmu::va_mapping::other_domains,
        "mmu-pin-levels": mmu::pins::levels,
        "mmu-pin-whole-tree": mmu::pins::whole_tree,
        "mmu-pin-twice": mmu::pins::twice,
        "mmu-pin-refusals": mmu::pins::refusals,
        "mmu-pin-bad-entries": mmu::pins::bad_entries,
        "mmu-pin-builders-root": mmu::pins::builders_root,
        "mmu-pin-large-tree": mmu::pins::large_tree,
        "mmu-pin-large-tree-refused": mmu::pins::large_tree_refused,
        "mmu-root-kernel": mmu::roots::kernel,
        "mmu-root-user": mmu::roots::user,
        "mmu-root-refusals": mmu::roots::refusals,
        "mmu-flush-translations": mmu::flushes::translations,
        "mmu-flush-odd-targets": mmu::flushes::odd_targets,
        "mmu-ext-other-operations": mmu::flushes::other_operations,
        "mmu-ext-counts": mmu::flushes::counts,
        "mmu-ext-arguments": mmu::flushes::arguments,
        "mmu-copy-pages": mmu::copies::pages,
        "mmu-copy-tables": mmu::copies::tables,
        "mmu-gdt-frames": mmu::descriptors::gdt_frames,
        "mmu-gdt-large": mmu::descriptors::gdt_large,
        "mmu-gdt-refusals": mmu::descriptors::gdt_refusals,
        "mmu-descriptor-updates": mmu::descriptors::updates,
        "mmu-ldt-use": mmu::ldt::uses,
        "mmu-ldt-new-root": mmu::ldt::new_root,
        "mmu-ldt-unusable": mmu::ldt::unusable,
        "mmu-ldt-refusals": mmu::ldt::refusals,
        "mmu-memory-give-and-take": mmu::reservation::give_and_take,
        "mmu-memory-many": mmu::reservation::many,
        "mmu-memory-in-use": mmu::reservation::in_use,
        "mmu-memory-refusals": mmu::reservation::refusals,
        "mmu-memory-limit": mmu::reservation::limit,
        "mmu-exchange": mmu::reservation::exchange,
        "mmu-exchange-refusals": mmu::reservation::exchange_refusals,
        "mmu-emulated-stores": mmu::emulated::stores,
        "mmu-emulated-read-modify-write": mmu::emulated::read_modify_write,
        "mmu-emulated-flags": mmu::emulated::flags,
        "mmu-emulated-refusals": mmu::emulated::refusals,
        "mmu-user-system-call": mmu::user_mode::system_call,
        "mmu-user-traps": mmu::user_mode::traps,
        "mmu-user-page-faults": mmu::user_mode::page_faults,
        "mmu-user-hypervisors-slots": mmu::user_mode::hypervisors_slots,
        "mmu-user-bad-returns": mmu::user_mode::bad_returns,
        "mmu-user-flags": mmu::user_mode::flags,
        "mmu-user-without-callback": mmu::user_mode::without_callback,
        "mmu-debug-registers": mmu::debug::registers,
        "mmu-debug-refusals": mmu::debug::refusals,
        "mmu-debug-breakpoints": mmu::debug::breakpoints,
        "mmu-task-switch": mmu::cpu::task_switch,
        "mmu-fsgsbase": mmu::cpu::fsgsbase,
        "mmu-user-ports": mmu::cpu::ports,
        "mmu-lists": mmu::cpu::lists,
        "attack-writable-new-entries": attack::writable::new_entries,
        "attack-writable-write-bit": attack::writable::write_bit,
        "attack-writable-mapping-first": attack::writable::mapping_first,
        "attack-writable-whole-tables": attack::writable::whole_tables,
        "attack-stale-translations": attack::writable::stale_translations,
        "attack-stale-table": attack::writable::stale_table,
        "attack-large-pages": attack::superpages::large_pages,
        "attack-reserved-bits": attack::superpages::reserved_bits,
        "attack-linear-tables": attack::linear::tables,
        "attack-linear-write-bit": attack::linear::write_bit,
        "attack-circles": attack::linear::circles,
        "attack-levels": attack::levels::places,
        "attack-tables-as-others": attack::levels::tables_as_others,
        "attack-descriptor-pages": attack::levels::descriptor_pages,
        "attack-shared-page": attack::levels::shared_page,
        "attack-removed-entries": attack::stale::removed_entries,
        "attack-replaced-entries": attack::stale::replaced_entries,
        "attack-stale-lists": attack::stale::lists,
        "attack-freed-tables": attack::freed::tables,
        "attack-freed-roots": attack::freed::roots,
        "attack-freed-descriptors": attack::freed::descriptors,
        "attack-freed-data": attack::freed::data,
        "attack-freed-twice": attack::freed::others,
        "attack-result-pointers": attack::pointers::results,
        "attack-exchange": attack::pointers::exchange,
        "attack-machphys-table": attack::pointers::machine_to_physical,
        "attack-count-in-a-table": attack::own_arguments::count_in_a_table,
        "attack-list-in-a-table": attack::own_arguments::list_in_a_table,
        "attack-lists": attack::counts::lists,
        "attack-restarts": attack::counts::restarts,
        "attack-orders": attack::counts::orders,
        "attack-foreign-mappings": attack::foreign::mappings,
        "attack-foreign-names": attack::foreign::in_others_names,
        "attack-foreign-uses": attack::foreign::uses,
        "attack-hypervisor-slots": attack::hypervisor::slots,
        "attack-hypervisor-own-root": attack::hypervisor::own_root,
        "attack-hypervisor-by-kernel": attack::hypervisor::kernel_access,
        "attack-hypervisor-by-user": attack::hypervisor::user_access,
        "attack-user-root": attack::two_roots::writable_in_user_root,
        "attack-user-root-later": attack::two_roots::writable_later,
        "attack-swapped-roots": attack::two_roots::swapped_roots,
        "attack-system-call-at-the-end": attack::returns::system_call_at_the_end,
        "attack-system-call-returns": attack::returns::system_call_returns,
        "attack-kernel-returns": attack::returns::kernel_returns,
        "attack-return-in-a-list": attack::returns::in_a_list,
        "attack-odd-return-frames": attack::returns::odd_frames,
        "attack-debug-hypervisor": attack::debug::on_the_hypervisor,
        "attack-debug-mov-ss": attack::debug::held_back_by_mov_ss,
        "attack-debug-steps": attack::debug::step_into_a_call,
        "attack-debug-user-mode": attack::debug::from_user_mode,
        "attack-segment-bases": attack::addresses::segment_bases,
        "attack-flushes": attack::addresses::flushes,
        "attack-user-addresses": attack::addresses::in_user_mode,
        "attack-descriptors": attack::gates::into_tables,
        "attack-gates": attack::gates::calls,
        "attack-stale-descriptors": attack::gates::stale_translations,
        "attack-stores": attack::stores::all_instructions,
        "attack-stores-across-borders": attack::stores::across_borders,
        "attack-stores-of-far-bits": attack::stores::far_bits,
        "attack-random-updates": attack::random::updates::told,
        "attack-random-calls": attack::random::calls::told,
    }
    neighbour {
        "neighbour": neighbour::watch,
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
        "crash-user-stack-unmapped": mmu::ends::user_stack_unmapped,
        "crash-user-stack-in-hypervisor": mmu::ends::user_stack_in_hypervisor,
        "crash-user-stack-not-canonical": mmu::ends::user_stack_not_canonical,
        "crash-user-stack-in-table": mmu::ends::user_stack_in_table,
        "crash-root-without-kernel": mmu::ends::root_without_kernel,
        "crash-kernel-unmapped": mmu::ends::kernel_unmapped,
        "crash-with-everything": mmu::ends::with_everything,
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
        "task-registers": task::registers::there_and_back,
        "task-system-calls": task::calls::all,
        "task-demand-paging": task::pages::on_demand,
        "task-fork": task::pages::fork,
        "task-family": task::families::generations_of_three,
        "task-killed": task::killed::each_alone,
        "task-many": task::families::many,
    }
    boot {
        "ramdisk": ramdisk::ramdisk,
        "spin": sched::spin,
    }
    domains {
        "domains-life": domains::life::from_create_to_destroy,
        "domains-pauses": domains::life::pauses,
        "domains-foreign-frames": domains::foreign::outlives_its_domain,
        "domains-foreign-rules": domains::foreign::rules,
        "domains-refusals": domains::refusals::with_control,
        "domains-unprivileged": domains::refusals::without_control,
        "domains-hundred": domains::many::hundred,
    }
    child {
        "child-sleeper": domains::child::sleeper,
        "child-busy": domains::child::busy,
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
