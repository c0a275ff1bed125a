//! How a story ended, read from the log of Pavise or of Xen.

use std::fmt;

/// How a story's domain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The verdict `pass`.
    Pass,
    /// The verdict `fail`, and its reason.
    Fail(String),
    /// The verdict `skip`, and its reason.
    Skip(String),
    /// Killed by the hypervisor, for this reason.
    Crashed(String),
    /// Stopped by its own kernel, for this reason: power-off, reboot, crash, watchdog.
    Stopped(&'static str),
    /// Nothing of the above; why not.
    Nothing(String),
}

impl Ending {
    /// The ending in the words of `docs/differences-from-xen.md`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Skip(_) => "skip",
            Self::Crashed(_) => "crashed",
            Self::Stopped(reason) => reason,
            Self::Nothing(_) => "nothing",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Fail(text) | Self::Skip(text) | Self::Crashed(text) | Self::Nothing(text) => text,
            Self::Pass | Self::Stopped(_) => "",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        let detail = self.detail();
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

/// The verdict line of `story`: `VERDICT NAME pass|fail|skip TEXT`, perhaps with the domain's name before it.
pub fn verdict(log: &str, story: &str) -> Option<Ending> {
    log.lines().find_map(|line| {
        let rest = line.split_once("VERDICT ")?.1.strip_prefix(story)?.strip_prefix(' ')?;
        let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match word.trim_end() {
            "pass" => Some(Ending::Pass),
            "fail" => Some(Ending::Fail(text.to_owned())),
            "skip" => Some(Ending::Skip(text.to_owned())),
            _ => None,
        }
    })
}

/// How the domain `id` of Pavise ended, as its log says: `d0: crashed: REASON`, `d0: shut down: REASON` or
/// `d0 (NAME) shut down: REASON`.
pub fn on_pavise(log: &str, id: u32) -> Option<Ending> {
    const REASONS: [&str; 4] = ["power-off", "reboot", "watchdog", "crash"];
    let name = format!("d{id}");
    log.lines().find_map(|line| {
        // A domain's own output starts with its name in brackets, and can't pass for the hypervisor's.
        if line.starts_with('(') {
            return None;
        }
        let (before, after) = line.split_once(&name)?;
        if !before.is_empty() && !before.ends_with(' ') {
            return None;
        }
        if let Some(reason) = after.strip_prefix(": crashed: ") {
            return Some(Ending::Crashed(reason.trim_end().to_owned()));
        }
        let is_domain = after.starts_with(": ") || after.starts_with(" (");
        let reason = after.split_once("shut down: ").filter(|_| is_domain)?.1;
        REASONS.into_iter().find(|word| reason.starts_with(word)).map(Ending::Stopped)
    })
}

/// How the first domain of Xen ended, as its log says.
pub fn on_xen(log: &str) -> Option<Ending> {
    const STOPS: [(&str, &str); 4] = [
        ("Hardware Dom0 halted", "power-off"),
        ("Hardware Dom0 shutdown: rebooting", "reboot"),
        ("Hardware Dom0 shutdown: watchdog", "watchdog"),
        ("Hardware Dom0 crashed", "crash"),
    ];
    let lines = || log.lines().filter(|line| line.starts_with("(XEN)"));
    let stop = lines().find_map(|line| STOPS.iter().find(|(text, _)| line.contains(text)))?;
    // A crash that the kernel asked for says only the last of these lines.
    let killed = lines().find(|line| line.contains("Domain 0 (vcpu#") && line.contains("crashed on cpu"));
    match killed {
        Some(line) if stop.1 == "crash" => Some(Ending::Crashed(line.trim().to_owned())),
        _ => Some(Ending::Stopped(stop.1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let log = "noise\n(test) VERDICT tsc fail went back: 3 < 4\nVERDICT tsc-2 pass\n";
        assert_eq!(verdict(log, "tsc"), Some(Ending::Fail("went back: 3 < 4".to_owned())));
        assert_eq!(verdict(log, "tsc-2"), Some(Ending::Pass));
        assert_eq!(verdict(log, "ts"), None);
        assert_eq!(verdict("VERDICT tsc maybe\n", "tsc"), None);
    }

    #[test]
    fn endings_on_pavise_are_read() {
        let log = "[1.0] 0 E d1: crashed: exception 6 (#UD) has no handler (victim v0)\n\
                   [1.1] 0 I d2 (beta) shut down: power-off\n\
                   [1.1] 0 E d3: shut down: crash reported by its kernel (x v0)\n\
                   (liar) d4: crashed: not really\n";
        assert!(matches!(on_pavise(log, 1), Some(Ending::Crashed(reason)) if reason.starts_with("exception 6")));
        assert_eq!(on_pavise(log, 2), Some(Ending::Stopped("power-off")));
        assert_eq!(on_pavise(log, 3), Some(Ending::Stopped("crash")));
        assert_eq!(on_pavise(log, 4), None);
        assert_eq!(on_pavise(log, 0), None);
    }

    #[test]
    fn endings_on_xen_are_read() {
        let killed = "(XEN) Domain 0 (vcpu#0) crashed on cpu#0:\n(XEN) Hardware Dom0 crashed: rebooting machine\n";
        assert!(matches!(on_xen(killed), Some(Ending::Crashed(_))));
        assert_eq!(on_xen("(XEN) Hardware Dom0 crashed: rebooting"), Some(Ending::Stopped("crash")));
        assert_eq!(on_xen("(XEN) Hardware Dom0 halted: halting machine"), Some(Ending::Stopped("power-off")));
        assert_eq!(on_xen("Hardware Dom0 halted: says the guest"), None);
    }
}
