//! Models of a host whose threads share queues, pools and buffers. A scheduler, shuttle, runs each model again and
//! again, and lets its threads take turns at every lock and atomic of sendq in another order each time.
//!
//!     RUSTFLAGS='--cfg shuttle' cargo test --profile model --target-dir target/shuttle --test interleavings
//!
//! What is checked in every order: no wake-up is lost, every owner is released once, no thread waits for ever,
//! bytes leave in order, each once, and what is counted adds up in the end.
//!
//! The bound: for each model, `explore` prints how many orders ran. A model of few steps runs in all of its orders.
//! Of the others, a fixed number is chosen at random, and as many by PCT (Burckhardt et al., 2010), which finds a
//! mistake that needs at most three changes of thread at the wrong moment with a known probability. The choice is
//! the same in each run; SENDQ_SEED makes another, and SENDQ_SCHEDULES sets the number.
//!
//! Why shuttle: its locks and atomics can be made at compile time, as the default pool needs, and its threads use
//! real memory, so that models call the C ABI of the library as it is. It has no weak memory, however: every atomic
//! is sequentially consistent. An ordering that is too weak is left to ThreadSanitizer.

#![cfg(shuttle)]

mod budget;
mod buffer;
mod explore;
mod flush;
mod free;
mod host;
mod release;
mod splice;
mod wake;
