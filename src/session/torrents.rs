//! All torrents, and those with news: whoever lays hands on a torrent may make some, so that one is looked at again,
//! and no other is, however many there are.

use super::known::share;
use super::torrent::Torrent;
use crate::api::TorrentId;
use crate::base::arena::Arena;
use crate::base::time::Time;
use crate::limits::TORRENTS_MAX;
use std::collections::BTreeSet;

/// The torrents of the session.
pub(super) struct Torrents {
    all: Arena<TorrentId, Torrent>,
    /// How many addresses each keeps.
    share: usize,
    /// Those that somebody had to change since [`Torrents::settle`].
    touched: Vec<TorrentId>,
    /// Those with something to report, by the moment when it is due.
    loud: BTreeSet<(Time, TorrentId)>,
}

impl Torrents {
    pub(super) fn new() -> Torrents {
        Torrents {
            all: Arena::new(TORRENTS_MAX),
            share: share(1),
            touched: Vec::new(),
            loud: BTreeSet::new(),
        }
    }

    pub(super) fn insert(&mut self, torrent: Torrent) -> Option<TorrentId> {
        let id = self.all.insert(torrent)?;
        self.divide();
        let t = self.all.get_mut(id)?;
        t.known.set_max(self.share);
        touch(t, id, &mut self.touched);
        Some(id)
    }

    /// With many torrents each keeps fewer addresses.
    fn divide(&mut self) {
        let share = share(self.all.len());
        if share != std::mem::replace(&mut self.share, share) {
            self.all.iter_mut().for_each(|(_, t)| t.known.set_max(share));
        }
    }

    pub(super) fn remove(&mut self, id: TorrentId) {
        if let Some(torrent) = self.all.remove(id) {
            self.loud.remove(&(torrent.listed, id));
            self.divide();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: TorrentId) -> Option<&Torrent> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: TorrentId) -> Option<&mut Torrent> {
        let t = self.all.get_mut(id)?;
        touch(t, id, &mut self.touched);
        Some(t)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = TorrentId> + '_ {
        self.all.ids()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TorrentId, &Torrent)> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (TorrentId, &mut Torrent)> {
        let touched = &mut self.touched;
        self.all.iter_mut().map(|(id, t)| {
            touch(t, id, touched);
            (id, t)
        })
    }

    /// Finds out when the news of those that were changed is due.
    pub(super) fn settle(&mut self) {
        for id in self.touched.drain(..) {
            let Some(t) = self.all.get_mut(id) else { continue };
            t.touched = false;
            let due = t.news.due();
            if due == t.listed {
                continue;
            }
            self.loud.remove(&(t.listed, id));
            if due != Time::NEVER {
                self.loud.insert((due, id));
            }
            t.listed = due;
        }
    }

    /// The torrent whose news is due first, and when, as of the last [`Torrents::settle`].
    pub(super) fn loudest(&self) -> Option<(Time, TorrentId)> {
        self.loud.first().copied()
    }

    /// How many have something to report.
    #[cfg(test)]
    pub(super) fn loud(&self) -> usize {
        self.loud.len()
    }
}

fn touch(t: &mut Torrent, id: TorrentId, touched: &mut Vec<TorrentId>) {
    if !t.touched {
        t.touched = true;
        touched.push(id);
    }
}
