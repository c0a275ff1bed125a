//! Groups of operations that the bench guest measures: on Pavise, beside Xen when it is compared with.

use super::{
    bars::Bar,
    guest::{self, Line, Subject},
    report::{Row, grouped},
};
use crate::xen::Xen;
use anyhow::{Result, ensure};

/// Measures a group, prints its table and adds its rows; says whether the bars are held.
///
/// # Errors
/// When a build or a run fails.
pub fn measure(group: &'static str, bars: &[Bar], xen: Option<Xen>, rows: &mut Vec<Row>) -> Result<bool> {
    let ours = run(&Subject::pavise()?, group)?;
    let theirs = xen.map(|xen| run(&Subject::Xen(xen), group)).transpose()?;
    ensure!(
        ours.iter().map(|line| line.name.as_str()).eq(bars.iter().map(|bar| bar.name)),
        "the rows of the bench guest's group {group} are not those that there are bars for"
    );
    println!(
        "\n{:<30}{:>10}{:>10}{:>7}{:>8}{:>8}",
        format!("{group}, instructions"),
        "Pavise",
        "Xen",
        "ratio",
        "bar",
        "aim"
    );
    let mut all_held = true;
    for (bar, line) in bars.iter().zip(&ours) {
        let value = line.figure.as_ref().ok().map(|figure| figure.per_operation());
        let xen = theirs.iter().flatten().find(|theirs| theirs.name == line.name);
        let xen = xen.and_then(|line| line.figure.as_ref().ok()).map(|figure| figure.per_operation());
        let word = verdict(bar, value, xen);
        all_held &= word != BROKEN;
        let ratio = value.zip(xen).map(|(value, xen)| format!("{:.2}", value as f64 / xen as f64));
        println!(
            "  {:<28}{:>10}{:>10}{:>7}{:>8}{:>8}  {word}",
            bar.name,
            value.map_or_else(|| line.figure.as_ref().err().cloned().unwrap_or_default(), grouped),
            shown(xen),
            ratio.unwrap_or_default(),
            shown(bar.now),
            shown(bar.aim),
        );
        rows.push(Row { group, name: bar.name.to_owned(), value, xen });
    }
    Ok(all_held)
}

const BROKEN: &str = "BROKEN";

/// How an operation does.
fn verdict(bar: &Bar, value: Option<u64>, xen: Option<u64>) -> &'static str {
    let Some(value) = value else { return BROKEN };
    let held = |most: Option<u64>| most.map(|most| value <= most);
    match (held(bar.now.or(xen)), held(bar.aim)) {
        (Some(false), _) => BROKEN,
        (_, Some(true)) => "held, and the aim reached",
        (Some(true), _) => "held",
        (None, _) => "no bar without Xen",
    }
}

/// Measures a group on a hypervisor.
fn run(subject: &Subject, group: &str) -> Result<Vec<Line>> {
    eprintln!("- measuring {group} on {}", subject.name());
    let mut lines = guest::finish(subject.boot(&format!("group={group}"), &[], group)?)?;
    lines.retain(|line| line.group == group);
    Ok(lines)
}

fn shown(value: Option<u64>) -> String {
    value.map(grouped).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_judged() {
        let bar = Bar { name: "x", now: Some(120), aim: Some(70) };
        assert_eq!(verdict(&bar, Some(120), None), "held");
        assert_eq!(verdict(&bar, Some(70), None), "held, and the aim reached");
        assert_eq!(verdict(&bar, Some(121), None), BROKEN);
        assert_eq!(verdict(&bar, None, None), BROKEN);
        let below_xen = Bar { name: "x", now: None, aim: None };
        assert_eq!(verdict(&below_xen, Some(9), None), "no bar without Xen");
        assert_eq!(verdict(&below_xen, Some(9), Some(9)), "held");
        assert_eq!(verdict(&below_xen, Some(10), Some(9)), BROKEN);
    }
}
