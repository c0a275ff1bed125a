//! What the tests of one run share: what is built for them, and what was found out once for several.

use crate::guest::Verdict;
use anyhow::{Context as _, Result, anyhow};
use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use xtask::{
    build::{self, Built},
    image::Imager,
    paths,
    xen::Xen,
};

/// What the tests of one run share. Parts are made when first asked for.
#[derive(Default)]
pub struct Context {
    pavise: OnceLock<Result<Pavise, String>>,
    xen: OnceLock<Result<Xen, String>>,
    verdicts: Mutex<HashMap<String, Arc<OnceLock<Verdict>>>>,
}

/// The hypervisor, its guests, and what makes images of them.
pub struct Pavise {
    /// The hypervisor's files.
    pub built: Built,
    /// Makes images.
    pub imager: Imager,
}

impl Context {
    /// The built hypervisor.
    ///
    /// # Errors
    /// When it can't be built; the same for everyone who asks.
    pub fn pavise(&self) -> Result<&Pavise> {
        let build = || {
            let built = build::bare_metal()?;
            let imager = Imager::build(&built)?;
            Ok(Pavise { built, imager })
        };
        once(&self.pavise, build)
    }

    /// Xen, fetched where it isn't there yet.
    ///
    /// # Errors
    /// When it can't be had; the same for everyone who asks.
    pub fn xen(&self) -> Result<&Xen> {
        once(&self.xen, Xen::get)
    }

    /// How `story` ends on Pavise. The first who asks `tell`s it; the others wait for that.
    pub fn verdict(&self, story: &str, tell: impl FnOnce() -> Verdict) -> Verdict {
        let slot = {
            let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.entry(story.to_owned()).or_default().clone()
        };
        slot.get_or_init(tell).clone()
    }
}

fn once<T>(cell: &OnceLock<Result<T, String>>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    let made = cell.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|error| anyhow!("{error}"))
}

/// The file for what a test, or its machine, says.
pub fn log_file(test: &str) -> PathBuf {
    let name: String = test.chars().map(|c| if c == '/' || c == ' ' { '-' } else { c }).collect();
    paths::target().join("tests").join(name + ".log")
}

/// Writes what a test on the host said to its file, and returns the file's name as a person would write it.
///
/// # Errors
/// When the file can't be written.
pub fn write_log(test: &str, text: &str) -> Result<String> {
    let log = log_file(test);
    fs::create_dir_all(log.parent().unwrap_or(&log))?;
    fs::write(&log, text).with_context(|| format!("cannot write {}", log.display()))?;
    Ok(paths::shown(&log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Outcome;

    #[test]
    fn a_story_is_told_once() {
        let context = Context::default();
        let pass = || Verdict { outcome: Outcome::Pass, text: String::new() };
        assert_eq!(context.verdict("poll", pass), pass());
        assert_eq!(context.verdict("poll", || Verdict::silence("told twice")), pass());
        assert_eq!(context.verdict("other", || Verdict::silence("told")).outcome, Outcome::Silence);
    }

    #[test]
    fn what_can_not_be_made_is_not_tried_again() {
        let cell: OnceLock<Result<u32, String>> = OnceLock::new();
        assert!(once(&cell, || anyhow::bail!("no")).is_err());
        assert_eq!(once(&cell, || Ok(1)).unwrap_err().to_string(), "no");
    }

    #[test]
    fn logs_are_files_in_one_folder() {
        assert!(log_file("lint/clippy for the host").ends_with("target/tests/lint-clippy-for-the-host.log"));
    }
}
