//! Groups of operations that the bench guest measures: on Pavise, beside Xen when it is compared with.

use super::{
    bars::{Bar, Verdict},
    code::Sites,
    guest::{self, Subject},
    report::{Cost, Row, Share, grouped},
    watch::watch,
};
use crate::xen::Xen;
use anyhow::{Result, ensure};

/// What the guest does while it is watched: less, for that takes longer. Flushes don't depend on how much it is.
const WATCHED: &str = "operations=4 batches=1 tables=100";

/// Measures a group, prints its table and adds its rows; says whether the bars are held.
///
/// # Errors
/// When a build or a run fails.
pub fn measure(group: &'static str, bars: &[Bar], xen: Option<&Xen>, rows: &mut Vec<Row>) -> Result<bool> {
    let ours = run(&Subject::pavise()?, group)?;
    let theirs = xen.map(|xen| run(&Subject::Xen(xen), group)).transpose()?;
    ensure!(
        ours.iter().map(|measured| measured.name.as_str()).eq(bars.iter().map(|bar| bar.name)),
        "the rows of the bench guest's group {group} are not those that there are bars for"
    );
    print_head(group, theirs.is_some());
    let mut all_held = true;
    let mut last = None;
    for (bar, measured) in bars.iter().zip(&ours) {
        let xen = theirs.iter().flatten().find(|theirs| theirs.name == bar.name);
        let instructions = |measured: &Measured| measured.cost.as_ref().ok().map(|cost| cost.instructions);
        let (on_pavise, on_xen) = (instructions(measured), xen.and_then(instructions));
        let verdict = Verdict::of(bar.now.instructions(on_xen, last), bar.aim, on_pavise);
        print_row(bar, &bar.now.shown(on_xen, last), measured, xen, verdict);
        last = on_pavise;
        all_held &= verdict != Verdict::Broken;
        let [pavise, xen] = [Some(measured), xen].map(|measured| measured?.cost.clone().ok());
        rows.push(Row { group, name: bar.name.to_owned(), pavise, xen, native: None });
    }
    Ok(all_held)
}

/// A row on one hypervisor.
struct Measured {
    name: String,
    /// Its cost, or the error that the hypervisor gives instead.
    cost: Result<Cost, String>,
}

/// Measures a group on a hypervisor: counts instructions, then in another run watches for flushes.
fn run(subject: &Subject, group: &str) -> Result<Vec<Measured>> {
    eprintln!("- measuring {group} on {}", subject.name());
    let counted = guest::finish(subject.boot(group, &format!("group={group}"), &[], group)?)?;
    let sites = Sites::of(&subject.code()?);
    let options = format!("group={group} {WATCHED}");
    let watched = watch(subject, group, &options, &sites.ranges(), &format!("{group}-watched"))?;
    ensure!(
        counted.iter().map(|line| &line.name).eq(watched.iter().map(|watched| &watched.line.name)),
        "the bench guest did other rows in its second run"
    );
    let measured = counted.into_iter().zip(watched).map(|(line, watched)| {
        let cost = line.figure.map(|figure| {
            let operations = watched.line.figure.map_or(1, |figure| figure.operations);
            let share = |of: &[u64]| {
                let count = watched.executed.iter().filter(|address| of.contains(address)).count();
                Share { count: count as u64, operations }
            };
            let flushes = Some((share(&sites.cr3_loads), share(&sites.tlb_flushes)));
            Cost { instructions: figure.per_operation(), flushes }
        });
        Measured { name: line.name, cost }
    });
    Ok(measured.collect())
}

fn print_head(group: &str, with_xen: bool) {
    let xen = if with_xen { format!("{:>10}{:>6}{:>6}{:>7}", "Xen", "CR3", "TLB", "ratio") } else { String::new() };
    println!(
        "\n{:<30}{:>9}{:>6}{:>6}{xen}{:>10}{:>6}",
        format!("{group}, per operation"),
        "Pavise",
        "CR3",
        "TLB",
        "bar",
        "aim"
    );
}

fn print_row(bar: &Bar, most: &str, pavise: &Measured, xen: Option<&Measured>, verdict: Verdict) {
    let mut text = format!("  {:<28}{}", bar.name, cost(pavise, 9));
    if let Some(xen) = xen {
        let ratio = pavise.cost.as_ref().ok().zip(xen.cost.as_ref().ok());
        let ratio =
            ratio.map(|(pavise, xen)| Share { count: pavise.instructions, operations: xen.instructions.max(1) });
        text += &format!("{}{:>7}", cost(xen, 10), ratio.map(|ratio| ratio.to_string()).unwrap_or_default());
    }
    println!("{text}{most:>10}{:>6}  {}", bar.aim.map(grouped).unwrap_or_default(), verdict.word());
}

/// Instructions and flushes, the first `width` wide; or the error.
fn cost(measured: &Measured, width: usize) -> String {
    match &measured.cost {
        Err(error) => format!("{error:>width$}{:>12}", ""),
        Ok(Cost { instructions, flushes }) => {
            let (cr3_loads, tlb_flushes) = flushes.map(|(a, b)| (a.to_string(), b.to_string())).unwrap_or_default();
            format!("{:>width$}{cr3_loads:>6}{tlb_flushes:>6}", grouped(*instructions))
        }
    }
}
