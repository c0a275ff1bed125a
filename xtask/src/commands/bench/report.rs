//! What was measured: rows, numbers as text, rows as JSON.

use std::fmt::{self, Write};

/// One figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its group.
    pub group: &'static str,
    /// Unique in the group.
    pub name: String,
    /// On Pavise; `None` where it doesn't do the operation.
    pub pavise: Option<Cost>,
    /// On Xen, when it is compared with.
    pub xen: Option<Cost>,
}

/// What an operation costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Instructions (or bytes, where the name says so), rounded up.
    pub instructions: u64,
    /// Loads of CR3, and flushes of the TLB by other means, where they were counted.
    pub flushes: Option<(Share, Share)>,
}

/// A count for several operations, as the share of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The count.
    pub count: u64,
    /// Operations, at least one.
    pub operations: u64,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (self.count * 100).div_ceil(self.operations);
        let text = match (hundredths / 100, hundredths % 100) {
            (whole, 0) => whole.to_string(),
            (whole, rest) => format!("{whole}.{rest:02}"),
        };
        f.pad(&text)
    }
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
    let objects = rows.iter().map(object).collect::<Vec<_>>();
    format!("[\n  {}\n]\n", objects.join(",\n  "))
}

fn object(row: &Row) -> String {
    let mut text = format!("{{\"group\": {:?}, \"name\": {:?}", row.group, row.name);
    let mut field = |name: &str, value: Option<String>| {
        // Writing to a string can't fail.
        let _ = write!(text, ", \"{name}\": {}", value.as_deref().unwrap_or("null"));
    };
    let instructions = |cost: Option<Cost>| Some(cost?.instructions.to_string());
    let cr3_loads = |cost: Option<Cost>| Some(cost?.flushes?.0.to_string());
    let tlb_flushes = |cost: Option<Cost>| Some(cost?.flushes?.1.to_string());
    field("instructions", instructions(row.pavise));
    field("cr3_loads", cr3_loads(row.pavise));
    field("tlb_flushes", tlb_flushes(row.pavise));
    if row.xen.is_some() {
        field("xen", instructions(row.xen));
        field("xen_cr3_loads", cr3_loads(row.xen));
        field("xen_tlb_flushes", tlb_flushes(row.xen));
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 30_000_000].map(grouped), ["0", "999", "1 000", "30 000 000"]);
    }

    #[test]
    fn shares_are_rounded_up() {
        let share = |count, operations| format!("{:>5}", Share { count, operations });
        assert_eq!([share(8, 4), share(1, 64), share(0, 4), share(7, 4)], ["    2", " 0.02", "    0", " 1.75"]);
    }

    #[test]
    fn rows_become_json() {
        let cost = Cost { instructions: 7, flushes: None };
        let row = Row { group: "boot", name: "total".to_owned(), pavise: Some(cost), xen: None };
        let nothing = "\"cr3_loads\": null, \"tlb_flushes\": null";
        let first = format!("{{\"group\": \"boot\", \"name\": \"total\", \"instructions\": 7, {nothing}}}");
        assert_eq!(json(std::slice::from_ref(&row)), format!("[\n  {first}\n]\n"));
        let share = |count| Share { count, operations: 4 };
        let xen = Cost { instructions: 9, flushes: Some((share(4), share(1))) };
        let missing = Row { pavise: None, xen: Some(xen), ..row.clone() };
        let second =
            first.replace('7', "null").replace('}', ", \"xen\": 9, \"xen_cr3_loads\": 1, \"xen_tlb_flushes\": 0.25}");
        assert_eq!(json(&[row, missing]), format!("[\n  {first},\n  {second}\n]\n"));
    }
}
