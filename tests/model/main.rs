//! The C ABI against a plain model: bytes, who owns them, what is counted of them, and the time. Random
//! sequences of every operation, into a sink that takes, stalls, is interrupted and fails, within
//! budgets, with owners that call back in when they are told, while time passes; after each step both
//! must agree on every byte, figure, hint, error and release.
//!
//! ```text
//!   ops      what happens
//!   queue    what one queue should be: the model
//!     pace     how fast bytes may leave, and how slowly
//!   run      does it to both, and compares
//! ```

mod ops;
mod pace;
mod queue;
mod run;
#[path = "../script/mod.rs"]
mod script;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_sequence_agrees_with_the_model(
        ops in prop::collection::vec((prop::bool::weighted(0.25), ops::op()), 1..60),
        setting in ops::setting(),
        grain in prop_oneof![Just(1_usize), Just(100)],
    ) {
        let mut run = run::Run::new(setting);
        for (second, op) in ops {
            run.step(usize::from(second), &op.rounded(grain));
            run.check();
        }
        run.end();
    }
}
