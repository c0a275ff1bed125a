//! Where things are in the repository.

use std::path::{Path, PathBuf};

/// The top of the repository. Compiled in: `xtask` is built where it runs.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// `target/`, where everything that is made goes.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Where cargo puts the bare-metal binaries that it builds with a profile.
pub fn bare_metal(profile: &str) -> PathBuf {
    target().join("x86_64-hv").join(profile)
}

/// Where the stripped copies of the bare-metal binaries go, those that are booted.
pub fn stripped() -> PathBuf {
    target().join("stripped")
}

/// A path as a person would write it: from the top of the repository when it lies inside.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
