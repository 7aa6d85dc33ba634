//! Fuzzing guided by coverage: sequences of operations through the C ABI, against the model of `tests/model`, which
//! has the operations, too. Nothing is described here but how bytes become a sequence.
//!
//! ```text
//!   export RUSTC_BOOTSTRAP=1                                   # or a nightly toolchain
//!   cargo fuzz run --fuzz-dir tests/fuzz sequences             # until it is stopped
//!   cargo fuzz run --fuzz-dir tests/fuzz sequences FILE        # replays one file
//!   SENDQ_FUZZ_SHOW=1 cargo fuzz run ...                       # prints what happens, step by step
//!   cargo fuzz tmin --fuzz-dir tests/fuzz sequences FILE       # makes a failing file as short as it gets
//!   cargo fuzz cmin --fuzz-dir tests/fuzz sequences            # keeps what the corpus needs
//! ```

#![no_main]

#[path = "../model/main.rs"]
mod model;

use libfuzzer_sys::fuzz_target;
use model::{Setting, Step};
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A byte below this is the last one of a choice.
const LAST: u8 = 64;

/// The choices that the bytes stand for: the setting, and then a step each. The bytes of a choice are the seed of a
/// random generator that makes it. So what the fuzzer changes in one place changes one step, and the others stay as
/// they are, although it may add and remove bytes.
fn choices(bytes: &[u8]) -> impl Iterator<Item = TestRunner> {
    bytes.split_inclusive(|byte| *byte < LAST).map(|choice| {
        let mut seed = [0; 32];
        let len = choice.len().min(seed.len());
        seed[..len].copy_from_slice(&choice[..len]);
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    })
}

fn choose<T: std::fmt::Debug>(among: &BoxedStrategy<T>, mut choice: TestRunner) -> T {
    among.new_tree(&mut choice).expect("nothing is rejected").current()
}

thread_local! {
    static SETTING: BoxedStrategy<Setting> = model::setting().boxed();
    static STEP: BoxedStrategy<Step> = model::step().boxed();
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = choices(bytes);
    let Some(first) = choices.next() else { return };
    let setting = Setting { core: false, ..SETTING.with(|setting| choose(setting, first)) };
    let shows = std::env::var_os("SENDQ_FUZZ_SHOW").is_some();
    let show = |shown: &dyn std::fmt::Debug| {
        if shows {
            eprintln!("{shown:?}");
        }
    };
    show(&setting);
    let steps = choices.map(|choice| STEP.with(|step| choose(step, choice)));
    model::play(setting, steps.inspect(|step| show(step)));
});
