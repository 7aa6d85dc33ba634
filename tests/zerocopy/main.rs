//! Sends without a copy, in random sequences through the C ABI, with a kernel that acknowledges late, merged, out of
//! order, or never. Whatever happens to a queue, an owner is released once, not before the kernel is done with its
//! memory, and not later either.
//!
//! ```text
//!   ops      what happens
//!   run      does it, and looks at what has to hold after it
//!   oracle   who may be released, and who has to be
//!   kernel   takes bytes, reads memory without a copy, and acknowledges that
//!   memory   what is sent
//! ```

#![cfg(target_os = "linux")]

mod kernel;
mod memory;
mod ops;
mod oracle;
mod run;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_comes_back_when_the_kernel_is_done(
        ops in prop::collection::vec((prop::bool::weighted(0.3), ops::op()), 1..60),
        setting in ops::setting(),
    ) {
        let mut run = run::Run::new(setting);
        for (second, op) in ops {
            run.step(usize::from(second), &op);
        }
        run.end();
    }
}
