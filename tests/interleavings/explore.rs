//! Runs a model in many orders.

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

/// How many orders of each kind, unless SENDQ_SCHEDULES says otherwise.
const SCHEDULES: u64 = 2000;
/// A run of a model takes some hundred steps. One of this many does not end.
const MAX_STEPS: usize = 100_000;
/// What PCT calls depth.
const CHANGES: usize = 3;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn schedules() -> usize {
    setting("SENDQ_SCHEDULES", SCHEDULES) as usize
}

fn run(scheduler: impl Scheduler + 'static, model: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model)
}

/// Runs `model` in orders that are chosen at random and by PCT.
pub fn some_orders(name: &str, model: fn()) {
    let (seed, count) = (setting("SENDQ_SEED", 2026), schedules());
    let random = run(RandomScheduler::new_from_seed(seed, count), model);
    let pct = run(PctScheduler::new_from_seed(seed, CHANGES, count), model);
    println!("{name}: {random} orders at random, {pct} by PCT of depth {CHANGES}");
}

/// Runs `model`, which has few steps, in all orders.
pub fn all_orders(name: &str, model: fn()) {
    const MOST: usize = 1_000_000;
    let count = run(DfsScheduler::new(Some(MOST), false), model);
    assert!(count < MOST, "{name} has more orders than can be run");
    println!("{name}: all of its {count} orders");
}
