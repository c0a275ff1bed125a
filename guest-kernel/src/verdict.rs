//! What a test kernel reports: one line `VERDICT NAME pass|fail|skip TEXT`, and a code for the exit device.
//!
//! The host test crate reads the line; exactly one is printed per boot.

use core::fmt;

/// How a story ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All that was tried behaved as the ABI says.
    Pass,
    /// Something did not; the text says what.
    Fail,
    /// The machine or the hypervisor lacks what the story needs.
    Skip,
}

impl Outcome {
    /// The word in the verdict line.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
        }
    }

    /// What to write to QEMU's `isa-debug-exit`, which then ends with status `2 * code + 1`: 33, 35 or 37.
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Pass => 0x10,
            Outcome::Fail => 0x11,
            Outcome::Skip => 0x12,
        }
    }
}

/// The verdict line of one story, without the line end.
pub struct Verdict<'a> {
    /// The story's name, one word.
    pub story: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, for a reader. A line break in it would end the verdict early, so control characters are shown as `?`.
    pub text: &'a str,
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VERDICT {} {}", self.story, self.outcome.word())?;
        if !self.text.is_empty() {
            f.write_str(" ")?;
        }
        for c in self.text.chars() {
            write!(f, "{}", if c.is_control() { '?' } else { c })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn is_one_line() {
        let verdict = Verdict { story: "poll", outcome: Outcome::Fail, text: "woke\nearly" };
        assert_eq!(verdict.to_string(), "VERDICT poll fail woke?early");
        let verdict = Verdict { story: "poll", outcome: Outcome::Pass, text: "" };
        assert_eq!(verdict.to_string(), "VERDICT poll pass");
    }

    #[test]
    fn exit_codes_differ() {
        assert_ne!(Outcome::Pass.exit_code(), Outcome::Fail.exit_code());
        assert_ne!(Outcome::Fail.exit_code(), Outcome::Skip.exit_code());
    }
}
