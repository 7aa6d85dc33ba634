//! A producer that obeys HIGH and RESUME never deadlocks and never spins.
//!
//! Two connections of one pool, each with a producer and a sink that opens now and then, under a
//! simulated clock. After any beginning, in which events come in any order, a fair world follows: what is
//! scheduled happens, and sinks open again. Then every byte leaves, within so many calls as the bytes
//! are worth. At no moment do bytes wait, or is a producer paused, with nothing scheduled.
//!
//! ```text
//!   host    a host that does what the hints say, and no more
//!   world   what may happen, in any order, and what must hold
//! ```

#![cfg(unix)] // Its sinks answer the system calls of POSIX.

mod host;
#[path = "../script/kernel.rs"]
mod kernel;
mod world;

use proptest::prelude::*;
use world::{Choices, Setting, World};

const SECOND: u64 = 1_000_000_000;

/// Watermarks: low below high, equal, and by default; high below max, equal, and by default; a max that
/// single messages are too large for.
const MARKS: [(u64, u64, u64); 6] =
    [(1, 2, 3), (2, 2, 4), (3, 3, 3), (0, 0, 3), (0, 1, 1), (1, 3, 0)];

/// Every order of the first `depth` events, in each setting; one less where code is slow.
fn explore(depth: usize, settings: impl Iterator<Item = Setting>) {
    let depth = depth - usize::from(cfg!(debug_assertions));
    let mut worlds = 0;
    for setting in settings {
        let mut choices = Choices::default();
        loop {
            let mut world = World::new(&setting);
            for _ in 0..depth {
                world.step(&mut choices);
            }
            world.end();
            worlds += 1;
            if !choices.next() {
                break;
            }
        }
    }
    println!("{worlds} worlds");
}

fn settings() -> impl Iterator<Item = Setting> {
    let marks = MARKS.into_iter();
    // Budgets: none, and one and two blocks, which the queues take from each other.
    let with = marks.flat_map(|marks| [0, 256, 512].map(|budget| (marks, budget)));
    with.map(|(marks, max_bytes)| Setting {
        marks,
        max_bytes,
        messages: vec![1, 2, 3, 1],
        rooms: vec![1, usize::MAX],
        ..Setting::default()
    })
}

#[test]
fn in_any_order_of_appends_and_flushes() {
    explore(9, settings());
}

#[test]
fn in_any_order_when_flushes_have_a_budget() {
    explore(9, settings().map(|setting| Setting { call_bytes: 1, borrow: true, ..setting }));
}

#[test]
fn in_any_order_when_there_is_a_rate() {
    let rates = [(1, 0), (1, 1), (2, 3), (1000, 2)];
    let with = settings().flat_map(|setting| rates.map(|rate| Setting { rate, ..setting.clone() }));
    explore(8, with.map(|setting| Setting { tick: 7, ..setting }));
}

#[test]
fn in_any_order_of_whatever_a_host_does() {
    explore(4, settings().map(|setting| Setting { interferes: true, tick: 3, ..setting }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_long_lives(
        digits in prop::collection::vec(any::<u32>(), 0..200),
        marks in prop_oneof![
            (1..3000_u64, 0..3000_u64, 0..3000_u64)
                .prop_map(|(low, high, max)| (low, low + high, low + high + max)),
            (1..4000_u64).prop_map(|max| (0, 0, max)),
            (1..2000_u64).prop_map(|mark| (mark, mark, 0)),
        ],
        max_bytes in prop_oneof![Just(0_u64), 256..6000_u64],
        call_bytes in prop_oneof![Just(0_usize), 1..500_usize],
        rate in prop_oneof![
            3 => Just((0_u64, 0_u64)),
            3 => (1..10_000_u64, 0..3000_u64),
            1 => (SECOND / 2..4 * SECOND, 0..3000_u64),
        ],
        messages in prop::collection::vec(1..1500_usize, 1..30),
        rooms in prop::collection::vec(prop_oneof![Just(0), 1..1000_usize, Just(usize::MAX)], 1..4),
        borrow: bool,
        interferes: bool,
        tick in prop_oneof![Just(0), 1..100_u64, SECOND / 1000..SECOND],
    ) {
        let setting = Setting {
            marks, max_bytes, call_bytes, rate, messages, rooms, borrow, interferes, tick,
        };
        let mut choices = Choices::drawn(&digits);
        let mut world = World::new(&setting);
        for _ in &digits {
            world.step(&mut choices);
        }
        world.end();
    }
}
