//! Blocks that no queue holds.

use super::{Block, Header, Link};
use crate::sync::atomic::{AtomicPtr, Ordering};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// Blocks, last in first out: the block that was returned last is warm in the cache.
pub struct Stack {
    top: UnsafeCell<Link>,
}

impl Stack {
    /// An empty one.
    pub const fn new() -> Stack {
        Stack { top: UnsafeCell::new(Link::NONE) }
    }

    fn with_top<R>(&self, f: impl FnOnce(&mut Link) -> R) -> R {
        // SAFETY: a Stack is not Sync, and `f`, of this type, does not come back to it.
        f(unsafe { &mut *self.top.get() })
    }

    /// Pushes `block`.
    pub fn push(&self, mut block: Block) {
        self.with_top(|top| {
            block.header_mut().next.0 = top.0.take();
            top.set(block);
        });
    }

    /// Pops the top block.
    pub fn pop(&self) -> Option<Block> {
        self.with_top(|top| {
            let mut block = top.take()?;
            top.0 = block.header_mut().next.0.take();
            Some(block)
        })
    }
}

impl Default for Stack {
    fn default() -> Stack {
        Stack::new()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// A place for one block, which any thread may take or fill without a lock.
#[derive(Default)]
pub struct AtomicCell(AtomicPtr<Header>);

impl AtomicCell {
    /// An empty one.
    pub const fn new() -> AtomicCell {
        AtomicCell(AtomicPtr::new(ptr::null_mut()))
    }

    /// Takes the block out, if there is one.
    pub fn take(&self) -> Option<Block> {
        // Acquire: what was done to the block before put() happens before what the taker does.
        NonNull::new(self.0.swap(ptr::null_mut(), Ordering::Acquire)).map(Block)
    }

    /// Puts `block` in; returns it if the place is taken.
    pub fn put(&self, block: Block) -> Option<Block> {
        let address = ManuallyDrop::new(block).0;
        let (free, taken) = (Ordering::Release, Ordering::Relaxed);
        match self.0.compare_exchange(ptr::null_mut(), address.as_ptr(), free, taken) {
            Ok(_) => None,
            Err(_) => Some(Block(address)),
        }
    }

    /// Whether a block was there a moment ago.
    pub fn is_filled(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }
}

impl Drop for AtomicCell {
    fn drop(&mut self) {
        drop(self.take());
    }
}
