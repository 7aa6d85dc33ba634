//! The C ABI: every `extern "C"` function, one file per handle, and nothing else.
//!
//! The documentation of these items is the manual for C programmers. cbindgen copies it into
//! `include/sendq/sendq.h`.

#![allow(unsafe_code, non_camel_case_types)]
// The header states it once for all functions: a handle is NULL or alive, a pointer is NULL or valid.
#![allow(clippy::missing_safety_doc)]

mod append;
mod boundary;
mod buf;
mod confinement;
mod flush;
mod handle;
mod library;
mod lock;
mod logger;
mod many;
mod message;
mod next;
mod orphans;
mod part;
mod pool;
mod queue;
mod ready;
mod registry;
#[cfg(not(windows))]
mod sendmsg;
mod state;
mod stats;
mod verify;
mod zerocopy;

pub use append::*;
pub use boundary::sendq_fd_t;
pub use buf::*;
pub use flush::*;
pub use handle::{
    sendq_alloc_fn, sendq_dealloc_fn, sendq_now_fn, sendq_pool_t, sendq_release_fn, sendq_t,
    sendq_wake_fn,
};
pub use library::*;
pub use logger::*;
pub use many::*;
pub use message::*;
pub use part::{
    SENDQ_PART_BUF, SENDQ_PART_COPY, SENDQ_PART_FILE, SENDQ_PART_OWN, SENDQ_PART_OWNED_FILE,
    SENDQ_PART_REF, sendq_part_t,
};
pub use pool::*;
pub use queue::*;
#[cfg(not(windows))]
pub use sendmsg::*;
pub use state::*;
pub use stats::*;
pub use verify::*;
pub use zerocopy::{SENDQ_UNACKED, SENDQ_ZEROCOPY, sendq_pool_reap, sendq_reap};
