//! The C ABI: every `extern "C"` function, one file per handle, and nothing else.
//!
//! The documentation of these items is the manual that C programmers read: cbindgen copies it into
//! `include/sendq/sendq.h`.

#![allow(unsafe_code, non_camel_case_types)]
// The manual says it once for all: a handle is NULL or alive, a pointer is NULL or what it is for.
#![allow(clippy::missing_safety_doc)]

mod boundary;
mod buf;
mod library;
mod logger;
mod pool;
mod queue;
mod registry;
mod sendmsg;
mod stats;

pub use boundary::sendq_fd_t;
pub use buf::*;
pub use library::*;
pub use logger::*;
pub use pool::*;
pub use queue::*;
pub use sendmsg::*;
pub use stats::*;
