//! The system calls that send, in place of those of libc: a sink of the test answers them, so that what goes
//! through the C ABI follows a script, too. What an executable defines comes before what its libraries do.

use libc::{c_int, c_void, off_t, size_t, ssize_t};
use sendq::errno::Errno;
use sendq::iovec::IoVec;
use sendq::sink::Sink;
use sendq::sink::platform::MORE;
use std::cell::Cell;
use std::ptr::NonNull;

/// The socket, to which all calls go: a number that is no descriptor.
pub const SOCKET: c_int = 1_000_000;

thread_local! {
    static SINK: Cell<Option<NonNull<dyn Sink>>> = const { Cell::new(None) };
}

/// Lets `sink` answer what this thread sends while `call` runs.
pub fn serve<S: Sink + 'static, R>(sink: &mut S, call: impl FnOnce() -> R) -> R {
    let sink: NonNull<dyn Sink> = NonNull::from(sink);
    let before = SINK.replace(Some(sink));
    let result = call();
    SINK.set(before);
    result
}

fn answer(fd: c_int, ask: impl FnOnce(&mut dyn Sink) -> sendq::errno::Result<usize>) -> ssize_t {
    let sink = SINK.take().filter(|_| fd == SOCKET);
    let outcome = match sink {
        // SAFETY: serve() has it for as long as it is here, and nobody else while it is taken out.
        Some(mut served) => ask(unsafe { served.as_mut() }),
        None => Err(Errno::new(libc::EBADF)),
    };
    SINK.set(sink);
    outcome.map_or_else(
        |errno| {
            // SAFETY: the thread's own errno.
            unsafe { *errno_location() = -errno.negated() };
            -1
        },
        |taken| taken as ssize_t,
    )
}

#[cfg(target_os = "linux")]
use libc::__errno_location as errno_location;
#[cfg(not(target_os = "linux"))]
use libc::__error as errno_location;

/// MSG_MORE; never waits, and raises no SIGPIPE.
fn more(flags: c_int) -> bool {
    assert_eq!(flags & !MORE, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    flags & MORE != 0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn send(fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    answer(fd, |sink| sink.write(&[IoVec::new(data.cast(), len)], more(flags)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendmsg(fd: c_int, msg: *const libc::msghdr, flags: c_int) -> ssize_t {
    // SAFETY: as the caller says; an iovec is laid out as an IoVec.
    let iovecs = unsafe {
        std::slice::from_raw_parts((*msg).msg_iov.cast::<IoVec>(), (*msg).msg_iovlen as _)
    };
    answer(fd, |sink| sink.write(iovecs, more(flags)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn sendfile(fd: c_int, file: c_int, at: *mut off_t, len: size_t) -> ssize_t {
    // SAFETY: as the caller says.
    let offset = unsafe { *at } as u64;
    answer(fd, |sink| match sink.send_file(file, offset, len, false) {
        Err(errno) if errno == Errno::NO_DATA => Ok(0),
        outcome => outcome,
    })
}
