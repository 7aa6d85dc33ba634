//! sendq: the output half of a connection, for C and C++ servers.
//!
//! A host appends bytes to a queue. A flush hands them to a sink, in order, with as few system calls as
//! possible. The C ABI in [`capi`] is the product; its manual is `include/sendq/sendq.h`. The modules, from
//! the top down (each uses only those below it):
//!
//! ```text
//!   capi/       every extern "C" function, one file per handle or theme: a manual, and a call into the core
//!     next        which queue of a pool is ready next
//!     handle      the handles, and the one entrance of every call on a queue
//!     ready       tells the registry which queues are ready
//!     registry    a pool's queues; registry/: their table, the turn of those that are ready
//!     orphans     what queues that are gone have left in the kernel's hands
//!     confinement in debug builds: one thread at a time
//!     boundary    NULL, panics, lengths, structs of other versions
//!     lock        a lock that a confined pool does without
//!   stats       the statistics of a queue and of a pool, as structs and as JSON
//!   log         how connections ended
//!   release     releases owners after a call, and keeps a queue alive meanwhile
//!   reap        takes the acknowledgements of what was sent without a copy
//!   records     a flush in contiguous records, for TLS
//!   verify      compares what is queued with what another path has sent
//!   flush       moves bytes from a queue to a sink, or past an empty queue, under a budget
//!     sink/       where bytes go: a socket, a host's function; gather and compare read them instead; the error
//!                 queue of a socket
//!     queue       what is queued, and its limits: every verb once; queue/: append, consume, cork, end, zerocopy
//!       policy      how much may be queued, how fast it may be sent; policy/: minimum rate, cold fields
//!         zerocopy    what was sent without a copy, and waits to be acknowledged
//!       messages    the boundaries between messages
//!       stream      the bytes in order: write, borrow, consume, cut, join
//!         joint       the one owner of a slot that was divided
//!       counters    what is counted
//!       pool        memory and the byte budget that many queues share
//!         clock       the time, as the pool's owner reads it
//!         token_bucket  a rate
//!         block       one block of memory that holds a part of a stream; block/: chain, gate, stack
//!           allocator   where that memory comes from: the system, or the host
//!             pages       memory of the system
//!           slot        bytes that somebody else owns, and the owner to release
//!           iovec       ranges of bytes
//!         flags       bits of state
//!         try_box     an allocation that may fail
//!         errno       the errors of all modules
//!         sync        locks and atomics
//! ```
//!
//! An append asks one question, [`queue::Queue::room`]: how many bytes may be copied without further checks.
//! It is 0 when any check is needed. Everything else takes the general path: `capi::handle::enter`, a verb of
//! [`queue::Queue`], and, if owners have to be released or a failure has to be logged, [`release::run`].
//!
//! The laws, each with a test that can fail. The model in `tests/model` tests all of them after every step of
//! random sequences, most of them also through the C ABI. Where each is told, and what else tests it:
//!
//! 1. The bytes that are sent are the bytes appended, in order, each once. `model/sending.rs`; by real sockets:
//!    `c/wire.c`, `c/file.c`.
//! 2. Exactly one release for every accepted borrowed piece, and not while the kernel reads it. `model/run.rs`;
//!    `c/release.c`, on threads `c/shared.c`; without a copy `zerocopy/`, by real sockets `c/zerocopy.c`.
//! 3. All or nothing: no append is ever half taken. `model/queue.rs` (`admit`); without memory: `model/memory.rs`,
//!    `c/out_of_memory.c`.
//! 4. No lost wake-up, no spin: if bytes are queued, some hint told the host what will move them. `producer/`, in
//!    any order of events; many queues: `c/pool_next.c`; on threads: `interleavings/`, `c/threads.c`.
//! 5. Bounded: memory per queue, memory per pool and work per call have limits that hold. `model/run.rs`
//!    (`may_refuse`, `check_pool`); to the byte: `c/budget.c`, `c/reserve.c`; time to drain: `c/closing.c`.
//! 6. A drained queue holds no block, and after a burst memory returns to the system. `model/run.rs`
//!    (`check_stats`); `c/memory.c`.
//! 7. Progress is measured in bytes sent or acknowledged, never in queue size. An append does not read the clock. `model/pace.rs`,
//!    `model/ops.rs` (`needs_no_clock`); `c/stalled.c`.
//! 8. appended = sent + discarded + queued, at any moment. Budgets count borrowed and shared memory, too.
//!    `model/run.rs` (`check_stats`, `check_pool`); past 32 bits: `c/figures.c`; on threads: `c/asking.c`.
//!
//! `unsafe` is used in `capi`, `release`, `sink`, `clock`, `block`, `joint`, `allocator`, `pages`, `slot`,
//! `iovec` and `try_box`, and nowhere else.

#![deny(unsafe_code)]

pub mod allocator;
pub mod block;
pub mod capi;
pub mod clock;
pub mod counters;
pub mod errno;
pub mod flags;
pub mod flush;
pub mod iovec;
pub mod joint;
pub mod log;
pub mod messages;
mod pages;
pub mod policy;
pub mod pool;
pub mod queue;
pub mod reap;
pub mod records;
pub mod release;
pub mod sink;
pub mod slot;
pub mod stats;
pub mod stream;
mod sync;
pub mod token_bucket;
pub mod try_box;
pub mod verify;
pub mod zerocopy;
