//! `xen_version`: what the hypervisor is and what it offers. Header: `version.h`.
//!
//! The bits that [`XENVER_GET_FEATURES`] reports are in [`crate::features`]. String buffers are filled with zeros
//! behind the text (XSA-122).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domid::DOMAIN_HANDLE_LEN;

/// Returns the version, `major << 16 | minor`. No argument.
pub const XENVER_VERSION: u32 = 0;
/// Fills [`ExtraVersion`].
pub const XENVER_EXTRAVERSION: u32 = 1;
/// Fills [`CompileInfo`].
pub const XENVER_COMPILE_INFO: u32 = 2;
/// Fills [`CapabilitiesInfo`].
pub const XENVER_CAPABILITIES: u32 = 3;
/// Fills [`ChangesetInfo`].
pub const XENVER_CHANGESET: u32 = 4;
/// Fills [`PlatformParameters`].
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// Fills one word of the feature bitmap: [`FeatureInfo`].
pub const XENVER_GET_FEATURES: u32 = 6;
/// Returns the page size. No argument.
pub const XENVER_PAGESIZE: u32 = 7;
/// Fills [`DomainHandle`].
pub const XENVER_GUEST_HANDLE: u32 = 8;
/// Fills [`Commandline`]; for the control domain.
pub const XENVER_COMMANDLINE: u32 = 9;
/// Fills a buffer with the build's identifier: [`BuildId`].
pub const XENVER_BUILD_ID: u32 = 10;

/// What follows `major.minor` in the version: `xen_extraversion_t`.
pub type ExtraVersion = [u8; 16];
/// The kinds of guest that can run, as words like `xen-3.0-x86_64`: `xen_capabilities_info_t`.
pub type CapabilitiesInfo = [u8; 1024];
/// The source revision: `xen_changeset_info_t`.
pub type ChangesetInfo = [u8; 64];
/// The hypervisor's command line: `xen_commandline_t`.
pub type Commandline = [u8; 1024];
/// The calling domain's handle: `xen_domain_handle_t`.
pub type DomainHandle = [u8; DOMAIN_HANDLE_LEN];

/// How the hypervisor was built: `struct xen_compile_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CompileInfo {
    /// The compiler and its version.
    pub compiler: [u8; 64],
    /// Who built it.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}
layout!(CompileInfo, 144);

/// Where the hypervisor's part of the address space starts: `struct xen_platform_parameters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PlatformParameters {
    /// The first address.
    pub virt_start: u64,
}
layout!(PlatformParameters, 8);

/// One 32-bit word of the feature bitmap: `struct xen_feature_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FeatureInfo {
    /// In: which word; see [`XENFEAT_NR_SUBMAPS`](crate::features::XENFEAT_NR_SUBMAPS).
    pub submap_idx: u32,
    /// Out: the word.
    pub submap: u32,
}
layout!(FeatureInfo, 8);

/// Precedes the buffer for the build's identifier: the fixed part of `struct xen_build_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct BuildId {
    /// In: bytes of buffer that follow.
    pub len: u32,
}
layout!(BuildId, 4);
