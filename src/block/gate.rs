//! What holds back the bytes behind it: a cork, or a hole that is not filled yet.
//!
//! Gates are in the order of the stream. Only what precedes the first one is available.

use super::{Block, Header};
use std::ptr::NonNull;

/// A position in a chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// A block of the chain; None: before the first.
    pub(super) block: Option<NonNull<Header>>,
    /// The offset past the last copied byte before it, and how many slots of the block precede it.
    pub(super) end: u32,
    pub(super) slots: u32,
}

/// A cork or a hole.
pub(super) struct Gate {
    pub(super) position: Position,
    /// How many queued bytes precede it.
    pub(super) before: u64,
    /// How many boundaries of messages had ever been set when it was made.
    pub(super) boundaries: u64,
    pub(super) hole: Option<Hole>,
}

/// Space at the front of a block, which is not filled yet.
#[derive(Clone, Copy)]
pub(super) struct Hole {
    pub(super) id: u64,
    /// The block, which is behind that of the gate's position.
    pub(super) block: NonNull<Header>,
    pub(super) len: u32,
}

/// How many slots of one block may be behind the cork while others precede it: as many as fit into the
/// smallest block.
pub(super) const DIVIDED_SLOTS: u32 = 4;

/// The gates of a chain.
#[derive(Default)]
pub(super) struct Gates {
    pub(super) list: Vec<Gate>,
    /// For the slots behind the cork, if what is behind it is taken back: they are released before those of the
    /// same block that precede it. None: a slot behind the cork needs another block.
    pub(super) spare: Option<Block>,
    /// The id of the last hole.
    pub(super) last_id: u64,
}

impl Gates {
    /// The oldest gate.
    pub(super) fn first(&self) -> Option<&Gate> {
        self.list.first()
    }

    /// `len` bytes were consumed. They precede all gates.
    pub(super) fn on_consumed(&mut self, len: u64) {
        self.list.iter_mut().for_each(|gate| gate.before -= len);
    }

    /// `block` leaves the chain.
    pub(super) fn on_popped(&mut self, block: NonNull<Header>) {
        self.list.retain(|gate| gate.hole.is_none_or(|hole| hole.block != block));
        for gate in &mut self.list {
            if gate.position.block == Some(block) {
                gate.position.block = None;
            }
        }
    }

    /// Where the cork is among the gates.
    pub(super) fn cork(&self) -> Option<usize> {
        self.list.iter().position(|gate| gate.hole.is_none())
    }

    /// Whether there is a hole.
    pub(super) fn has_holes(&self) -> bool {
        self.list.iter().any(|gate| gate.hole.is_some())
    }

    /// Where the hole `id` is among the gates.
    pub(super) fn hole(&self, id: u64) -> Option<usize> {
        self.list.iter().position(|gate| gate.hole.is_some_and(|hole| hole.id == id))
    }
}
