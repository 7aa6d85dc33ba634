//! Up to eight bits of state.

/// A set of flags, each of which is one bit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);

    /// Whether any of `flags` is set.
    pub fn any(self, flags: u8) -> bool {
        self.0 & flags != 0
    }

    /// Those of `flags` that are set.
    pub fn of(self, flags: u8) -> u8 {
        self.0 & flags
    }

    /// Sets `flags`, or clears them.
    pub fn set(&mut self, flags: u8, on: bool) {
        self.0 = if on { self.0 | flags } else { self.0 & !flags };
    }
}
