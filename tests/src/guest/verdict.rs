//! The line with which a test kernel reports: `VERDICT NAME pass|fail|skip TEXT`. Pure.

use std::fmt;

/// How a story ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All that was tried behaved as the ABI says.
    Pass,
    /// Something did not.
    Fail,
    /// The machine or the hypervisor lacks what the story needs.
    Skip,
    /// There is no verdict: the domain or the hypervisor was stopped before its end.
    Silence,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 4] = [Outcome::Pass, Outcome::Fail, Outcome::Skip, Outcome::Silence];

    /// The word for it, in a verdict line and in the table of differences.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
            Outcome::Silence => "silence",
        }
    }

    /// The outcome with that word.
    pub fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// What a test kernel said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// How the story ended.
    pub outcome: Outcome,
    /// Why, as the kernel, or for [`Outcome::Silence`] the test runner, has it. May be empty.
    pub text: String,
}

impl Verdict {
    /// The absence of a verdict.
    pub fn silence(why: impl fmt::Display) -> Verdict {
        Verdict { outcome: Outcome::Silence, text: why.to_string() }
    }

    /// Finds the verdict of `story` in the output of its machine. Exactly one line must have one: a kernel that started
    /// twice, or ran another story, has not told this one.
    pub fn find(story: &str, output: &str) -> Verdict {
        let mut lines = output.lines().filter_map(said);
        let Some((name, verdict)) = lines.next() else { return Verdict::silence("no verdict line") };
        if name != story {
            return Verdict::silence(format!("a verdict on '{name}' instead"));
        }
        match lines.count() {
            0 => verdict.unwrap_or_else(|| Verdict::silence("a verdict line without an outcome")),
            more => Verdict::silence(format!("{} verdict lines", more + 1)),
        }
    }

    /// The same, with a silence's reason made longer by what the machine had to say.
    pub fn explained(self, by: impl FnOnce() -> String) -> Verdict {
        match self.outcome {
            Outcome::Silence => Verdict::silence(format!("{}; {}", self.text, by())),
            _ => self,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.outcome.word())?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({})", self.text) }
    }
}

/// Story and verdict of a line that has one. In front of it may be whatever the console puts there, such as a domain's
/// name.
fn said(line: &str) -> Option<(&str, Option<Verdict>)> {
    const KEYWORD: &str = "VERDICT ";
    let (before, said) = line.split_once(KEYWORD)?;
    if !before.is_empty() && !before.ends_with(' ') {
        return None;
    }
    let (name, rest) = said.split_once(' ').unwrap_or((said, ""));
    let (word, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let outcome = Outcome::from_word(word).filter(|outcome| *outcome != Outcome::Silence);
    Some((name, outcome.map(|outcome| Verdict { outcome, text: text.trim_end().to_owned() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Outcome, text: &str) -> Verdict {
        Verdict { outcome, text: text.to_owned() }
    }

    #[test]
    fn stands_on_a_line_of_its_own() {
        assert_eq!(Verdict::find("poll", "boot\nVERDICT poll pass\n"), verdict(Outcome::Pass, ""));
        let output = "[    0.1] cpu0 INFO  d1\n(selftest) VERDICT poll fail woke: got 1, want 2\nend";
        assert_eq!(Verdict::find("poll", output), verdict(Outcome::Fail, "woke: got 1, want 2"));
        assert_eq!(Verdict::find("poll", "VERDICT poll skip no clock"), verdict(Outcome::Skip, "no clock"));
    }

    #[test]
    fn anything_else_is_silence() {
        let silent = |output| {
            let verdict = Verdict::find("poll", output);
            assert_eq!(verdict.outcome, Outcome::Silence, "{output}");
            verdict.text
        };
        assert_eq!(silent(""), "no verdict line");
        assert_eq!(silent("NOVERDICT poll pass"), "no verdict line");
        assert_eq!(silent("VERDICT other pass"), "a verdict on 'other' instead");
        assert_eq!(silent("VERDICT poll pass\nVERDICT poll pass"), "2 verdict lines");
        assert_eq!(silent("VERDICT poll perhaps"), "a verdict line without an outcome");
        assert_eq!(silent("VERDICT poll silence"), "a verdict line without an outcome");
        assert_eq!(silent("VERDICT poll"), "a verdict line without an outcome");
    }

    #[test]
    fn words_name_outcomes() {
        assert!(Outcome::ALL.into_iter().all(|outcome| Outcome::from_word(outcome.word()) == Some(outcome)));
        assert_eq!(verdict(Outcome::Fail, "because").to_string(), "fail (because)");
        assert_eq!(verdict(Outcome::Pass, "").to_string(), "pass");
    }
}
