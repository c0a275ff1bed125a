//! Slots of the two rings, which hold one thing or another.

use pv_abi::io::net::{NetifExtraInfo, NetifRxResponse, NetifTxRequest};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What goes into a slot of the tx ring: a request, or an extra info. Which, the slots before it say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct TxSlot([u32; 3]);

impl TxSlot {
    /// A slot with a request.
    pub fn request(request: NetifTxRequest) -> TxSlot {
        zerocopy::transmute!(request)
    }

    /// A slot with an extra info.
    pub fn extra(extra: NetifExtraInfo) -> TxSlot {
        let [a, b]: [u32; 2] = zerocopy::transmute!(extra);
        TxSlot([a, b, 0])
    }

    /// The slot as a request.
    pub fn as_request(self) -> NetifTxRequest {
        zerocopy::transmute!(self)
    }

    /// The slot as an extra info.
    pub fn as_extra(self) -> NetifExtraInfo {
        let [a, b, _] = self.0;
        zerocopy::transmute!([a, b])
    }
}

/// What comes back in a slot of the rx ring: a response, or an extra info. Which, the slots before it say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct RxSlot([u32; 2]);

impl RxSlot {
    /// A slot with a response.
    pub fn response(response: NetifRxResponse) -> RxSlot {
        zerocopy::transmute!(response)
    }

    /// A slot with an extra info.
    pub fn extra(extra: NetifExtraInfo) -> RxSlot {
        zerocopy::transmute!(extra)
    }

    /// The slot as a response.
    pub fn as_response(self) -> NetifRxResponse {
        zerocopy::transmute!(self)
    }

    /// The slot as an extra info.
    pub fn as_extra(self) -> NetifExtraInfo {
        zerocopy::transmute!(self)
    }
}
