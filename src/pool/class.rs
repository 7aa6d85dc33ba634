//! The size classes of a pool's blocks: 256 bytes, then four times as many from class to class, up to
//! chunk_bytes.

use crate::block::HEADER;

/// A class of blocks, the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(u8);

/// More than there can be classes: a block of 256 * 4^14 bytes would be too large. A power of two, so that an
/// index needs no check.
pub(super) const CLASSES: usize = 16;

/// What a block of the first class takes.
pub const FIRST_BLOCK_BYTES: usize = 256;

impl Class {
    /// The smallest.
    pub const FIRST: Class = Class(0);

    /// The class with this place in an array.
    #[inline(always)]
    pub const fn at(index: u8) -> Class {
        Class(index % CLASSES as u8)
    }

    /// The class of blocks of this capacity, if chunk_bytes does not end the classes before.
    #[inline(always)]
    const fn of(capacity: usize) -> Class {
        const FIRST_BITS: u32 = FIRST_BLOCK_BYTES.ilog2();
        let largest_offset = (capacity + HEADER - 1) | (FIRST_BLOCK_BYTES - 1);
        Class(((largest_offset.ilog2() + 2 - FIRST_BITS) / 2) as u8)
    }

    /// All of them.
    pub(super) fn all() -> impl DoubleEndedIterator<Item = Class> {
        (0..CLASSES as u8).map(Class)
    }

    /// Its place in an array.
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize % CLASSES
    }
}

/// The classes of one pool.
pub(super) struct Classes {
    /// Bytes that a block of each class holds. The largest blocks are those of `last`.
    capacities: [u32; CLASSES],
    last: Class,
}

impl Classes {
    /// Those up to `chunk_bytes`, which is a size of blocks.
    pub(super) const fn up_to(chunk_bytes: usize) -> Classes {
        let mut capacities = [0; CLASSES];
        let mut i = 0;
        while i < CLASSES {
            let footprint = (FIRST_BLOCK_BYTES as u64) << (2 * i);
            let is_last = footprint >= chunk_bytes as u64;
            let footprint = if is_last { chunk_bytes as u64 } else { footprint };
            capacities[i] = (footprint - HEADER as u64) as u32;
            i += 1;
        }
        Classes { capacities, last: Class::of(chunk_bytes - HEADER) }
    }

    /// Bytes that a block of `class` holds.
    #[inline(always)]
    pub(super) fn capacity(&self, class: Class) -> usize {
        self.capacities[class.index()] as usize
    }

    /// What a block of `class` takes.
    pub(super) fn footprint(&self, class: Class) -> usize {
        self.capacity(class) + HEADER
    }

    /// The largest class.
    pub(super) fn last(&self) -> Class {
        self.last
    }

    /// The class of blocks of this capacity, if it is a usual one.
    #[inline(always)]
    pub(super) fn usual(&self, capacity: usize) -> Option<Class> {
        let class = Class::of(capacity);
        (self.capacity(class) == capacity).then_some(class)
    }

    /// The smallest class whose blocks hold `bytes`, or the largest if none does.
    pub(super) fn class_for(&self, bytes: usize) -> Class {
        Class::of(bytes.min(self.capacity(self.last)))
    }

    /// The class after `class`, or the largest.
    pub(super) fn larger(&self, class: Class) -> Class {
        Class(class.0 + 1).min(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_by_its_capacity() {
        for chunk_bytes in [256, 264, 1000, 1024, 4096, 8192, 65536, 1 << 30] {
            let classes = Classes::up_to(chunk_bytes);
            let mut class = Class::FIRST;
            loop {
                let capacity = classes.capacity(class);
                assert_eq!(classes.usual(capacity), Some(class));
                assert_eq!(classes.usual(capacity + 1), None);
                assert_eq!(classes.class_for(capacity), class);
                assert_eq!(classes.class_for(capacity + 1), classes.larger(class));
                if class == classes.last() {
                    assert_eq!(classes.footprint(class), chunk_bytes);
                    break;
                }
                class = classes.larger(class);
            }
        }
    }
}
