//! What was measured: rows, numbers as text, rows as JSON.

use anyhow::Result;
use serde::Serialize;
use std::fmt;

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
    /// Without a hypervisor, when that is compared with.
    pub native: Option<Cost>,
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

impl Share {
    /// With two decimals, always.
    pub fn decimal(self) -> String {
        format!("{}.{:02}", self.hundredths() / 100, self.hundredths() % 100)
    }

    /// Rounded up.
    fn hundredths(self) -> u64 {
        (self.count * 100).div_ceil(self.operations)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.decimal();
        f.pad(text.strip_suffix(".00").unwrap_or(&text))
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

/// The rows as JSON: a list with one object on each line.
///
/// # Errors
/// None that a row can cause.
pub fn json(rows: &[Row]) -> Result<String> {
    let objects = rows.iter().map(|row| serde_json::to_string(&Object::of(row)));
    Ok(format!("[\n  {}\n]\n", objects.collect::<Result<Vec<_>, _>>()?.join(",\n  ")))
}

/// A row in JSON.
#[derive(Serialize)]
struct Object<'a> {
    group: &'a str,
    name: &'a str,
    instructions: Option<u64>,
    cr3_loads: Option<f64>,
    tlb_flushes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xen_cr3_loads: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xen_tlb_flushes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native: Option<u64>,
}

impl<'a> Object<'a> {
    fn of(row: &'a Row) -> Self {
        let instructions = |cost: Option<Cost>| Some(cost?.instructions);
        // Counts of some operations: far from where a double is inexact.
        let number = |share: Share| share.hundredths() as f64 / 100.0;
        let cr3_loads = |cost: Option<Cost>| Some(number(cost?.flushes?.0));
        let tlb_flushes = |cost: Option<Cost>| Some(number(cost?.flushes?.1));
        Self {
            group: row.group,
            name: &row.name,
            instructions: instructions(row.pavise),
            cr3_loads: cr3_loads(row.pavise),
            tlb_flushes: tlb_flushes(row.pavise),
            xen: instructions(row.xen),
            xen_cr3_loads: cr3_loads(row.xen),
            xen_tlb_flushes: tlb_flushes(row.xen),
            native: instructions(row.native),
        }
    }
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
        assert_eq!(Share { count: 999, operations: 1000 }.decimal(), "1.00");
        assert_eq!([share(8, 4), share(1, 64), share(0, 4), share(7, 4)], ["    2", " 0.02", "    0", " 1.75"]);
    }

    #[test]
    fn rows_become_json() {
        let cost = Cost { instructions: 7, flushes: None };
        let row = Row { group: "boot", name: "a \"b\"".to_owned(), pavise: Some(cost), xen: None, native: None };
        let share = |count| Share { count, operations: 4 };
        let xen = Cost { instructions: 9, flushes: Some((share(4), share(1))) };
        let missing = Row { pavise: None, xen: Some(xen), native: Some(cost), ..row.clone() };
        let read: serde_json::Value = serde_json::from_str(&json(&[row, missing]).unwrap()).unwrap();
        let name = "a \"b\"";
        assert_eq!(
            read,
            serde_json::json!([
                {"group": "boot", "name": name, "instructions": 7, "cr3_loads": null, "tlb_flushes": null},
                {
                    "group": "boot", "name": name, "instructions": null, "cr3_loads": null, "tlb_flushes": null,
                    "xen": 9, "xen_cr3_loads": 1.0, "xen_tlb_flushes": 0.25, "native": 7
                },
            ])
        );
        assert_eq!(json(&[]).unwrap().split_whitespace().collect::<String>(), "[]");
    }
}
