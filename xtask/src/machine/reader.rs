//! Reads fields out of a parsed TOML file and notes every mistake, where serde would stop at the first.

use super::Mistake;
use std::{cell::RefCell, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value and the line it is on.
#[derive(Clone, Debug)]
pub struct Located<T> {
    pub value: T,
    pub line: usize,
}

/// Why a value can't be used.
#[derive(Debug)]
pub struct Wrong {
    /// What is wrong with it; `None` shows the value itself.
    pub problem: Option<String>,
    /// What should be there instead.
    pub expected: String,
}

impl Wrong {
    /// The value isn't what is expected.
    pub fn expected(expected: impl Into<String>) -> Self {
        Self { problem: None, expected: expected.into() }
    }

    /// The value is of the right kind; something else is wrong.
    pub fn problem(problem: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { problem: Some(problem.into()), expected: expected.into() }
    }
}

/// The file's text and the mistakes found in it so far.
pub struct Notes<'t> {
    text: &'t str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl<'t> Notes<'t> {
    /// No mistakes yet.
    pub fn new(text: &'t str) -> Self {
        Self { text, mistakes: RefCell::default() }
    }

    /// The line that a span starts on.
    pub fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or(self.text.as_bytes());
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Notes a mistake.
    pub fn add(&self, line: usize, field: impl Into<String>, problem: impl Into<String>, expected: impl Into<String>) {
        let (field, problem, expected) = (field.into(), problem.into(), expected.into());
        self.mistakes.borrow_mut().push(Mistake { line, field, problem, expected });
    }

    /// The mistakes, by line.
    pub fn finish(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes.into_inner();
        mistakes.sort();
        mistakes
    }
}

/// One table of the file. Every field that may occur is asked for once; [`finish`](Self::finish) reports the others.
pub struct Section<'n, 't> {
    notes: &'n Notes<'t>,
    /// Put before field names in mistakes; empty for the file itself.
    name: &'static str,
    line: usize,
    table: Option<&'n DeTable<'t>>,
    known: Vec<&'static str>,
}

impl<'n, 't> Section<'n, 't> {
    /// The table `name`, which starts on `line`. `None` stands for a table that is missing and reported as such:
    /// nothing in it is missed.
    pub fn new(notes: &'n Notes<'t>, name: &'static str, line: usize, table: Option<&'n DeTable<'t>>) -> Self {
        Self { notes, name, line, table, known: Vec::new() }
    }

    /// The line the table starts on.
    pub fn line(&self) -> usize {
        self.line
    }

    /// A field's name with its section's.
    pub fn field(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The raw value of a field.
    pub fn raw(&mut self, key: &'static str) -> Option<&'n Spanned<DeValue<'t>>> {
        self.known.push(key);
        self.table.and_then(|table| table.get(key))
    }

    /// A field that may be missing.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<Located<T>> {
        let raw = self.raw(key)?;
        let line = self.notes.line(raw.span());
        match read(raw.get_ref()) {
            Ok(value) => Some(Located { value, line }),
            Err(Wrong { problem, expected }) => {
                let problem = problem.unwrap_or_else(|| format!("found {}", shown(raw.get_ref())));
                self.notes.add(line, self.field(key), problem, expected);
                None
            }
        }
    }

    /// A field that must be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    ) -> Option<Located<T>> {
        if self.table.is_some_and(|table| !table.contains_key(key)) {
            self.notes.add(self.line, self.field(key), "missing", expected);
        }
        self.optional(key, read)
    }

    /// Reports the fields that nobody asked for.
    pub fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let line = self.notes.line(key.span());
                self.notes.add(line, self.field(name), "unknown field", format!("one of {}", self.known.join(", ")));
            }
        }
    }
}

/// A value as a mistake quotes it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", &**text),
        DeValue::Integer(number) => number.to_string(),
        other => format!("a value of type {}", other.type_str()),
    }
}

/// Reads a string.
pub fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    value.as_str().map(str::to_owned).ok_or_else(|| Wrong::expected("a text in double quotes"))
}

/// Reads a truth value.
pub fn flag(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| Wrong::expected("true or false"))
}

/// Reads a whole number between two bounds, both included.
pub fn number(value: &DeValue<'_>, least: u32, most: u32) -> Result<u32, Wrong> {
    let number = value.as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Wrong::expected(format!("a whole number from {least} to {most}")))
}

/// Reads one of several words.
pub fn choice<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        Wrong::expected(format!("one of {}", words.join(", ")))
    })
}
