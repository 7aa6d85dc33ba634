//! The gates of a chain: its cork, and its holes.

use super::super::gate::{DIVIDED_SLOTS, Gate, Gates, Hole};
use super::super::{Block, block_at, block_at_mut};
use super::Chain;
use crate::errno::{Errno, Result};
use crate::try_box::try_box;
use std::ptr;

impl Chain {
    /// How many slots the last block takes. A gate divides the slots of a block only if there is a spare block
    /// for those behind it.
    pub fn slots_taken(&self) -> u32 {
        // Gates are in order, so that only the last one can be in the last block.
        let Some(gates) = &self.gates else { return u32::MAX };
        let last = gates.list.last().filter(|gate| gate.position.block == self.cursor.block);
        let (Some(gate), Some(tail)) = (last, self.tail()) else { return u32::MAX };
        if gates.spare.is_none() {
            0
        } else {
            DIVIDED_SLOTS - (tail.header().slots - gate.position.slots).min(DIVIDED_SLOTS)
        }
    }

    /// Whether [`Chain::set_spare`] would let the last block take `slots`.
    pub fn lacks_spare(&self, slots: u32) -> bool {
        slots <= DIVIDED_SLOTS
            && self.slots_taken() == 0
            && self.gates.as_ref().is_some_and(|gates| gates.spare.is_none())
    }

    /// Lets slots behind the cork share a block with those before it.
    pub fn set_spare(&mut self, spare: Block) {
        if let Some(gates) = &mut self.gates {
            gates.spare = Some(spare);
        }
    }

    /// Whether the cork divides the slots of a block.
    pub fn needs_spare(&self) -> bool {
        let Some(gates) = &self.gates else { return false };
        let cork = gates.cork().map(|cork| gates.list[cork].position);
        // SAFETY: a block of this chain (see Gates::on_popped), which is borrowed.
        cork.is_some_and(|cork| unsafe {
            block_at(&cork.block).is_some_and(|block| block.header().slots > cork.slots)
        })
    }

    /// Takes out the spare block.
    pub fn take_spare(&mut self) -> Option<Block> {
        self.gates.as_mut()?.spare.take()
    }

    /// Whether a gate holds bytes back.
    pub fn has_gates(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| !gates.list.is_empty())
    }

    /// Whether it is corked.
    pub fn is_corked(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| gates.cork().is_some())
    }

    /// Whether there is a hole that is not filled yet.
    pub fn has_holes(&self) -> bool {
        self.gates.as_ref().is_some_and(|gates| gates.has_holes())
    }

    /// How many boundaries had been set when the first open hole was made. None: there is no hole.
    pub fn set_before_hole(&self) -> Option<u64> {
        self.gates
            .as_ref()?
            .list
            .iter()
            .find(|gate| gate.hole.is_some())
            .map(|gate| gate.boundaries)
    }

    /// How many of `waiting` queued bytes are available.
    pub fn available(&self, waiting: u64) -> u64 {
        let first = self.gates.as_ref().and_then(|gates| gates.first());
        first.map_or(waiting, |gate| gate.before)
    }

    /// The gates, with space for one more. NO_MEMORY.
    fn make_gates(&mut self) -> Result<&mut Gates> {
        let mut gates = match self.gates.take() {
            Some(gates) => gates,
            None => try_box(Gates::default())?,
        };
        let reserved = gates.list.try_reserve(1);
        let gates = self.gates.insert(gates);
        reserved.map_err(|_| Errno::NO_MEMORY)?;
        Ok(gates)
    }

    /// Holds back what is appended from here on, behind `waiting` queued bytes. NO_MEMORY.
    pub fn cork(&mut self, waiting: u64) -> Result<()> {
        let position = self.last();
        let gates = self.make_gates()?;
        gates.list.push(Gate { position, before: waiting, boundaries: 0, hole: None });
        Ok(())
    }

    /// Ends the cork.
    pub fn uncork(&mut self) {
        if let Some(gates) = &mut self.gates
            && let Some(cork) = gates.cork()
        {
            gates.list.remove(cork);
        }
    }

    /// Removes all gates. Space that is not filled never is.
    pub fn remove_gates(&mut self) {
        if let Some(gates) = &mut self.gates {
            gates.list.clear();
        }
    }

    /// Makes the space for a hole of `len` bytes behind `waiting` queued ones: all of `block` up to there. The
    /// block is the last one then, and goes on behind the hole. Returns the id of the hole. NO_MEMORY: `block`
    /// is returned.
    pub fn push_hole(
        &mut self,
        block: Block,
        len: u32,
        waiting: u64,
        boundaries: u64,
    ) -> std::result::Result<u64, Block> {
        debug_assert!(len as usize <= block.capacity());
        let (position, address) = (self.last(), block.0);
        let Ok(gates) = self.make_gates() else { return Err(block) };
        gates.last_id += 1;
        let id = gates.last_id;
        let hole = Some(Hole { id, block: address, len });
        gates.list.push(Gate { position, before: waiting, boundaries, hole });
        self.push(block);
        self.cursor.advance(len as usize);
        self.tail_mut().expect("it was pushed").header_mut().start = len;
        Ok(id)
    }

    /// Fills the hole `id` with `bytes`, and removes its gate. They end where what was appended since begins,
    /// so that both are one piece. Returns how many boundaries there had been when it was made. None: there is
    /// no such hole. INVALID: more than it was made for.
    pub fn fill(&mut self, id: u64, bytes: &[u8]) -> Result<Option<u64>> {
        let Some(gates) = &mut self.gates else { return Ok(None) };
        let Some(at) = gates.hole(id) else { return Ok(None) };
        let Gate { boundaries, hole, .. } = gates.list[at];
        let Some(Hole { block, len, .. }) = hole else { return Ok(None) };
        if bytes.len() > len as usize {
            return Err(Errno::INVALID);
        }
        gates.list.remove(at);
        for later in &mut gates.list[at..] {
            later.before += bytes.len() as u64;
        }
        // SAFETY: the gate was removed when its block was, so that the block is of this chain, which is
        // borrowed. Nothing refers to the first `len` bytes: its copied bytes begin behind them.
        unsafe {
            let mut block = Some(block);
            let block = block_at_mut(&mut block).expect("it is some");
            let start = len - bytes.len() as u32;
            ptr::copy_nonoverlapping(bytes.as_ptr(), block.at(start), bytes.len());
            block.header_mut().start = start;
        }
        Ok(Some(boundaries))
    }
}
