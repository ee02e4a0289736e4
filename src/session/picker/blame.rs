//! Who sent the blocks of pieces that came out wrong, until the right bytes tell who is guilty.

use super::partial::{DISK, Sender};
use crate::limits::SUSPECT_PIECES_MAX;
use std::collections::BTreeMap;

/// The last failed try of a piece.
struct Try {
    senders: Vec<Sender>,
    /// By block: an index into `senders`.
    origins: Vec<u16>,
    /// When it failed, by count: the oldest is forgotten first.
    age: u64,
}

/// Pieces that failed and are not good yet.
#[derive(Default)]
pub(super) struct Blame {
    tries: BTreeMap<u32, Try>,
    failures: u64,
}

impl Blame {
    /// A piece is wrong. Gives its sender when it has only one: that one is guilty. The disk compares a new copy
    /// with the last one only, so earlier tries are no evidence and are forgotten.
    pub(super) fn failed(&mut self, piece: u32, senders: Vec<Sender>, origins: Vec<u16>) -> Option<Sender> {
        self.failures += 1;
        let guilty = if let [only] = senders[..] { Some(only).filter(|only| *only != DISK) } else { None };
        self.tries.insert(piece, Try { senders, origins, age: self.failures });
        if self.tries.len() > SUSPECT_PIECES_MAX
            && let Some(oldest) = self.tries.iter().min_by_key(|(_, one)| one.age).map(|(piece, _)| *piece)
        {
            self.tries.remove(&oldest);
        }
        guilty
    }

    /// A piece is right, and these of its blocks were other bytes in the failed try. Gives who sent those.
    pub(super) fn verified(&mut self, piece: u32, differed: &[u32]) -> Vec<Sender> {
        let Some(one) = self.tries.remove(&piece) else { return Vec::new() };
        let origin = |block: &u32| one.senders.get(usize::from(*one.origins.get(*block as usize)?)).copied();
        let mut guilty: Vec<Sender> = differed.iter().filter_map(origin).collect();
        guilty.retain(|sender| *sender != DISK);
        guilty.sort_unstable();
        guilty.dedup();
        guilty
    }

    pub(super) fn forget(&mut self, piece: u32) {
        self.tries.remove(&piece);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tries.is_empty()
    }

    /// Whether the last try of this piece failed.
    pub(super) fn has(&self, piece: u32) -> bool {
        self.tries.contains_key(&piece)
    }

    /// Whether this sender had a part in the last failed try of this piece.
    pub(super) fn suspects(&self, piece: u32, from: Sender) -> bool {
        self.tries.get(&piece).is_some_and(|one| one.senders.contains(&from))
    }
}
