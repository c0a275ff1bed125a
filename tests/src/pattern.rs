//! What to look for in a machine's output. Pure.

use regex::Regex;
use std::fmt;

/// A piece of output that a test waits for.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// These very characters.
    Text(String),
    /// A regular expression; `^` and `$` are the ends of a line.
    Regex(Regex),
}

/// A regular expression as a pattern. `expression` is written in a test, so a wrong one is that test's bug.
pub fn regex(expression: &str) -> Pattern {
    let expression = format!("(?m){expression}");
    Pattern::Regex(Regex::new(&expression).unwrap_or_else(|error| panic!("a test's pattern: {error}")))
}

/// A line of a domain's console that matches a regular expression as a whole.
pub fn said_by(domain: &str, expression: &str) -> Pattern {
    regex(&format!(r"^\({domain}\) (?:{expression})$"))
}

/// A line of the hypervisor's log whose text begins with what the regular expression matches.
pub fn logged(expression: &str) -> Pattern {
    regex(&format!(r"^\[ *\d+\.\d{{6}}\] cpu\d+ [A-Z]+ +(?:{expression})"))
}

impl Pattern {
    /// The first match in `text`.
    pub fn find<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self {
            Pattern::Text(wanted) => text.find(wanted).map(|at| &text[at..at + wanted.len()]),
            Pattern::Regex(wanted) => wanted.find(text).map(|found| found.as_str()),
        }
    }
}

impl From<&str> for Pattern {
    fn from(text: &str) -> Pattern {
        Pattern::Text(text.to_owned())
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Pattern {
        Pattern::Text(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Text(text) => write!(f, "'{text}'"),
            Pattern::Regex(regex) => write!(f, "/{}/", regex.as_str().trim_start_matches("(?m)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_literally() {
        assert_eq!(Pattern::from("a.b (c)").find("x a.b (c) y"), Some("a.b (c)"));
        assert_eq!(Pattern::from("a.b").find("acb"), None);
    }

    #[test]
    fn expressions_know_lines() {
        let output = "start\n(alpha) up 1.2 s\n[    0.123456] cpu0 INFO  d1 (alpha) shut down: power-off\n(beta) up";
        assert_eq!(said_by("alpha", r"up [\d.]+ s").find(output), Some("(alpha) up 1.2 s"));
        assert_eq!(said_by("beta", r"up [\d.]+ s").find(output), None);
        assert!(logged(r"d1 \(alpha\) shut down").find(output).is_some());
        assert!(logged("shut down").find(output).is_none());
        assert!(logged("x|up").find(output).is_none() && said_by("alpha", "x|1.2 s").find(output).is_none());
        assert_eq!(regex(r"^\d$").to_string(), r"/^\d$/");
    }
}
