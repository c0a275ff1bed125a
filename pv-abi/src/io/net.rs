//! The network device protocol. Header: `io/netif.h`.
//!
//! Two rings: *tx* carries packets from the frontend to the backend, *rx* the other way. A packet may take several
//! slots, all but the last marked `MORE_DATA`. A slot may also hold a [`NetifExtraInfo`] instead of a request; it
//! follows the packet's first slot, and takes a response of [`NETIF_RSP_NULL`] on the tx ring.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots in a packet that every backend accepts.
pub const XEN_NETIF_NR_SLOTS_MIN: u32 = 18;
/// Longest packet.
pub const XEN_NETIF_MAX_TX_SIZE: u32 = 0xffff;

bitflags! {
    /// In [`NetifTxRequest::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NetTxFlags: u16 {
        /// The checksum covers only the pseudo-header so far.
        const CSUM_BLANK = 1 << 0;
        /// The data is known to be good.
        const DATA_VALIDATED = 1 << 1;
        /// The packet goes on in the next slot.
        const MORE_DATA = 1 << 2;
        /// A [`NetifExtraInfo`] follows.
        const EXTRA_INFO = 1 << 3;
    }

    /// In [`NetifRxResponse::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NetRxFlags: u16 {
        /// The data is known to be good.
        const DATA_VALIDATED = 1 << 0;
        /// The checksum covers only the pseudo-header so far.
        const CSUM_BLANK = 1 << 1;
        /// The packet goes on in the next slot.
        const MORE_DATA = 1 << 2;
        /// A [`NetifExtraInfo`] follows.
        const EXTRA_INFO = 1 << 3;
        /// The slot has only a segmentation prefix.
        const GSO_PREFIX = 1 << 4;
    }
}

/// A piece of a packet to send: `struct netif_tx_request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifTxRequest {
    /// Grant reference of the page.
    pub gref: u32,
    /// Bytes into the page.
    pub offset: u16,
    /// [`NetTxFlags`].
    pub flags: u16,
    /// Chosen by the frontend and echoed.
    pub id: u16,
    /// In the packet's first slot, bytes in the whole packet; else bytes in this slot.
    pub size: u16,
}
layout!(NetifTxRequest, 12);

/// The outcome of a tx request: `struct netif_tx_response`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifTxResponse {
    /// The request's.
    pub id: u16,
    /// A `NETIF_RSP_*`.
    pub status: i16,
}
layout!(NetifTxResponse, 4);

/// A page to receive into: `struct netif_rx_request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifRxRequest {
    /// Chosen by the frontend and echoed.
    pub id: u16,
    /// Padding.
    pub _pad: u16,
    /// Grant reference of the page.
    pub gref: u32,
}
layout!(NetifRxRequest, 8);

/// A piece of a packet received: `struct netif_rx_response`. It takes the slot of the request it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifRxResponse {
    /// The request's.
    pub id: u16,
    /// Bytes into the page.
    pub offset: u16,
    /// [`NetRxFlags`].
    pub flags: u16,
    /// Bytes, or a negative `NETIF_RSP_*`.
    pub status: i16,
}
layout!(NetifRxResponse, 8);

/// Dropped.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// Failed.
pub const NETIF_RSP_ERROR: i16 = -1;
/// Done.
pub const NETIF_RSP_OKAY: i16 = 0;
/// The slot held no request.
pub const NETIF_RSP_NULL: i16 = 1;

/// In [`NetifExtraInfo::kind`]: nothing.
pub const XEN_NETIF_EXTRA_TYPE_NONE: u8 = 0;
/// In [`NetifExtraInfo::kind`]: segmentation, [`NetifGso`].
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// In [`NetifExtraInfo::kind`]: receive a multicast address too.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// In [`NetifExtraInfo::kind`]: stop receiving a multicast address.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// In [`NetifExtraInfo::kind`]: the packet's hash.
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// One more than the highest kind.
pub const XEN_NETIF_EXTRA_TYPE_MAX: u8 = 5;
/// In [`NetifExtraInfo::flags`]: another one follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1 << 0;

/// More about a packet, in a slot of its own: `struct netif_extra_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifExtraInfo {
    /// An `XEN_NETIF_EXTRA_TYPE_*`. The header's field is `type`.
    pub kind: u8,
    /// [`XEN_NETIF_EXTRA_FLAG_MORE`] or 0.
    pub flags: u8,
    /// What the kind says: for segmentation, a [`NetifGso`].
    pub u: [u16; 3],
}
layout!(NetifExtraInfo, 8);

/// In [`NetifGso::kind`]: none.
pub const XEN_NETIF_GSO_TYPE_NONE: u8 = 0;
/// In [`NetifGso::kind`]: TCP over IPv4.
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// In [`NetifGso::kind`]: TCP over IPv6.
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;

/// How to cut a packet into segments: the member `gso` of the union in `struct netif_extra_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct NetifGso {
    /// Bytes of payload in a segment.
    pub size: u16,
    /// An `XEN_NETIF_GSO_TYPE_*`. The header's field is `type`.
    pub kind: u8,
    /// Padding.
    pub _pad: u8,
    /// 0.
    pub features: u16,
}
layout!(NetifGso, 6);
