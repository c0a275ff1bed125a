//! The start of day, traps, vCPUs, memory and scheduling.

use pv_abi::*;

use crate::table::{Table, flags, structs, types, values};

/// Adds the rows.
pub fn add(table: &mut Table) {
    values!(table, hypercall {
        SET_TRAP_TABLE => "__HYPERVISOR_set_trap_table",
        MMU_UPDATE => "__HYPERVISOR_mmu_update",
        SET_GDT => "__HYPERVISOR_set_gdt",
        STACK_SWITCH => "__HYPERVISOR_stack_switch",
        SET_CALLBACKS => "__HYPERVISOR_set_callbacks",
        FPU_TASKSWITCH => "__HYPERVISOR_fpu_taskswitch",
        SCHED_OP_COMPAT => "__HYPERVISOR_sched_op_compat",
        PLATFORM_OP => "__HYPERVISOR_platform_op",
        SET_DEBUGREG => "__HYPERVISOR_set_debugreg",
        GET_DEBUGREG => "__HYPERVISOR_get_debugreg",
        UPDATE_DESCRIPTOR => "__HYPERVISOR_update_descriptor",
        MEMORY_OP => "__HYPERVISOR_memory_op",
        MULTICALL => "__HYPERVISOR_multicall",
        UPDATE_VA_MAPPING => "__HYPERVISOR_update_va_mapping",
        SET_TIMER_OP => "__HYPERVISOR_set_timer_op",
        EVENT_CHANNEL_OP_COMPAT => "__HYPERVISOR_event_channel_op_compat",
        XEN_VERSION => "__HYPERVISOR_xen_version",
        CONSOLE_IO => "__HYPERVISOR_console_io",
        PHYSDEV_OP_COMPAT => "__HYPERVISOR_physdev_op_compat",
        GRANT_TABLE_OP => "__HYPERVISOR_grant_table_op",
        VM_ASSIST => "__HYPERVISOR_vm_assist",
        UPDATE_VA_MAPPING_OTHERDOMAIN => "__HYPERVISOR_update_va_mapping_otherdomain",
        IRET => "__HYPERVISOR_iret",
        VCPU_OP => "__HYPERVISOR_vcpu_op",
        SET_SEGMENT_BASE => "__HYPERVISOR_set_segment_base",
        MMUEXT_OP => "__HYPERVISOR_mmuext_op",
        XSM_OP => "__HYPERVISOR_xsm_op",
        NMI_OP => "__HYPERVISOR_nmi_op",
        SCHED_OP => "__HYPERVISOR_sched_op",
        CALLBACK_OP => "__HYPERVISOR_callback_op",
        XENOPROF_OP => "__HYPERVISOR_xenoprof_op",
        EVENT_CHANNEL_OP => "__HYPERVISOR_event_channel_op",
        PHYSDEV_OP => "__HYPERVISOR_physdev_op",
        HVM_OP => "__HYPERVISOR_hvm_op",
        SYSCTL => "__HYPERVISOR_sysctl",
        DOMCTL => "__HYPERVISOR_domctl",
        KEXEC_OP => "__HYPERVISOR_kexec_op",
        TMEM_OP => "__HYPERVISOR_tmem_op",
        ARGO_OP => "__HYPERVISOR_argo_op",
        XENPMU_OP => "__HYPERVISOR_xenpmu_op",
        DM_OP => "__HYPERVISOR_dm_op",
        HYPFS_OP => "__HYPERVISOR_hypfs_op",
        ARCH_0 => "__HYPERVISOR_arch_0",
    });
    structs!(table, hypercall {
        MulticallEntry: "struct multicall_entry" { op: "op", result: "result", args: "args" },
    });
    values!(table, version {
        XENVER_VERSION => "XENVER_version",
        XENVER_EXTRAVERSION => "XENVER_extraversion",
        XENVER_COMPILE_INFO => "XENVER_compile_info",
        XENVER_CAPABILITIES => "XENVER_capabilities",
        XENVER_CHANGESET => "XENVER_changeset",
        XENVER_PLATFORM_PARAMETERS => "XENVER_platform_parameters",
        XENVER_GET_FEATURES => "XENVER_get_features",
        XENVER_PAGESIZE => "XENVER_pagesize",
        XENVER_GUEST_HANDLE => "XENVER_guest_handle",
        XENVER_COMMANDLINE => "XENVER_commandline",
        XENVER_BUILD_ID => "XENVER_build_id",
    });
    types!(table, version {
        ExtraVersion => "xen_extraversion_t",
        CapabilitiesInfo => "xen_capabilities_info_t",
        ChangesetInfo => "xen_changeset_info_t",
        Commandline => "xen_commandline_t",
        DomainHandle => "xen_domain_handle_t",
    });
    structs!(table, version {
        CompileInfo: "struct xen_compile_info" {
            compiler: "compiler", compile_by: "compile_by", compile_domain: "compile_domain",
            compile_date: "compile_date",
        },
        PlatformParameters: "struct xen_platform_parameters" { virt_start: "virt_start" },
        FeatureInfo: "struct xen_feature_info" { submap_idx: "submap_idx", submap: "submap" },
        BuildId: "struct xen_build_id" { len: "len" },
    });
    values!(table, features {
        XENFEAT_WRITABLE_PAGE_TABLES => "XENFEAT_writable_page_tables",
        XENFEAT_WRITABLE_DESCRIPTOR_TABLES => "XENFEAT_writable_descriptor_tables",
        XENFEAT_AUTO_TRANSLATED_PHYSMAP => "XENFEAT_auto_translated_physmap",
        XENFEAT_SUPERVISOR_MODE_KERNEL => "XENFEAT_supervisor_mode_kernel",
        XENFEAT_PAE_PGDIR_ABOVE_4GB => "XENFEAT_pae_pgdir_above_4gb",
        XENFEAT_MMU_PT_UPDATE_PRESERVE_AD => "XENFEAT_mmu_pt_update_preserve_ad",
        XENFEAT_HIGHMEM_ASSIST => "XENFEAT_highmem_assist",
        XENFEAT_GNTTAB_MAP_AVAIL_BITS => "XENFEAT_gnttab_map_avail_bits",
        XENFEAT_HVM_CALLBACK_VECTOR => "XENFEAT_hvm_callback_vector",
        XENFEAT_HVM_SAFE_PVCLOCK => "XENFEAT_hvm_safe_pvclock",
        XENFEAT_HVM_PIRQS => "XENFEAT_hvm_pirqs",
        XENFEAT_DOM0 => "XENFEAT_dom0",
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED => "XENFEAT_memory_op_vnode_supported",
        XENFEAT_ARM_SMCCC_SUPPORTED => "XENFEAT_ARM_SMCCC_supported",
        XENFEAT_LINUX_RSDP_UNRESTRICTED => "XENFEAT_linux_rsdp_unrestricted",
        XENFEAT_NOT_DIRECT_MAPPED => "XENFEAT_not_direct_mapped",
        XENFEAT_DIRECT_MAPPED => "XENFEAT_direct_mapped",
        XENFEAT_NR_SUBMAPS => "XENFEAT_NR_SUBMAPS",
    });
    values!(table, domid {
        DOMID_FIRST_RESERVED => "DOMID_FIRST_RESERVED",
        DOMID_SELF => "DOMID_SELF",
        DOMID_IO => "DOMID_IO",
        DOMID_XEN => "DOMID_XEN",
        DOMID_COW => "DOMID_COW",
        DOMID_INVALID => "DOMID_INVALID",
        DOMID_IDLE => "DOMID_IDLE",
        DOMID_MASK => "DOMID_MASK",
        DOMAIN_HANDLE_LEN => "sizeof(xen_domain_handle_t)",
    });
    values!(table, console {
        CONSOLEIO_WRITE => "CONSOLEIO_write",
        CONSOLEIO_READ => "CONSOLEIO_read",
    });
    values!(table, sched {
        SCHEDOP_YIELD => "SCHEDOP_yield",
        SCHEDOP_BLOCK => "SCHEDOP_block",
        SCHEDOP_SHUTDOWN => "SCHEDOP_shutdown",
        SCHEDOP_POLL => "SCHEDOP_poll",
        SCHEDOP_REMOTE_SHUTDOWN => "SCHEDOP_remote_shutdown",
        SCHEDOP_SHUTDOWN_CODE => "SCHEDOP_shutdown_code",
        SCHEDOP_WATCHDOG => "SCHEDOP_watchdog",
        SCHEDOP_PIN_OVERRIDE => "SCHEDOP_pin_override",
        SHUTDOWN_POWEROFF => "SHUTDOWN_poweroff",
        SHUTDOWN_REBOOT => "SHUTDOWN_reboot",
        SHUTDOWN_SUSPEND => "SHUTDOWN_suspend",
        SHUTDOWN_CRASH => "SHUTDOWN_crash",
        SHUTDOWN_WATCHDOG => "SHUTDOWN_watchdog",
        SHUTDOWN_SOFT_RESET => "SHUTDOWN_soft_reset",
        SHUTDOWN_MAX => "SHUTDOWN_MAX",
    });
    structs!(table, sched {
        SchedShutdown: "struct sched_shutdown" { reason: "reason" },
        SchedPoll: "struct sched_poll" { ports: "ports", nr_ports: "nr_ports", _pad, timeout: "timeout" },
        SchedRemoteShutdown: "struct sched_remote_shutdown" { domain_id: "domain_id", _pad, reason: "reason" },
        SchedWatchdog: "struct sched_watchdog" { id: "id", timeout: "timeout" },
        SchedPinOverride: "struct sched_pin_override" { pcpu: "pcpu" },
    });
    values!(table, memory {
        HYPERVISOR_VIRT_START => "HYPERVISOR_VIRT_START",
        HYPERVISOR_VIRT_END => "HYPERVISOR_VIRT_END",
        MACH2PHYS_VIRT_START => "MACH2PHYS_VIRT_START",
        MACH2PHYS_VIRT_END => "MACH2PHYS_VIRT_END",
        XENMEM_INCREASE_RESERVATION => "XENMEM_increase_reservation",
        XENMEM_DECREASE_RESERVATION => "XENMEM_decrease_reservation",
        XENMEM_MAXIMUM_RAM_PAGE => "XENMEM_maximum_ram_page",
        XENMEM_CURRENT_RESERVATION => "XENMEM_current_reservation",
        XENMEM_MAXIMUM_RESERVATION => "XENMEM_maximum_reservation",
        XENMEM_MACHPHYS_MFN_LIST => "XENMEM_machphys_mfn_list",
        XENMEM_POPULATE_PHYSMAP => "XENMEM_populate_physmap",
        XENMEM_ADD_TO_PHYSMAP => "XENMEM_add_to_physmap",
        XENMEM_MEMORY_MAP => "XENMEM_memory_map",
        XENMEM_MACHINE_MEMORY_MAP => "XENMEM_machine_memory_map",
        XENMEM_EXCHANGE => "XENMEM_exchange",
        XENMEM_MACHPHYS_MAPPING => "XENMEM_machphys_mapping",
        XENMEM_SET_MEMORY_MAP => "XENMEM_set_memory_map",
        XENMEM_MAXIMUM_GPFN => "XENMEM_maximum_gpfn",
        XENMEM_REMOVE_FROM_PHYSMAP => "XENMEM_remove_from_physmap",
        XENMEM_ADD_TO_PHYSMAP_BATCH => "XENMEM_add_to_physmap_batch",
        XENMEM_CLAIM_PAGES => "XENMEM_claim_pages",
        XENMEM_GET_VNUMAINFO => "XENMEM_get_vnumainfo",
        XENMEM_ACQUIRE_RESOURCE => "XENMEM_acquire_resource",
        XENMEMF_ADDRESS_BITS_MASK => "XENMEMF_get_address_bits(~0u)",
        XENMEMF_POPULATE_ON_DEMAND => "XENMEMF_populate_on_demand",
        XENMEMF_EXACT_NODE_REQUEST => "XENMEMF_exact_node_request",
        XENMEMF_VNODE => "XENMEMF_vnode",
        XENMAPSPACE_SHARED_INFO => "XENMAPSPACE_shared_info",
        XENMAPSPACE_GRANT_TABLE => "XENMAPSPACE_grant_table",
    });
    structs!(table, memory {
        MemoryReservation: "struct xen_memory_reservation" {
            extent_start: "extent_start", nr_extents: "nr_extents", extent_order: "extent_order",
            mem_flags: "mem_flags", domid: "domid", _pad,
        },
        MemoryExchange: "struct xen_memory_exchange" { input: "in", output: "out", nr_exchanged: "nr_exchanged" },
        MemoryDomain: "struct xen_memory_domain" { domid: "domid" },
        MachphysMfnList: "struct xen_machphys_mfn_list" {
            max_extents: "max_extents", _pad0, extent_start: "extent_start", nr_extents: "nr_extents", _pad1,
        },
        MachphysMapping: "struct xen_machphys_mapping" { v_start: "v_start", v_end: "v_end", max_mfn: "max_mfn" },
        AddToPhysmap: "struct xen_add_to_physmap" {
            domid: "domid", size: "size", space: "space", idx: "idx", gpfn: "gpfn",
        },
        RemoveFromPhysmap: "struct xen_remove_from_physmap" { domid: "domid", _pad, gpfn: "gpfn" },
        MemoryMap: "struct xen_memory_map" { nr_entries: "nr_entries", _pad, buffer: "buffer" },
        ForeignMemoryMap: "struct xen_foreign_memory_map" { domid: "domid", _pad, map: "map" },
    });
    values!(table, trap {
        FLAT_RING3_CS32 => "FLAT_RING3_CS32",
        FLAT_RING3_CS64 => "FLAT_RING3_CS64",
        FLAT_RING3_DS32 => "FLAT_RING3_DS32",
        FLAT_RING3_DS64 => "FLAT_RING3_DS64",
        FLAT_RING3_SS32 => "FLAT_RING3_SS32",
        FLAT_RING3_SS64 => "FLAT_RING3_SS64",
        FLAT_KERNEL_CS => "FLAT_KERNEL_CS",
        FLAT_KERNEL_SS => "FLAT_KERNEL_SS",
        FLAT_USER_CS => "FLAT_USER_CS",
        FLAT_USER_SS => "FLAT_USER_SS",
        FIRST_RESERVED_GDT_PAGE => "FIRST_RESERVED_GDT_PAGE",
        FIRST_RESERVED_GDT_BYTE => "FIRST_RESERVED_GDT_BYTE",
        FIRST_RESERVED_GDT_ENTRY => "FIRST_RESERVED_GDT_ENTRY",
        SEGBASE_FS => "SEGBASE_FS",
        SEGBASE_GS_USER => "SEGBASE_GS_USER",
        SEGBASE_GS_KERNEL => "SEGBASE_GS_KERNEL",
        SEGBASE_GS_USER_SEL => "SEGBASE_GS_USER_SEL",
        TI_DPL_MASK => "TI_GET_DPL(&(struct trap_info){ .flags = 0xff })",
        TI_MASK_EVENTS => "TI_GET_IF(&(struct trap_info){ .flags = 0xff })",
        CALLBACKOP_REGISTER => "CALLBACKOP_register",
        CALLBACKOP_UNREGISTER => "CALLBACKOP_unregister",
        CALLBACKTYPE_EVENT => "CALLBACKTYPE_event",
        CALLBACKTYPE_FAILSAFE => "CALLBACKTYPE_failsafe",
        CALLBACKTYPE_SYSCALL => "CALLBACKTYPE_syscall",
        CALLBACKTYPE_SYSENTER_DEPRECATED => "CALLBACKTYPE_sysenter_deprecated",
        CALLBACKTYPE_NMI => "CALLBACKTYPE_nmi",
        CALLBACKTYPE_SYSENTER => "CALLBACKTYPE_sysenter",
        CALLBACKTYPE_SYSCALL32 => "CALLBACKTYPE_syscall32",
        VMASST_CMD_ENABLE => "VMASST_CMD_enable",
        VMASST_CMD_DISABLE => "VMASST_CMD_disable",
        VMASST_TYPE_4GB_SEGMENTS => "VMASST_TYPE_4gb_segments",
        VMASST_TYPE_4GB_SEGMENTS_NOTIFY => "VMASST_TYPE_4gb_segments_notify",
        VMASST_TYPE_WRITABLE_PAGETABLES => "VMASST_TYPE_writable_pagetables",
        VMASST_TYPE_PAE_EXTENDED_CR3 => "VMASST_TYPE_pae_extended_cr3",
        VMASST_TYPE_ARCHITECTURAL_IOPL => "VMASST_TYPE_architectural_iopl",
        VMASST_TYPE_RUNSTATE_UPDATE_FLAG => "VMASST_TYPE_runstate_update_flag",
        VMASST_TYPE_M2P_STRICT => "VMASST_TYPE_m2p_strict",
    });
    flags!(table, trap::CallbackFlags {
        MASK_EVENTS => "CALLBACKF_mask_events",
    });
    structs!(table, trap {
        TrapInfo: "struct trap_info" { vector: "vector", flags: "flags", cs: "cs", _pad, address: "address" },
        CallbackRegister: "struct callback_register" { kind: "type", flags: "flags", _pad, address: "address" },
        CallbackUnregister: "struct callback_unregister" { kind: "type", _unused },
        IretContext: "struct iret_context" {
            rax: "rax", r11: "r11", rcx: "rcx", flags: "flags", rip: "rip", cs: "cs", rflags: "rflags", rsp: "rsp",
            ss: "ss",
        },
    });
    values!(table, start_info {
        MAX_GUEST_CMDLINE => "MAX_GUEST_CMDLINE",
    });
    flags!(table, start_info::StartFlags {
        PRIVILEGED => "SIF_PRIVILEGED",
        INITDOMAIN => "SIF_INITDOMAIN",
        MULTIBOOT_MOD => "SIF_MULTIBOOT_MOD",
        MOD_START_PFN => "SIF_MOD_START_PFN",
        VIRT_P2M_4TOOLS => "SIF_VIRT_P2M_4TOOLS",
        PM_MASK => "SIF_PM_MASK",
    });
    structs!(table, start_info {
        StartInfo: "struct start_info" {
            magic: "magic", nr_pages: "nr_pages", shared_info: "shared_info", flags: "flags", _pad0,
            store_mfn: "store_mfn", store_evtchn: "store_evtchn", _pad1, console_mfn: "console.domU.mfn",
            console_evtchn: "console.domU.evtchn", _pad2, pt_base: "pt_base", nr_pt_frames: "nr_pt_frames",
            mfn_list: "mfn_list", mod_start: "mod_start", mod_len: "mod_len", cmd_line: "cmd_line",
            first_p2m_pfn: "first_p2m_pfn", nr_p2m_frames: "nr_p2m_frames",
        },
    });
    values!(table, shared_info {
        XEN_LEGACY_MAX_VCPUS => "XEN_LEGACY_MAX_VCPUS",
    });
    flags!(table, shared_info::TimeFlags {
        TSC_STABLE => "XEN_PVCLOCK_TSC_STABLE_BIT",
        GUEST_STOPPED => "XEN_PVCLOCK_GUEST_STOPPED",
    });
    structs!(table, shared_info {
        VcpuTimeInfo: "struct vcpu_time_info" {
            version: "version", _pad0, tsc_timestamp: "tsc_timestamp", system_time: "system_time",
            tsc_to_system_mul: "tsc_to_system_mul", tsc_shift: "tsc_shift", flags: "flags", _pad1,
        },
        ArchVcpuInfo: "struct arch_vcpu_info" { cr2: "cr2", _pad },
        VcpuInfo: "struct vcpu_info" {
            evtchn_upcall_pending: "evtchn_upcall_pending", evtchn_upcall_mask: "evtchn_upcall_mask", _pad,
            evtchn_pending_sel: "evtchn_pending_sel", arch: "arch", time: "time",
        },
        ArchSharedInfo: "struct arch_shared_info" {
            max_pfn: "max_pfn", pfn_to_mfn_frame_list_list: "pfn_to_mfn_frame_list_list", nmi_reason: "nmi_reason",
            p2m_cr3: "p2m_cr3", p2m_vaddr: "p2m_vaddr", p2m_generation: "p2m_generation",
        },
        SharedInfo: "struct shared_info" {
            vcpu_info: "vcpu_info", evtchn_pending: "evtchn_pending", evtchn_mask: "evtchn_mask",
            wc_version: "wc_version", wc_sec: "wc_sec", wc_nsec: "wc_nsec", wc_sec_hi: "wc_sec_hi", arch: "arch",
        },
    });
    values!(table, vcpu {
        VCPUOP_INITIALISE => "VCPUOP_initialise",
        VCPUOP_UP => "VCPUOP_up",
        VCPUOP_DOWN => "VCPUOP_down",
        VCPUOP_IS_UP => "VCPUOP_is_up",
        VCPUOP_GET_RUNSTATE_INFO => "VCPUOP_get_runstate_info",
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => "VCPUOP_register_runstate_memory_area",
        VCPUOP_SET_PERIODIC_TIMER => "VCPUOP_set_periodic_timer",
        VCPUOP_STOP_PERIODIC_TIMER => "VCPUOP_stop_periodic_timer",
        VCPUOP_SET_SINGLESHOT_TIMER => "VCPUOP_set_singleshot_timer",
        VCPUOP_STOP_SINGLESHOT_TIMER => "VCPUOP_stop_singleshot_timer",
        VCPUOP_REGISTER_VCPU_INFO => "VCPUOP_register_vcpu_info",
        VCPUOP_SEND_NMI => "VCPUOP_send_nmi",
        VCPUOP_GET_PHYSID => "VCPUOP_get_physid",
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => "VCPUOP_register_vcpu_time_memory_area",
        RUNSTATE_RUNNING => "RUNSTATE_running",
        RUNSTATE_RUNNABLE => "RUNSTATE_runnable",
        RUNSTATE_BLOCKED => "RUNSTATE_blocked",
        RUNSTATE_OFFLINE => "RUNSTATE_offline",
        XEN_RUNSTATE_UPDATE => "XEN_RUNSTATE_UPDATE",
    });
    flags!(table, vcpu::VcpuContextFlags {
        I387_VALID => "VGCF_i387_valid",
        IN_KERNEL => "VGCF_in_kernel",
        FAILSAFE_DISABLES_EVENTS => "VGCF_failsafe_disables_events",
        SYSCALL_DISABLES_EVENTS => "VGCF_syscall_disables_events",
        ONLINE => "VGCF_online",
        IN_SYSCALL => "VGCF_in_syscall",
    });
    flags!(table, vcpu::SingleshotFlags {
        FUTURE => "VCPU_SSHOTTMR_future",
    });
    structs!(table, vcpu {
        CpuUserRegs: "struct cpu_user_regs" {
            r15: "r15", r14: "r14", r13: "r13", r12: "r12", rbp: "rbp", rbx: "rbx", r11: "r11", r10: "r10", r9: "r9",
            r8: "r8", rax: "rax", rcx: "rcx", rdx: "rdx", rsi: "rsi", rdi: "rdi", error_code: "error_code",
            entry_vector: "entry_vector", rip: "rip", cs: "cs", _pad0, saved_upcall_mask: "saved_upcall_mask", _pad1,
            rflags: "rflags", rsp: "rsp", ss: "ss", _pad2, es: "es", _pad3, ds: "ds", _pad4, fs: "fs", _pad5,
            gs: "gs", _pad6,
        },
        VcpuGuestContext: "struct vcpu_guest_context" {
            fpu_ctxt: "fpu_ctxt", flags: "flags", user_regs: "user_regs", trap_ctxt: "trap_ctxt",
            ldt_base: "ldt_base", ldt_ents: "ldt_ents", gdt_frames: "gdt_frames", gdt_ents: "gdt_ents",
            kernel_ss: "kernel_ss", kernel_sp: "kernel_sp", ctrlreg: "ctrlreg", debugreg: "debugreg",
            event_callback_eip: "event_callback_eip", failsafe_callback_eip: "failsafe_callback_eip",
            syscall_callback_eip: "syscall_callback_eip", vm_assist: "vm_assist", fs_base: "fs_base",
            gs_base_kernel: "gs_base_kernel", gs_base_user: "gs_base_user",
        },
        VcpuRunstateInfo: "struct vcpu_runstate_info" {
            state: "state", _pad, state_entry_time: "state_entry_time", time: "time",
        },
        VcpuRegisterMemoryArea: "struct vcpu_register_runstate_memory_area" { addr: "addr" },
        VcpuRegisterMemoryArea: "struct vcpu_register_time_memory_area" { addr: "addr" },
        VcpuSetPeriodicTimer: "struct vcpu_set_periodic_timer" { period_ns: "period_ns" },
        VcpuSetSingleshotTimer: "struct vcpu_set_singleshot_timer" {
            timeout_abs_ns: "timeout_abs_ns", flags: "flags", _pad,
        },
        VcpuRegisterVcpuInfo: "struct vcpu_register_vcpu_info" { mfn: "mfn", offset: "offset", _rsvd },
    });
}
