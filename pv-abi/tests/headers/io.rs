//! Protocols between domains.

use pv_abi::io::*;

use crate::table::{Table, flags, structs, values};

/// Adds the rows.
pub fn add(table: &mut Table) {
    values!(table, block {
        BLKIF_OP_READ => "BLKIF_OP_READ",
        BLKIF_OP_WRITE => "BLKIF_OP_WRITE",
        BLKIF_OP_WRITE_BARRIER => "BLKIF_OP_WRITE_BARRIER",
        BLKIF_OP_FLUSH_DISKCACHE => "BLKIF_OP_FLUSH_DISKCACHE",
        BLKIF_OP_DISCARD => "BLKIF_OP_DISCARD",
        BLKIF_OP_INDIRECT => "BLKIF_OP_INDIRECT",
        BLKIF_MAX_SEGMENTS_PER_REQUEST => "BLKIF_MAX_SEGMENTS_PER_REQUEST",
        BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST => "BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST",
        BLKIF_SLOT_BYTES => "sizeof(union blkif_sring_entry)",
        BLKIF_DISCARD_SECURE => "BLKIF_DISCARD_SECURE",
        BLKIF_RSP_OKAY => "BLKIF_RSP_OKAY",
        BLKIF_RSP_ERROR => "BLKIF_RSP_ERROR",
        BLKIF_RSP_EOPNOTSUPP => "BLKIF_RSP_EOPNOTSUPP",
    });
    flags!(table, block::VdiskFlags {
        CDROM => "VDISK_CDROM",
        REMOVABLE => "VDISK_REMOVABLE",
        READONLY => "VDISK_READONLY",
    });
    structs!(table, block {
        BlkifSegment: "struct blkif_request_segment" {
            gref: "gref", first_sect: "first_sect", last_sect: "last_sect", _pad,
        },
        BlkifRequest: "struct blkif_request" {
            operation: "operation", nr_segments: "nr_segments", handle: "handle", _pad, id: "id",
            sector_number: "sector_number", seg: "seg",
        },
        BlkifRequestDiscard: "struct blkif_request_discard" {
            operation: "operation", flag: "flag", handle: "handle", _pad, id: "id", sector_number: "sector_number",
            nr_sectors: "nr_sectors",
        },
        BlkifRequestIndirect: "struct blkif_request_indirect" {
            operation: "operation", indirect_op: "indirect_op", nr_segments: "nr_segments", _pad0, id: "id",
            sector_number: "sector_number", handle: "handle", _pad1, indirect_grefs: "indirect_grefs", _pad2,
        },
        BlkifResponse: "struct blkif_response" { id: "id", operation: "operation", _pad0, status: "status", _pad1 },
    });
    values!(table, console {
        CONSOLE_IN_SIZE => "sizeof(((struct xencons_interface *)0)->in)",
        CONSOLE_OUT_SIZE => "sizeof(((struct xencons_interface *)0)->out)",
    });
    structs!(table, console {
        ConsoleInterface: "struct xencons_interface" {
            input: "in", output: "out", in_cons: "in_cons", in_prod: "in_prod", out_cons: "out_cons",
            out_prod: "out_prod",
        },
    });
    values!(table, net {
        XEN_NETIF_NR_SLOTS_MIN => "XEN_NETIF_NR_SLOTS_MIN",
        XEN_NETIF_MAX_TX_SIZE => "XEN_NETIF_MAX_TX_SIZE",
        NETIF_RSP_DROPPED => "NETIF_RSP_DROPPED",
        NETIF_RSP_ERROR => "NETIF_RSP_ERROR",
        NETIF_RSP_OKAY => "NETIF_RSP_OKAY",
        NETIF_RSP_NULL => "NETIF_RSP_NULL",
        XEN_NETIF_EXTRA_TYPE_NONE => "XEN_NETIF_EXTRA_TYPE_NONE",
        XEN_NETIF_EXTRA_TYPE_GSO => "XEN_NETIF_EXTRA_TYPE_GSO",
        XEN_NETIF_EXTRA_TYPE_MCAST_ADD => "XEN_NETIF_EXTRA_TYPE_MCAST_ADD",
        XEN_NETIF_EXTRA_TYPE_MCAST_DEL => "XEN_NETIF_EXTRA_TYPE_MCAST_DEL",
        XEN_NETIF_EXTRA_TYPE_HASH => "XEN_NETIF_EXTRA_TYPE_HASH",
        XEN_NETIF_EXTRA_TYPE_MAX => "XEN_NETIF_EXTRA_TYPE_MAX",
        XEN_NETIF_EXTRA_FLAG_MORE => "XEN_NETIF_EXTRA_FLAG_MORE",
        XEN_NETIF_GSO_TYPE_NONE => "XEN_NETIF_GSO_TYPE_NONE",
        XEN_NETIF_GSO_TYPE_TCPV4 => "XEN_NETIF_GSO_TYPE_TCPV4",
        XEN_NETIF_GSO_TYPE_TCPV6 => "XEN_NETIF_GSO_TYPE_TCPV6",
    });
    flags!(table, net::NetTxFlags {
        CSUM_BLANK => "NETTXF_csum_blank",
        DATA_VALIDATED => "NETTXF_data_validated",
        MORE_DATA => "NETTXF_more_data",
        EXTRA_INFO => "NETTXF_extra_info",
    });
    flags!(table, net::NetRxFlags {
        DATA_VALIDATED => "NETRXF_data_validated",
        CSUM_BLANK => "NETRXF_csum_blank",
        MORE_DATA => "NETRXF_more_data",
        EXTRA_INFO => "NETRXF_extra_info",
        GSO_PREFIX => "NETRXF_gso_prefix",
    });
    structs!(table, net {
        NetifTxRequest: "struct netif_tx_request" {
            gref: "gref", offset: "offset", flags: "flags", id: "id", size: "size",
        },
        NetifTxResponse: "struct netif_tx_response" { id: "id", status: "status" },
        NetifRxRequest: "struct netif_rx_request" { id: "id", _pad, gref: "gref" },
        NetifRxResponse: "struct netif_rx_response" { id: "id", offset: "offset", flags: "flags", status: "status" },
        NetifExtraInfo: "struct netif_extra_info" { kind: "type", flags: "flags", u: "u" },
        NetifGso: "__typeof__(((struct netif_extra_info *)0)->u.gso)" {
            size: "size", kind: "type", _pad, features: "features",
        },
    });
    structs!(table, ring {
        RingHeader: "struct blkif_sring" ("offsetof(struct blkif_sring, ring)") {
            req_prod: "req_prod", req_event: "req_event", rsp_prod: "rsp_prod", rsp_event: "rsp_event", _pvt, _pad,
        },
    });
    values!(table, xenbus {
        XENBUS_STATE_UNKNOWN => "XenbusStateUnknown",
        XENBUS_STATE_INITIALISING => "XenbusStateInitialising",
        XENBUS_STATE_INIT_WAIT => "XenbusStateInitWait",
        XENBUS_STATE_INITIALISED => "XenbusStateInitialised",
        XENBUS_STATE_CONNECTED => "XenbusStateConnected",
        XENBUS_STATE_CLOSING => "XenbusStateClosing",
        XENBUS_STATE_CLOSED => "XenbusStateClosed",
        XENBUS_STATE_RECONFIGURING => "XenbusStateReconfiguring",
        XENBUS_STATE_RECONFIGURED => "XenbusStateReconfigured",
    });
    values!(table, xenstore {
        XS_CONTROL => "XS_CONTROL",
        XS_DIRECTORY => "XS_DIRECTORY",
        XS_READ => "XS_READ",
        XS_GET_PERMS => "XS_GET_PERMS",
        XS_WATCH => "XS_WATCH",
        XS_UNWATCH => "XS_UNWATCH",
        XS_TRANSACTION_START => "XS_TRANSACTION_START",
        XS_TRANSACTION_END => "XS_TRANSACTION_END",
        XS_INTRODUCE => "XS_INTRODUCE",
        XS_RELEASE => "XS_RELEASE",
        XS_GET_DOMAIN_PATH => "XS_GET_DOMAIN_PATH",
        XS_WRITE => "XS_WRITE",
        XS_MKDIR => "XS_MKDIR",
        XS_RM => "XS_RM",
        XS_SET_PERMS => "XS_SET_PERMS",
        XS_WATCH_EVENT => "XS_WATCH_EVENT",
        XS_ERROR => "XS_ERROR",
        XS_IS_DOMAIN_INTRODUCED => "XS_IS_DOMAIN_INTRODUCED",
        XS_RESUME => "XS_RESUME",
        XS_SET_TARGET => "XS_SET_TARGET",
        XS_RESET_WATCHES => "XS_RESET_WATCHES",
        XS_DIRECTORY_PART => "XS_DIRECTORY_PART",
        XS_TYPE_COUNT => "XS_TYPE_COUNT",
        XS_INVALID => "XS_INVALID",
        XENSTORE_RING_SIZE => "XENSTORE_RING_SIZE",
        XENSTORE_PAYLOAD_MAX => "XENSTORE_PAYLOAD_MAX",
        XENSTORE_ABS_PATH_MAX => "XENSTORE_ABS_PATH_MAX",
        XENSTORE_REL_PATH_MAX => "XENSTORE_REL_PATH_MAX",
        XENSTORE_SERVER_FEATURE_RECONNECTION => "XENSTORE_SERVER_FEATURE_RECONNECTION",
        XENSTORE_SERVER_FEATURE_ERROR => "XENSTORE_SERVER_FEATURE_ERROR",
        XENSTORE_CONNECTED => "XENSTORE_CONNECTED",
        XENSTORE_RECONNECT => "XENSTORE_RECONNECT",
        XENSTORE_ERROR_NONE => "XENSTORE_ERROR_NONE",
        XENSTORE_ERROR_COMM => "XENSTORE_ERROR_COMM",
        XENSTORE_ERROR_RINGIDX => "XENSTORE_ERROR_RINGIDX",
        XENSTORE_ERROR_PROTO => "XENSTORE_ERROR_PROTO",
    });
    structs!(table, xenstore {
        SockMsg: "struct xsd_sockmsg" { kind: "type", req_id: "req_id", tx_id: "tx_id", len: "len" },
        XenstoreInterface: "struct xenstore_domain_interface" {
            req: "req", rsp: "rsp", req_cons: "req_cons", req_prod: "req_prod", rsp_cons: "rsp_cons",
            rsp_prod: "rsp_prod", server_features: "server_features", connection: "connection", error: "error",
        },
    });
}
