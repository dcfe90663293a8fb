//! Random workloads through the simulator, which checks the invariants (see `check`).

use crate::{
    sim::{Ending, Sim},
    workload::workloads,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// Limits, block ownership, contiguity, text equal to a run alone, no leak, no starvation, one ending each;
    /// and the same inputs give the same plans.
    #[test]
    fn every_workload_ends_well_and_repeats((config, jobs, depth) in workloads()) {
        let outcome = Sim::new(config.clone(), &jobs, depth).run();
        for (id, ending) in &outcome.endings {
            if jobs[*id as usize].abort.is_none() {
                prop_assert_eq!(*ending, Ending::Complete);
            }
        }
        let again = Sim::new(config, &jobs, depth).run();
        prop_assert_eq!(outcome, again);
    }
}
