//! A lock that is not taken where only one thread at a time can come.

use crate::sync::RawMutex;
use crate::sync::lock_api::RawMutex as _;
use std::cell::UnsafeCell;

/// A value, guarded by a lock if several threads share it. Otherwise one thread at a time uses it, by
/// contract.
pub(super) struct Guarded<T> {
    lock: RawMutex,
    is_shared: bool,
    value: UnsafeCell<T>,
}

// SAFETY: the lock guards the value, or one thread at a time uses it.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(super) const fn new(value: T, is_shared: bool) -> Guarded<T> {
        Guarded { lock: RawMutex::INIT, is_shared, value: UnsafeCell::new(value) }
    }

    /// Runs `f` with exclusive access. `f` does not come back to this value.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        if self.is_shared {
            self.lock.lock();
        }
        let _unlock = Unlock(self.is_shared.then_some(&self.lock));
        // SAFETY: locked, or used by one thread at a time; `f` does not come back.
        f(unsafe { &mut *self.value.get() })
    }
}

struct Unlock<'a>(Option<&'a RawMutex>);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.0 {
            // SAFETY: Guarded::with() has locked it, in this very call.
            unsafe { lock.unlock() };
        }
    }
}
