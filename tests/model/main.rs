//! sendq against a plain model: bytes, who owns them, what is counted of them, and the time. Random sequences
//! of every operation, into a sink that takes, stalls, is interrupted and fails, within budgets, with owners
//! that call back in when they are released, while time passes; after each step both must agree on every byte,
//! figure, hint, error and release. Each sequence goes through the C ABI or through the core alone.
//!
//! ```text
//!   ops      what happens
//!   queue    what one queue should be: the model
//!     pace     how fast bytes may leave, and how slowly
//!     letter   what is kept of a message
//!     sending  what a flush does with the answers of its sink
//!   driver   how to reach a queue
//!     c_abi    through the C ABI
//!     core     without it
//!   run      does it to both, and compares
//! ```
//!
//! Two bugs of 0.1 were out of reach of its model, which knew no `flush_with`: a record that was gathered
//! across a notification and then refused let that notification come at once, with reason 0; and a file's
//! record beyond the pool's budget gave -ENOBUFS though the connection lives. Both have a small test of their
//! own in tests/records.rs, too.

#[cfg(unix)]
mod c_abi;
mod core;
mod driver;
mod letter;
mod ops;
mod pace;
mod queue;
mod run;
#[path = "../script/mod.rs"]
mod script;
mod sending;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_sequence_agrees_with_the_model(
        ops in prop::collection::vec((prop::bool::weighted(0.25), any::<bool>(), ops::op()), 1..60),
        setting in ops::setting(),
        grain in prop_oneof![Just(1_usize), Just(100)],
    ) {
        let mut run = run::Run::new(setting);
        for (second, looks, op) in ops {
            run.step(usize::from(second), &op.sized(setting.scale, grain));
            run.check(looks);
        }
        run.end();
    }
}
