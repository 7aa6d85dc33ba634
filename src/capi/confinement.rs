//! In debug builds, two threads that use at once what serves one thread at a time are caught in the act.
//!
//! Such a use corrupts memory, which shows later and somewhere else. So it ends the process by abort(3), as a
//! failed assert(3) does: the core dump then has both threads inside their calls. A panic, which fails one queue,
//! would not do, because the other thread still uses that queue.
//!
//! Threads may hand a queue or a pool on to each other, so only calls that overlap are wrong. A call lasts until
//! its system calls and callbacks have returned. The atomic is relaxed and so orders nothing: ThreadSanitizer still
//! sees calls that do not overlap, but that nothing orders.

#[cfg(debug_assertions)]
pub(super) use checked::Confinement;

#[cfg(not(debug_assertions))]
pub(super) struct Confinement;

#[cfg(not(debug_assertions))]
impl Confinement {
    pub(super) const fn new() -> Confinement {
        Confinement
    }

    /// # Safety
    /// As for the one of a debug build.
    #[inline(always)]
    pub(super) unsafe fn during<R>(_: *const Confinement, _: &str, call: impl FnOnce() -> R) -> R {
        call()
    }
}

#[cfg(debug_assertions)]
mod checked {
    use std::any::type_name;
    use std::cell::Cell;
    use std::io::Write;
    use std::ptr::null;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The use of a queue or a pool by one thread at a time.
    pub(in crate::capi) struct Confinement {
        /// The thread of the calls that are in progress; 0: none is.
        thread: AtomicUsize,
        /// Of the outermost of them, on the stack of that thread.
        is_gone: Cell<*const Cell<bool>>,
    }

    impl Confinement {
        pub(in crate::capi) const fn new() -> Confinement {
            Confinement { thread: AtomicUsize::new(0), is_gone: Cell::new(null()) }
        }

        /// Runs `call`, a call on `what`. Ends the process if another thread is in such a call.
        ///
        /// # Safety
        /// `this` is alive. `call` may free it, on this thread.
        pub(in crate::capi) unsafe fn during<R, F: FnOnce() -> R>(
            this: *const Confinement,
            what: &str,
            call: F,
        ) -> R {
            let (thread, order) = (this_thread(), Ordering::Relaxed);
            // SAFETY: alive, as the caller says.
            match unsafe { (*this).thread.compare_exchange(0, thread, order, order) } {
                Ok(_) => {}
                Err(user) if user == thread => return call(),
                Err(user) => report(what, type_name::<F>(), thread, user),
            }
            let is_gone = Cell::new(false);
            // SAFETY: alive, and used by this thread alone.
            unsafe { (*this).is_gone.set(&raw const is_gone) };
            let _end = End { this, is_gone: &is_gone };
            call()
        }
    }

    impl Drop for Confinement {
        fn drop(&mut self) {
            if *self.thread.get_mut() != 0 {
                // SAFETY: set by the outermost call, which is in progress: during() clears `thread` at its end.
                unsafe { (*self.is_gone.get()).set(true) };
            }
        }
    }

    /// The end of an outermost call.
    struct End<'a> {
        this: *const Confinement,
        is_gone: &'a Cell<bool>,
    }

    impl Drop for End<'_> {
        fn drop(&mut self) {
            if !self.is_gone.get() {
                // SAFETY: alive, because it is not gone.
                unsafe { (*self.this).thread.store(0, Ordering::Relaxed) };
            }
        }
    }

    fn this_thread() -> usize {
        thread_local! {
            /// The child of a fork in a callback goes on with the thread of its parent.
            static THREAD: Cell<usize> = const { Cell::new(0) };
        }
        THREAD.with(|thread| {
            if thread.get() == 0 {
                thread.set(thread_id(thread));
            }
            thread.get()
        })
    }

    /// What gdb and top show.
    #[cfg(target_os = "linux")]
    fn thread_id(_: &Cell<usize>) -> usize {
        // SAFETY: asks for a number.
        unsafe { libc::gettid() as usize }
    }

    /// An address that each thread has for itself.
    #[cfg(not(target_os = "linux"))]
    fn thread_id(own: &Cell<usize>) -> usize {
        &raw const *own as usize
    }

    /// `thread`, and its name if it is known.
    fn describe(thread: usize) -> String {
        match std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")) {
            Ok(name) => format!("thread {thread} ({})", name.trim_end()),
            Err(_) => format!("thread {thread}"),
        }
    }

    #[cold]
    fn report(what: &str, call: &str, thread: usize, user: usize) -> ! {
        // The closure that was passed to during() is one of a function of the C ABI.
        let function = call.split("::").find(|name| name.starts_with("sendq_"));
        let message = format!(
            "{} by {} while {} is in a call on the same {what}, which is not SENDQ_THREADSAFE",
            function.unwrap_or("a call"),
            describe(thread),
            describe(user),
        );
        // Nothing can be done if that fails.
        let _ = writeln!(std::io::stderr(), "sendq: {message}");
        log::error!("{message}");
        std::process::abort();
    }
}
