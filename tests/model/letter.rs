//! Messages as the model has them: which parts are kept, and who is released at once.

use super::ops::COPY_BELOW;
use super::queue::{Byte, Kind, Message, Model, Part};
use libc::c_int;

/// A part of a message as it was given.
pub struct Given {
    pub kind: Kind,
    pub bytes: Vec<Byte>,
    pub owner: Option<usize>,
}

/// A message, or the rest of one, as it is to be appended.
#[derive(Default)]
pub struct Planned {
    parts: Vec<Part>,
    /// These are released at once, the last of them perhaps being the owner of the message.
    pub at_once: Vec<usize>,
    pub copied: usize,
    pub borrowed: usize,
    pub slots: usize,
    pub file: usize,
    bytes: usize,
}

impl Planned {
    /// What is behind the first `sent` bytes. `defers`: nobody is released at once.
    pub fn new(
        given: &[Given],
        owner: Option<usize>,
        sent: usize,
        defers: bool,
        share_below: usize,
    ) -> Planned {
        let (message, mut skip) = (Message::new(sent), sent);
        let (mut planned, mut last) = (Planned::default(), defers.then_some(0));
        for part in given {
            let skipped = skip.min(part.bytes.len());
            skip -= skipped;
            let bytes = part.bytes[skipped..].iter().copied();
            let len = bytes.len();
            planned.bytes += len;
            let kept_from = match part.kind {
                Kind::Copied => usize::MAX,
                Kind::Borrowed if !defers => COPY_BELOW,
                Kind::Shared => share_below.max(1),
                _ => 1,
            };
            if len >= kept_from || defers && part.owner.is_some() {
                planned.borrowed += if part.kind == Kind::Borrowed { len } else { 0 };
                planned.file += if part.kind == Kind::File { len } else { 0 };
                planned.slots += 1;
                planned.parts.push(Part::new(part.kind, bytes, part.owner).of(&message));
                last = Some(planned.parts.len());
            } else {
                planned.at_once.extend(part.owner);
                planned.copied += len;
                if len > 0 {
                    planned.parts.push(Part::new(Kind::Copied, bytes, None).of(&message));
                }
            }
        }
        match (owner, last) {
            (Some(id), Some(last)) => {
                planned.slots += 1;
                let owner = Part::owner(id, &message);
                let leads = last == 0 && planned.bytes > 0;
                planned.parts.insert(last, if leads { owner.of(&message) } else { owner });
            }
            (id, _) => planned.at_once.extend(id),
        }
        planned
    }

    pub fn memory(&self) -> usize {
        self.bytes - self.file
    }
}

impl Model {
    /// Appends it, if it is admitted and `is_refused` does not say that the pool has refused it.
    pub fn append_message(&mut self, planned: Planned, is_refused: impl FnOnce() -> bool) -> c_int {
        let is_nothing = planned.bytes == 0 && planned.slots == 0;
        let admitted = match self.admit(planned.memory()) {
            _ if is_nothing => self.refusal(),
            0 if planned.memory() == 0 || planned.file > 0 => self.admit_slot(planned.bytes),
            errno => errno,
        };
        if admitted != 0 {
            return admitted;
        }
        if !is_nothing && is_refused() {
            return -libc::ENOBUFS;
        }
        let hints = if is_nothing { 0 } else { self.rise_all(planned.parts) };
        self.end_message();
        hints
    }
}
