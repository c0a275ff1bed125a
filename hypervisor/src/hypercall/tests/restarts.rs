//! A call that is restarted, wherever that is, leaves behind what it does in one go.

use super::scenarios::{SCENARIOS, carry_out};

#[test]
fn every_scenario_succeeds() {
    for scenario in &SCENARIOS {
        let result = carry_out(scenario, || u32::MAX).result;
        assert!(result >= 0, "{}: {result}", scenario.name);
    }
}

#[test]
fn a_restart_anywhere_changes_nothing() {
    for scenario in &SCENARIOS {
        let whole = carry_out(scenario, || u32::MAX);
        // Densely at first, where most begin and end, and now and then in the middle of tables.
        for budget in (0..48).chain((48..5000).step_by(211)) {
            let mut first = Some(budget);
            let mut restarts = 0;
            let trace = carry_out(scenario, || {
                restarts += 1;
                first.take().unwrap_or(u32::MAX)
            });
            assert!(trace == whole, "{} after {budget}", scenario.name);
            if restarts == 1 {
                break;
            }
        }
    }
}

#[test]
fn restarts_as_often_as_can_be_change_nothing() {
    for scenario in &SCENARIOS {
        let whole = carry_out(scenario, || u32::MAX);
        for budget in [scenario.least, scenario.least + 5] {
            assert!(carry_out(scenario, || budget) == whole, "{} by {budget}", scenario.name);
        }
    }
}
