//! The bars: the most instructions that an operation may take, and how one is judged.

use super::report::grouped;

/// An operation's bars.
pub struct Bar {
    /// The row's name in the bench guest.
    pub name: &'static str,
    /// What breaks the bench.
    pub now: Most,
    /// The aim after that.
    pub aim: Option<u64>,
}

/// The most instructions that an operation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Most {
    /// This many.
    Instructions(u64),
    /// This many percent of what it takes on Xen, when that is compared with.
    OfXen(u64),
    /// This many percent above the row before.
    AboveLast(u64),
}

impl Most {
    /// The number, if there is one: by what the operation takes on Xen, and what the row before takes on Pavise.
    pub fn instructions(self, xen: Option<u64>, last: Option<u64>) -> Option<u64> {
        match self {
            Self::Instructions(most) => Some(most),
            Self::OfXen(percent) => Some(xen? * percent / 100),
            Self::AboveLast(percent) => last.map(|last| last + last * percent / 100),
        }
    }

    /// The number as tables have it: not where it is just Xen's, which is beside it.
    pub fn shown(self, xen: Option<u64>, last: Option<u64>) -> String {
        let number = self.instructions(xen, last).filter(|_| self != Self::OfXen(100));
        number.map(grouped).unwrap_or_default()
    }
}

/// How an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing to judge it by.
    Free,
    /// The bar is held.
    Held,
    /// The aim is reached as well.
    Reached,
    /// The bar is broken, or Pavise doesn't do the operation.
    Broken,
}

impl Verdict {
    /// By the most instructions that it may take, the aim, and what it takes.
    pub fn of(most: Option<u64>, aim: Option<u64>, pavise: Option<u64>) -> Verdict {
        let Some(pavise) = pavise else { return Verdict::Broken };
        let held = |most: Option<u64>| most.map(|most| pavise <= most);
        match (held(most), held(aim)) {
            (Some(false), _) => Verdict::Broken,
            (_, Some(true)) => Verdict::Reached,
            (Some(true), _) => Verdict::Held,
            (None, _) => Verdict::Free,
        }
    }

    /// As tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Free => "no bar without Xen",
            Verdict::Held => "held",
            Verdict::Reached => "held, aim reached",
            Verdict::Broken => "BROKEN",
        }
    }
}

const fn bar(name: &'static str, now: u64, aim: u64) -> Bar {
    Bar { name, now: Most::Instructions(now), aim: Some(aim) }
}

const fn at_most(name: &'static str, most: u64) -> Bar {
    Bar { name, now: Most::Instructions(most), aim: None }
}

const fn of_xen(name: &'static str, percent: u64) -> Bar {
    Bar { name, now: Most::OfXen(percent), aim: None }
}

const fn below_xen(name: &'static str) -> Bar {
    of_xen(name, 100)
}

/// The rows of the group `mm`, in the bench guest's order.
pub const MM: &[Bar] = &[
    bar("null-hypercall", 120, 70),
    bar("unknown-hypercall", 100, 60),
    bar("stack-switch", 120, 75),
    bar("fpu-taskswitch", 120, 75),
    bar("sched-yield", 600, 300),
    below_xen("multicall-entry"),
    bar("update-va-mapping-same", 330, 200),
    bar("update-va-mapping-map-unmap", 400, 250),
    bar("mmu-update-one", 400, 250),
    bar("mmu-update-batch-same", 180, 80),
    bar("mmu-update-batch-map-unmap", 260, 120),
    below_xen("page-table-store"),
    bar("tlb-flush-local", 250, 120),
    bar("page-fault", 400, 250),
    bar("software-interrupt", 400, 250),
    bar("cpuid-forced", 300, 200),
    bar("rdmsr", 500, 300),
    below_xen("user-syscall"),
    below_xen("pin-unpin-table"),
    below_xen("fork-exit-page"),
    below_xen("grant-map-unmap"),
    below_xen("grant-copy-page"),
];

/// The rows of the group `events`.
pub const EVENTS: &[Bar] = &[
    bar("evtchn-send-masked", 200, 120),
    below_xen("evtchn-send-upcall"),
    bar("set-timer-op", 200, 130),
    bar("vcpu-switch", 4_500, 3_000),
    bar("wake-ping-pong", 4_500, 3_000),
];

/// The rows of the group `domains`.
pub const DOMAINS: &[Bar] =
    &[at_most("create-start-8", 3_000_000), Bar { name: "create-start-200", now: Most::AboveLast(10), aim: None }];

/// The rows of the group `linux`: how the kernel starts, then those of the program `linux-bench`, in its order.
pub const LINUX: &[Bar] = &[
    at_most("boot, to the first program", 2_800_000_000),
    at_most("getppid", 700),
    below_xen("pipe, write and read in one process"),
    below_xen("pipe, ping-pong of 2 processes"),
    below_xen("context switch, ring of 2 processes"),
    below_xen("context switch, ring of 8 processes"),
    of_xen("anonymous page fault, per page", 70),
    of_xen("mprotect of 256 pages, there and back", 70),
    below_xen("mmap, munmap"),
    of_xen("fork, exit, wait", 70),
    of_xen("fork, exec, exit, wait", 70),
    of_xen("vfork, exec, exit, wait", 70),
    below_xen("signal to self"),
    below_xen("compute loop of 1,000,000 steps"),
    below_xen("build-like mix, per pair of processes"),
];

/// All groups that the bench guest measures, with their names.
pub const GROUPS: [(&str, &[Bar]); 3] = [("mm", MM), ("events", EVENTS), ("domains", DOMAINS)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_become_numbers() {
        let bars = [Most::Instructions(5), Most::OfXen(100), Most::OfXen(70), Most::AboveLast(10)];
        assert_eq!(bars.map(|bar| bar.instructions(None, None)), [Some(5), None, None, None]);
        assert_eq!(
            bars.map(|bar| bar.instructions(Some(1999), Some(100))),
            [Some(5), Some(1999), Some(1399), Some(110)]
        );
        assert_eq!(bars.map(|bar| bar.shown(Some(1999), Some(100))), ["5", "", "1 399", "110"]);
    }

    #[test]
    fn operations_are_judged() {
        assert_eq!(Verdict::of(Some(120), Some(70), Some(120)), Verdict::Held);
        assert_eq!(Verdict::of(Some(120), Some(70), Some(71)), Verdict::Held);
        assert_eq!(Verdict::of(Some(120), Some(70), Some(70)), Verdict::Reached);
        assert_eq!(Verdict::of(Some(120), Some(70), Some(121)), Verdict::Broken);
        assert_eq!(Verdict::of(Some(120), Some(70), None), Verdict::Broken);
        assert_eq!(Verdict::of(None, None, Some(9)), Verdict::Free);
        assert_eq!(Verdict::of(Some(9), None, Some(9)), Verdict::Held);
        assert_eq!(Verdict::of(Some(9), None, Some(10)), Verdict::Broken);
    }
}
