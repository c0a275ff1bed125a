//! Rows as JSON, and numbers as text.

use std::fmt::Write;

/// One figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its group.
    pub group: &'static str,
    /// Unique in the group.
    pub name: String,
    /// Instructions (or bytes, where the name says so) on Pavise; `None` where it doesn't do the operation.
    pub value: Option<u64>,
    /// The same on Xen, when it was compared with.
    pub xen: Option<u64>,
}

/// A number with its thousands apart.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The rows as JSON. Names are our own and need no escapes beyond Rust's.
pub fn json(rows: &[Row]) -> String {
    let mut text = String::from("[");
    for (i, row) in rows.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\n  {{\"group\": {:?}, \"name\": {:?}", row.group, row.name);
        let _ = write!(text, ", \"instructions\": {}", number(row.value));
        if let Some(xen) = row.xen {
            let _ = write!(text, ", \"xen\": {xen}");
        }
        text.push('}');
    }
    text.push_str("\n]\n");
    text
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 30_000_000].map(grouped), ["0", "999", "1 000", "30 000 000"]);
    }

    #[test]
    fn rows_become_json() {
        let row = Row { group: "boot", name: "total".to_owned(), value: Some(7), xen: None };
        assert_eq!(
            json(std::slice::from_ref(&row)),
            "[\n  {\"group\": \"boot\", \"name\": \"total\", \"instructions\": 7}\n]\n"
        );
        let missing = Row { value: None, xen: Some(9), ..row };
        assert!(json(&[missing]).contains("\"instructions\": null, \"xen\": 9}"));
    }
}
