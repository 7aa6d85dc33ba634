//! sendq: the output half of a connection, for C and C++ servers.
//!
//! A host gives bytes to a queue; a flush hands them to a sink, in order, with as few system calls
//! as possible. The C ABI in [`capi`] is the product; its manual is `include/sendq/sendq.h`. The
//! rest is the house behind it, from the roof down (arrows run downward only):
//!
//! ```text
//!   capi/       every extern "C" function, one file per handle
//!     boundary    NULL, panics, locks: what stands between C and the core
//!     registry    the queues of a pool that others may look at
//!   direct      sends past an empty queue what the caller has in hand
//!   records     a flush in contiguous records, for TLS
//!   verify      compares what waits with what another path has sent
//!   flush       moves bytes from a queue to a sink, under a budget
//!     sink/       where bytes go: a socket, a host's function, a comparison; record gathers them
//!     queue       what waits, in order: append, borrow, reserve, cork, peek, consume
//!       pressure    watermarks and the hard cap; how fast bytes may leave, and how slowly
//!       tally       what is counted
//!       pool        which chunks are free, and the byte budget
//!         clock       the time, as the pool's owner reads it
//!         chunk       blocks of memory that the stream is written on, and chains of them
//!           pages       where that memory comes from
//!           segment     one run of bytes, and who must be told when it is gone
//!         errno       the errors all of them speak
//!   stats       the figures of a queue and of a pool, as structs and as JSON
//!   log         what is worth a word, and to whom
//! ```
//!
//! The laws, each with a test that can fail (`tests/`):
//!
//! 1. The bytes that leave are the bytes appended, in order, each once.
//! 2. Exactly one release for every accepted borrowed piece.
//! 3. All or nothing: no append is ever half taken.
//! 4. No lost wake-up, no spin: if bytes wait, some hint told the host what will move them.
//! 5. Bounded: memory per queue, memory per pool and work per call have limits that hold.
//! 6. A drained queue holds no chunk, and after a burst memory goes back to the system.
//! 7. Progress is measured in bytes sent, never in how much waits.
//! 8. appended = sent + discarded + waiting, at any moment; budgets count what is pinned, too.
//!
//! `unsafe` lives in `capi`, `sink`, `chunk` and `segment`, and nowhere else.

#![deny(unsafe_code)]

pub mod capi;
pub mod chunk;
pub mod clock;
pub mod direct;
pub mod errno;
pub mod flush;
pub mod log;
pub mod pool;
pub mod pressure;
pub mod queue;
pub mod records;
pub mod segment;
pub mod sink;
pub mod stats;
pub mod tally;
pub mod verify;
