//! Control of domains and of the machine.

use pv_abi::*;

use crate::table::{Table, flags, structs, values};

/// Adds the rows.
pub fn add(table: &mut Table) {
    values!(table, domctl {
        XEN_DOMCTL_INTERFACE_VERSION => "XEN_DOMCTL_INTERFACE_VERSION",
        XEN_DOMCTL_CREATEDOMAIN => "XEN_DOMCTL_createdomain",
        XEN_DOMCTL_DESTROYDOMAIN => "XEN_DOMCTL_destroydomain",
        XEN_DOMCTL_PAUSEDOMAIN => "XEN_DOMCTL_pausedomain",
        XEN_DOMCTL_UNPAUSEDOMAIN => "XEN_DOMCTL_unpausedomain",
        XEN_DOMCTL_GETDOMAININFO => "XEN_DOMCTL_getdomaininfo",
        XEN_DOMCTL_SETVCPUAFFINITY => "XEN_DOMCTL_setvcpuaffinity",
        XEN_DOMCTL_MAX_MEM => "XEN_DOMCTL_max_mem",
        XEN_DOMCTL_SETVCPUCONTEXT => "XEN_DOMCTL_setvcpucontext",
        XEN_DOMCTL_GETVCPUCONTEXT => "XEN_DOMCTL_getvcpucontext",
        XEN_DOMCTL_GETVCPUINFO => "XEN_DOMCTL_getvcpuinfo",
        XEN_DOMCTL_MAX_VCPUS => "XEN_DOMCTL_max_vcpus",
        XEN_DOMCTL_SCHEDULER_OP => "XEN_DOMCTL_scheduler_op",
        XEN_DOMCTL_SETDOMAINHANDLE => "XEN_DOMCTL_setdomainhandle",
        XEN_DOMCTL_IRQ_PERMISSION => "XEN_DOMCTL_irq_permission",
        XEN_DOMCTL_IOMEM_PERMISSION => "XEN_DOMCTL_iomem_permission",
        XEN_DOMCTL_IOPORT_PERMISSION => "XEN_DOMCTL_ioport_permission",
        XEN_DOMCTL_HYPERCALL_INIT => "XEN_DOMCTL_hypercall_init",
        XEN_DOMCTL_SETTIMEOFFSET => "XEN_DOMCTL_settimeoffset",
        XEN_DOMCTL_GETVCPUAFFINITY => "XEN_DOMCTL_getvcpuaffinity",
        XEN_DOMCTL_RESUMEDOMAIN => "XEN_DOMCTL_resumedomain",
        XEN_DOMINF_SHUTDOWNSHIFT => "XEN_DOMINF_shutdownshift",
        XEN_DOMINF_SHUTDOWNMASK => "XEN_DOMINF_shutdownmask",
        XEN_INVALID_MAX_VCPU_ID => "XEN_INVALID_MAX_VCPU_ID",
        XEN_SCHEDULER_CREDIT => "XEN_SCHEDULER_CREDIT",
        XEN_SCHEDULER_CREDIT2 => "XEN_SCHEDULER_CREDIT2",
        XEN_DOMCTL_SCHEDOP_PUTINFO => "XEN_DOMCTL_SCHEDOP_putinfo",
        XEN_DOMCTL_SCHEDOP_GETINFO => "XEN_DOMCTL_SCHEDOP_getinfo",
    });
    flags!(table, domctl::CreateDomainFlags {
        HVM => "XEN_DOMCTL_CDF_hvm",
        HAP => "XEN_DOMCTL_CDF_hap",
        S3_INTEGRITY => "XEN_DOMCTL_CDF_s3_integrity",
        OOS_OFF => "XEN_DOMCTL_CDF_oos_off",
        XS_DOMAIN => "XEN_DOMCTL_CDF_xs_domain",
        IOMMU => "XEN_DOMCTL_CDF_iommu",
        NESTED_VIRT => "XEN_DOMCTL_CDF_nested_virt",
        VPMU => "XEN_DOMCTL_CDF_vpmu",
    });
    flags!(table, domctl::DomainInfoFlags {
        DYING => "XEN_DOMINF_dying",
        HVM_GUEST => "XEN_DOMINF_hvm_guest",
        SHUTDOWN => "XEN_DOMINF_shutdown",
        PAUSED => "XEN_DOMINF_paused",
        BLOCKED => "XEN_DOMINF_blocked",
        RUNNING => "XEN_DOMINF_running",
        DEBUGGED => "XEN_DOMINF_debugged",
        XS_DOMAIN => "XEN_DOMINF_xs_domain",
        HAP => "XEN_DOMINF_hap",
        SHUTDOWN_REASON => "XEN_DOMINF_shutdownmask << XEN_DOMINF_shutdownshift",
    });
    flags!(table, domctl::VcpuAffinityFlags {
        HARD => "XEN_VCPUAFFINITY_HARD",
        SOFT => "XEN_VCPUAFFINITY_SOFT",
        FORCE => "XEN_VCPUAFFINITY_FORCE",
    });
    structs!(table, domctl {
        Domctl: "struct xen_domctl" {
            cmd: "cmd", interface_version: "interface_version", domain: "domain", _pad, u: "u",
        },
        XenctlBitmap: "struct xenctl_bitmap" { bitmap: "bitmap", nr_bits: "nr_bits", _pad },
        ArchDomainConfig: "struct xen_arch_domainconfig" {
            emulation_flags: "emulation_flags", misc_flags: "misc_flags",
        },
        CreateDomain: "struct xen_domctl_createdomain" {
            ssidref: "ssidref", handle: "handle", flags: "flags", iommu_opts: "iommu_opts", max_vcpus: "max_vcpus",
            max_evtchn_port: "max_evtchn_port", max_grant_frames: "max_grant_frames",
            max_maptrack_frames: "max_maptrack_frames", grant_opts: "grant_opts", vmtrace_size: "vmtrace_size",
            cpupool_id: "cpupool_id", arch: "arch",
        },
        GetDomainInfo: "struct xen_domctl_getdomaininfo" {
            domain: "domain", _pad1, flags: "flags", tot_pages: "tot_pages", max_pages: "max_pages",
            outstanding_pages: "outstanding_pages", shr_pages: "shr_pages", paged_pages: "paged_pages",
            shared_info_frame: "shared_info_frame", cpu_time: "cpu_time", nr_online_vcpus: "nr_online_vcpus",
            max_vcpu_id: "max_vcpu_id", ssidref: "ssidref", handle: "handle", cpupool: "cpupool",
            gpaddr_bits: "gpaddr_bits", _pad2, arch_config: "arch_config",
        },
        MaxMem: "struct xen_domctl_max_mem" { max_memkb: "max_memkb" },
        MaxVcpus: "struct xen_domctl_max_vcpus" { max: "max" },
        VcpuContext: "struct xen_domctl_vcpucontext" { vcpu: "vcpu", _pad, ctxt: "ctxt" },
        GetVcpuInfo: "struct xen_domctl_getvcpuinfo" {
            vcpu: "vcpu", online: "online", blocked: "blocked", running: "running", _pad0, cpu_time: "cpu_time",
            cpu: "cpu", _pad1,
        },
        VcpuAffinity: "struct xen_domctl_vcpuaffinity" {
            vcpu: "vcpu", flags: "flags", cpumap_hard: "cpumap_hard", cpumap_soft: "cpumap_soft",
        },
        SchedCredit: "struct xen_domctl_sched_credit" { weight: "weight", cap: "cap" },
        SchedulerOp: "struct xen_domctl_scheduler_op" { sched_id: "sched_id", cmd: "cmd", credit: "u.credit", _rest },
        SetDomainHandle: "struct xen_domctl_setdomainhandle" { handle: "handle" },
        IrqPermission: "struct xen_domctl_irq_permission" { pirq: "pirq", allow_access: "allow_access", _pad },
        IomemPermission: "struct xen_domctl_iomem_permission" {
            first_mfn: "first_mfn", nr_mfns: "nr_mfns", allow_access: "allow_access", _pad,
        },
        IoportPermission: "struct xen_domctl_ioport_permission" {
            first_port: "first_port", nr_ports: "nr_ports", allow_access: "allow_access", _pad,
        },
        HypercallInit: "struct xen_domctl_hypercall_init" { gmfn: "gmfn" },
        SetTimeOffset: "struct xen_domctl_settimeoffset" { time_offset_seconds: "time_offset_seconds" },
    });
    values!(table, sysctl {
        XEN_SYSCTL_INTERFACE_VERSION => "XEN_SYSCTL_INTERFACE_VERSION",
        XEN_SYSCTL_READCONSOLE => "XEN_SYSCTL_readconsole",
        XEN_SYSCTL_PHYSINFO => "XEN_SYSCTL_physinfo",
        XEN_SYSCTL_SCHED_ID => "XEN_SYSCTL_sched_id",
        XEN_SYSCTL_GETDOMAININFOLIST => "XEN_SYSCTL_getdomaininfolist",
        XEN_SYSCTL_GETCPUINFO => "XEN_SYSCTL_getcpuinfo",
        XEN_SYSCTL_AVAILHEAP => "XEN_SYSCTL_availheap",
        XEN_SYSCTL_CPUTOPOINFO => "XEN_SYSCTL_cputopoinfo",
        XEN_SYSCTL_SCHEDULER_OP => "XEN_SYSCTL_scheduler_op",
        XEN_SYSCTL_SCHEDOP_PUTINFO => "XEN_SYSCTL_SCHEDOP_putinfo",
        XEN_SYSCTL_SCHEDOP_GETINFO => "XEN_SYSCTL_SCHEDOP_getinfo",
    });
    flags!(table, sysctl::PhysCaps {
        HVM => "XEN_SYSCTL_PHYSCAP_hvm",
        PV => "XEN_SYSCTL_PHYSCAP_pv",
        DIRECTIO => "XEN_SYSCTL_PHYSCAP_directio",
        HAP => "XEN_SYSCTL_PHYSCAP_hap",
        SHADOW => "XEN_SYSCTL_PHYSCAP_shadow",
        IOMMU_HAP_PT_SHARE => "XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share",
        VMTRACE => "XEN_SYSCTL_PHYSCAP_vmtrace",
        VPMU => "XEN_SYSCTL_PHYSCAP_vpmu",
        GNTTAB_V1 => "XEN_SYSCTL_PHYSCAP_gnttab_v1",
        GNTTAB_V2 => "XEN_SYSCTL_PHYSCAP_gnttab_v2",
    });
    structs!(table, sysctl {
        Sysctl: "struct xen_sysctl" { cmd: "cmd", interface_version: "interface_version", u: "u" },
        ReadConsole: "struct xen_sysctl_readconsole" {
            clear: "clear", incremental: "incremental", _pad0, _pad1, index: "index", buffer: "buffer",
            count: "count", _pad2,
        },
        PhysInfo: "struct xen_sysctl_physinfo" {
            threads_per_core: "threads_per_core", cores_per_socket: "cores_per_socket", nr_cpus: "nr_cpus",
            max_cpu_id: "max_cpu_id", nr_nodes: "nr_nodes", max_node_id: "max_node_id", cpu_khz: "cpu_khz",
            capabilities: "capabilities", arch_capabilities: "arch_capabilities", _pad, total_pages: "total_pages",
            free_pages: "free_pages", scrub_pages: "scrub_pages", outstanding_pages: "outstanding_pages",
            max_mfn: "max_mfn", hw_cap: "hw_cap",
        },
        SchedId: "struct xen_sysctl_sched_id" { sched_id: "sched_id" },
        GetDomainInfoList: "struct xen_sysctl_getdomaininfolist" {
            first_domain: "first_domain", _pad0, max_domains: "max_domains", buffer: "buffer",
            num_domains: "num_domains", _pad1,
        },
        CpuInfo: "struct xen_sysctl_cpuinfo" { idletime: "idletime" },
        GetCpuInfo: "struct xen_sysctl_getcpuinfo" {
            max_cpus: "max_cpus", _pad0, info: "info", nr_cpus: "nr_cpus", _pad1,
        },
        AvailHeap: "struct xen_sysctl_availheap" {
            min_bitwidth: "min_bitwidth", max_bitwidth: "max_bitwidth", node: "node", _pad,
            avail_bytes: "avail_bytes",
        },
        CpuTopo: "struct xen_sysctl_cputopo" { core: "core", socket: "socket", node: "node" },
        CpuTopoInfo: "struct xen_sysctl_cputopoinfo" { num_cpus: "num_cpus", _pad, cputopo: "cputopo" },
        CreditSchedule: "struct xen_sysctl_credit_schedule" {
            tslice_ms: "tslice_ms", ratelimit_us: "ratelimit_us", vcpu_migr_delay_us: "vcpu_migr_delay_us",
        },
        SysctlSchedulerOp: "struct xen_sysctl_scheduler_op" {
            cpupool_id: "cpupool_id", sched_id: "sched_id", cmd: "cmd", _pad, credit: "u.sched_credit", _rest,
        },
    });
}
