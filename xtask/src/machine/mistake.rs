//! Mistakes in a machine file, for the person who wrote it.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Line in the file, from 1.
    pub line: usize,
    /// The field, with its section in front: `domain.vcpus`. Empty when the file isn't TOML there.
    pub field: String,
    /// What is there.
    pub problem: String,
    /// What should be there. Empty when the problem says it.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, field, problem, expected } = self;
        write!(f, "{line}: ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(problem)?;
        if expected.is_empty() { Ok(()) } else { write!(f, "; expected {expected}") }
    }
}

/// All mistakes of one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    /// The file, as it was named.
    pub file: String,
    /// At least one mistake.
    pub list: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.list.iter().enumerate() {
            let line_end = if i == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}:{mistake}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
