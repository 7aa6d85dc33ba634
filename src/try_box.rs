//! An allocation that may fail.

#![allow(unsafe_code)]

use crate::errno::{Errno, Result};

/// Allocates `value`. NO_MEMORY where `Box::new` would end the process.
pub fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(1).map_err(|_| Errno::NO_MEMORY)?;
    room.push(value);
    // SAFETY: a boxed slice of one T is one T of the same layout, allocated as such.
    Ok(unsafe { Box::from_raw(Box::into_raw(room.into_boxed_slice()).cast::<T>()) })
}
