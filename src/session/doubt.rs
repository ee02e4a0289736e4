//! Pieces that were right and cannot be read any more: what they are replaced by, and when that is too much.

use super::Session;
use super::lifecycle::wanted_pieces;
use crate::api::{DiskError, Reason, TorrentId};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::READ_FAILS_MAX;
use std::collections::{BTreeSet, VecDeque};

/// Pieces in doubt of a torrent.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Pieces that could not be read.
    fails: u32,
    /// Pieces that peers were told of and that were lost then.
    lost: BTreeSet<u32>,
    /// Pieces that are to be hashed again, as nothing is fetched.
    line: VecDeque<u32>,
    /// A worker has the first of them.
    out: bool,
}

impl Doubt {
    /// Whether peers may believe that we have this piece.
    pub(super) fn is_lost(&self, piece: u32) -> bool {
        self.lost.contains(&piece)
    }

    /// Whether it is found out whether this piece is there.
    pub(super) fn is_looked_at(&self, piece: u32) -> bool {
        self.line.contains(&piece)
    }

    /// The torrent is closed. Gives how many checks are out.
    pub(super) fn end(&mut self) -> usize {
        usize::from(std::mem::take(self).out)
    }
}

impl Session {
    /// A piece that is verified could not be read.
    pub(super) fn on_read_error(&mut self, id: TorrentId, piece: u32, error: &DiskError, now: Time) {
        let Some(t) = self.torrents.get_mut(id).filter(|t| t.running()) else { return };
        // Several blocks of it may have been asked for.
        if !t.picker.have().get(piece) {
            return;
        }
        log::warn!("{id} piece {piece}: {error}");
        t.doubt.fails += 1;
        if t.doubt.fails > READ_FAILS_MAX {
            return self.fail(id, Reason::Io, error.to_string(), now);
        }
        let seed_only = t.spec.seed_only;
        if t.doubt.fails == 1 {
            let then =
                if seed_only { "is not served before it was hashed again" } else { "is fetched again" };
            t.news.error(Reason::Io, format!("{error}; piece {piece} {then}"));
        }
        let downloading = t.lacks();
        self.lose(id, piece, now);
        if seed_only {
            if let Some(t) = self.torrents.get_mut(id) {
                t.doubt.line.push_back(piece);
            }
            self.pump_rechecks(id);
        } else if !downloading && self.torrents.get(id).is_some_and(|t| t.downloading()) {
            self.go_on_downloading(id, now);
        } else {
            self.refill_all(id, now);
        }
    }

    /// A verified piece is so no more, and what the disk has of one that was begun is gone.
    pub(super) fn lose(&mut self, id: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        if !t.picker.have().get(piece) {
            return t.picker.on_disk_error(piece);
        }
        let (wanted, mut count) = (wanted_pieces(&t.spec).get(piece), 0);
        for peer in &t.peers {
            let Some(p) = self.peers.get_mut(*peer).filter(|p| p.has.get(piece)) else { continue };
            if wanted {
                p.lure.get_or_insert(piece);
            }
            count += usize::from(!p.counted_as_seed);
        }
        t.picker.lose(piece, wanted, count);
        t.doubt.lost.insert(piece);
        if !t.spec.seed_only {
            t.goal.off();
        }
        t.news.moved = true;
        self.reject_piece(id, piece, now);
        self.tell_lost(id, piece, now);
    }

    fn pump_rechecks(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(id).filter(|t| t.running() && !t.doubt.out) else { return };
        let Some(piece) = t.doubt.line.front().copied() else { return };
        t.doubt.out = true;
        self.line.again.push_back((id, piece));
        self.pump_checks();
    }

    /// A piece in doubt was hashed again.
    pub(super) fn on_rechecked(&mut self, id: TorrentId, result: Result<Bitfield, DiskError>, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        t.doubt.out = false;
        let Some(piece) = t.doubt.line.pop_front() else { return };
        if result.is_ok_and(|right| right.get(0)) {
            log::info!("{id} piece {piece} can be read again");
            t.picker.set_have(piece);
            for peer in &t.peers {
                if let Some(p) = self.peers.get_mut(*peer).filter(|p| p.lure == Some(piece)) {
                    p.lure = t.picker.lure(p.pieces(), piece);
                }
            }
            self.tell_found(id, piece, now);
        } else {
            self.withdraw(id, piece, now);
        }
        self.pump_rechecks(id);
    }

    /// A piece is not there any more and will not be.
    fn withdraw(&mut self, id: TorrentId, piece: u32, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        log::warn!("{id} piece {piece} is not served any more");
        let (state, reason) = t.state();
        t.news.state(state, reason);
        if t.picker.have().count() == 0 {
            let message = format!("nothing of this torrent is left in {}", t.spec.dir.display());
            self.fail(id, Reason::Io, message, now);
        }
    }
}
