//! `./x bench`: what things cost, in instructions.
//!
//! QEMU runs with `-icount shift=0`: one instruction takes one virtual nanosecond, the TSC counts them at 1 GHz, and
//! figures repeat exactly. Counts are instructions, not cycles. `docs/performance.md` says what they mean.
//!
//! | file | what |
//! |---|---|
//! | `boot` | the group `boot` |
//! | `operations`, `bars` | groups that the bench guest measures, and what is expected of them |
//! | `guest` | the bench guest on a hypervisor, and what it says |
//! | `watch`, `execution_log`, `code` | which of the hypervisor's instructions were executed |
//! | `trace`, `source` | `--trace`: the functions that they belong to |
//! | `linux` | the group `linux`: processes of a Linux guest, on Pavise, on Xen and without a hypervisor |
//! | `io` | the group `io`: requests of disks and packets, through the whole machine |
//! | `idle` | the group `idle`: wake-ups of a machine that has nothing to do, in real time |
//! | `sched` | the group `sched`: the scheduler on the host, in time instead of instructions |
//! | `report` | numbers as text, rows as JSON |

mod bars;
mod boot;
mod code;
mod execution_log;
mod guest;
mod idle;
mod io;
pub mod linux;
mod operations;
mod report;
mod sched;
mod source;
mod trace;
mod watch;

use crate::xen::Xen;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::{fs, path::PathBuf, time::Duration};

/// Time for one run.
const LIMIT: Duration = Duration::from_secs(180);

/// Count the instructions of operations
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// What to count [default: boot, mm, events and domains]
    group: Option<Group>,
    /// Write the rows to this file too, as a list of JSON objects
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run the same on this hypervisor and print the ratio
    #[arg(long)]
    against: Option<Rival>,
    /// Draw the rows of the group linux in this file too, in SVG
    #[arg(long, value_name = "FILE", requires = "against")]
    chart: Option<PathBuf>,
    /// Instead, list the functions in which the hypervisor executes the instructions of ROW (groups mm, events, domains)
    #[arg(long, value_name = "ROW", conflicts_with_all = ["json", "against", "chart"])]
    trace: Option<String>,
}

/// Groups of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// From the hypervisor's entry to the first guest instruction, and the size of its file
    Boot,
    /// Hypercalls, traps and changes of page tables
    Mm,
    /// Event channels, timers, and switches from one vCPU to another
    Events,
    /// Domains that the control domain creates
    Domains,
    /// Wake-ups of a machine whose guests sleep
    Idle,
    /// Requests of a disk and packets on their whole way, through guest, control domain and device
    Io,
    /// Processes of a Linux guest
    Linux,
    /// Shares, latency and moves of simulated vCPUs, on the host
    Sched,
}

/// What Pavise can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rival {
    /// Debian's Xen
    Xen,
}

/// Does it.
///
/// # Errors
/// When a build or a run fails, or a figure is beyond its limit.
pub fn bench(args: &BenchArgs) -> Result<()> {
    if let Some(group @ (Group::Sched | Group::Idle)) = args.group {
        ensure!(
            args.against.is_none() && args.json.is_none(),
            "the groups `sched` and `idle` are tables for people, of Pavise alone"
        );
        if group == Group::Sched {
            return sched::simulate();
        }
        ensure!(idle::measure()?, "a figure is beyond its limit; see the rows marked BROKEN");
        return Ok(());
    }
    if args.group == Some(Group::Io) {
        ensure!(args.against.is_none(), "the group `io` is of Pavise alone");
        ensure!(io::measure(args.json.as_deref())?, "a figure is beyond its limit; see the rows marked BROKEN");
        return Ok(());
    }
    if let Some(group @ (Group::Boot | Group::Domains)) = args.group
        && args.against.is_some()
    {
        bail!("the group {group:?} has no counterpart on Xen, so --against has nothing to compare");
    }
    ensure!(args.chart.is_none() || args.group == Some(Group::Linux), "only the group `linux` has a chart");
    if let Some(row) = &args.trace {
        return trace::trace(row);
    }
    let xen = args.against.map(|Rival::Xen| Xen::get()).transpose()?;
    let wanted = |group| args.group.is_none_or(|only| only == group);

    let mut rows = Vec::new();
    let mut held = true;
    if wanted(Group::Boot) {
        held &= boot::measure(&mut rows)?;
    }
    if wanted(Group::Mm) {
        held &= operations::measure("mm", bars::MM, xen.as_ref(), &mut rows)?;
    }
    if wanted(Group::Events) {
        held &= operations::measure("events", bars::EVENTS, xen.as_ref(), &mut rows)?;
    }
    // It takes minutes, so it must be asked for.
    if args.group == Some(Group::Linux) {
        held &= linux::measure(xen.as_ref(), &mut rows)?;
    }
    if wanted(Group::Domains) {
        held &= operations::measure("domains", bars::DOMAINS, None, &mut rows)?;
    }
    if let Some(file) = &args.json {
        fs::write(file, report::json(&rows)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.chart {
        fs::write(file, linux::chart(&rows)?).with_context(|| format!("cannot write {}", file.display()))?;
    }
    ensure!(held, "a figure is beyond its limit; see the rows marked BROKEN");
    Ok(())
}
