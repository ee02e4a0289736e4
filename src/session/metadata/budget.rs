//! The memory that info dictionaries take while they come from peers, of all torrents together. The size of one is what a
//! peer says, so that nothing is taken on its word but a share of this budget: a torrent reserves the size that it tries,
//! and waits where there is no room. A torrent that gets too little for the time that it holds its share makes way for
//! one that waits, so that no liar holds it for ever.

use super::super::Session;
use super::super::torrent::Torrent;
use super::fetch::Fetch;
use crate::api::TorrentId;
use crate::base::time::Time;
use crate::limits::{METADATA_ALL_MAX, METADATA_MAX, METADATA_SMALL, METADATA_SMALL_ALL, TORRENT_TICK};
use std::collections::{BTreeSet, VecDeque};

/// The budget, and who has a share of it.
pub(in super::super) struct Budget {
    /// The largest dictionary that is taken.
    max: u32,
    /// Torrents that have a share, and some that had one.
    holders: BTreeSet<TorrentId>,
    /// When a torrent found no room last.
    wanted: Option<Time>,
    /// Torrents whose dictionary is whole and waits to be hashed. Reading one takes several times its size, so that it
    /// is done for one at a time.
    pub(super) whole: VecDeque<TorrentId>,
    /// One is with a worker.
    pub(super) is_hashing: bool,
}

/// What is free for one torrent.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Room {
    /// For a dictionary of any size.
    free: u64,
    /// For a small one.
    small: u64,
}

impl Room {
    /// Whether a dictionary of this size has room.
    pub(super) fn holds(&self, size: u32) -> bool {
        u64::from(size) <= if size <= METADATA_SMALL { self.small } else { self.free }
    }

    #[cfg(test)]
    pub(super) const fn of(free: u64) -> Room {
        Room { free, small: free }
    }
}

impl Budget {
    /// A budget for dictionaries of this size at most.
    pub(in super::super) fn new(max: u32) -> Budget {
        Budget {
            max: max.clamp(1, METADATA_MAX),
            holders: BTreeSet::new(),
            wanted: None,
            whole: VecDeque::new(),
            is_hashing: false,
        }
    }

    /// The largest dictionary that is taken.
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// Bytes of all dictionaries together, the small ones beside.
    fn all(&self) -> u64 {
        METADATA_ALL_MAX.max(self.max.into())
    }

    /// Whether a torrent waits for room. They look once a second.
    pub(super) fn is_wanted(&self, now: Time) -> bool {
        self.wanted.is_some_and(|at| now < at + 3 * TORRENT_TICK)
    }
}

impl Session {
    /// What this torrent may reserve. The pieces of torrents that do not fetch any more are dropped.
    pub(super) fn metadata_room(&mut self, id: TorrentId) -> Room {
        let mut used = 0;
        let torrents = &mut self.torrents;
        self.budget.holders.retain(|holder| {
            let Some(t) = torrents.get_mut(*holder) else { return false };
            let fetching = t.fetching();
            let Some(fetch) = t.fetch.as_mut() else { return false };
            if !fetching {
                fetch.drop_plan();
            }
            used += if *holder == id { 0 } else { fetch.reserved() };
            fetch.reserved() > 0
        });
        let all = self.budget.all();
        Room { free: all.saturating_sub(used), small: (all + METADATA_SMALL_ALL).saturating_sub(used) }
    }

    /// Has the torrent make way if it should, before it goes on.
    pub(super) fn share_metadata_room(&mut self, id: TorrentId, now: Time) {
        let wanted = self.budget.is_wanted(now);
        if let Some(fetch) = self.fetch_of(id).filter(|_| wanted) {
            fetch.give_way(now);
        }
    }

    /// Takes down what the torrent has reserved, or that it waits.
    pub(super) fn note_metadata_room(&mut self, id: TorrentId, now: Time) {
        let Some(fetch) = self.fetch_of(id) else { return };
        let (holds, waits) = (fetch.reserved() > 0, fetch.waits());
        if holds {
            self.budget.holders.insert(id);
        }
        if waits {
            self.budget.wanted = Some(now);
        }
    }

    fn fetch_of(&mut self, id: TorrentId) -> Option<&mut Fetch> {
        self.torrents.get_mut(id).filter(|t: &&mut Torrent| t.fetching())?.fetch.as_deref_mut()
    }

    /// Bytes that are reserved, of all torrents.
    #[cfg(test)]
    pub(in super::super) fn metadata_reserved(&self) -> u64 {
        let fetches = self.torrents.ids().filter_map(|id| self.torrents.get(id)?.fetch.as_ref());
        fetches.map(|fetch| fetch.reserved()).sum()
    }
}
