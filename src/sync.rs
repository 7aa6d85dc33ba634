//! What threads share is built from these. Under `--cfg shuttle`, which only `tests/interleavings` sets, they are
//! those of a scheduler that explores the orders in which threads may run.
//!
//! Slabs and the logger belong to the process, and would outlive a run of that scheduler. Their locks are
//! parking_lot's always, and nothing of this module is used while one of them is held.

#[cfg(not(shuttle))]
pub use parking_lot::{Mutex, RawMutex, lock_api};
#[cfg(not(shuttle))]
pub use std::{sync::atomic, thread_local};

#[cfg(shuttle)]
pub use shuttle::{sync::atomic, thread_local};
#[cfg(shuttle)]
pub use shuttle_parking_lot::{Mutex, RawMutex, lock_api};
