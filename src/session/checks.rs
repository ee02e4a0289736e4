//! What is on disk is hashed torrent after torrent, in the order in which they were given, each by all workers: side by
//! side they would have a hard disk seek between them, and none would be done soon. One that has nothing to be hashed
//! waits for nobody.

use super::Session;
use super::torrent::{Checking, Phase};
use crate::api::{Action, DiskError, Job, Opened, Reason, TorrentId};
use crate::base::bits::Bitfield;
use crate::base::time::Time;
use crate::limits::{CHECK_BYTES, CHECKS_OUT, LANES_MAX, OPENS_OUT};
use std::collections::{BTreeSet, VecDeque};

/// Torrents on their way to run, and what of them is with the workers.
#[derive(Default)]
pub(super) struct Line {
    /// By worker: how many it is opening.
    pub(super) opening: [usize; LANES_MAX],
    /// Those with pieces that no worker has been told to hash, by the number of the torrent.
    pub(super) check: BTreeSet<(u32, TorrentId)>,
    /// Pieces that are to be hashed again, before all others.
    pub(super) again: VecDeque<(TorrentId, u32)>,
    /// By worker: check jobs that it has.
    checking: [usize; LANES_MAX],
}

impl Line {
    /// The worker that has time to open a torrent: each opens few at a time, so that reads and writes come in between.
    pub(super) fn opener(&self, lanes: u8) -> Option<u8> {
        (0..lanes)
            .min_by_key(|lane| self.opening[usize::from(*lane)])
            .filter(|lane| self.opening[usize::from(*lane)] < OPENS_OUT)
    }
}

impl Session {
    /// The torrent is open: what must be hashed waits for its turn.
    pub(super) fn queue_check(&mut self, id: TorrentId, opened: Opened, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let layout = &t.spec.meta.layout;
        let total = opened.candidates.iter().map(|piece| u64::from(layout.piece_len(piece))).sum();
        let (candidates, found, partial) = (opened.candidates, opened.found, opened.partial);
        let left = candidates.count();
        t.phase =
            Phase::Checking(Checking { candidates, cursor: 0, out: 0, left, done: 0, total, found, partial });
        t.news.moved = true;
        if left == 0 {
            return self.on_check_done(id, now);
        }
        self.line.check.insert((t.number, id));
        self.pump_checks();
    }

    /// Keeps every worker busy with the first torrent of the line; the next one has what is left of them.
    pub(super) fn pump_checks(&mut self) {
        let lanes = usize::from(self.lanes.count());
        // Who has the fewest is next, so that the workers are at neighbouring pieces.
        while let Some(lane) = (0..lanes).min_by_key(|lane| self.line.checking[*lane])
            && self.line.checking[lane] < CHECKS_OUT
        {
            if let Some((torrent, first)) = self.line.again.pop_front() {
                self.line.checking[lane] += 1;
                let job = Job::Check { torrent, first, count: 1 };
                self.actions.push_back(Action::Job { lane: lane as u8, job });
                continue;
            }
            let Some(&(number, id)) = self.line.check.first() else { return };
            let run = self.torrents.get_mut(id).and_then(|t| match &mut t.phase {
                Phase::Checking(check) => {
                    let run = check.next_run(&t.spec.meta.layout, CHECK_BYTES)?;
                    check.out += 1;
                    Some(run)
                }
                _ => None,
            });
            let Some((first, count)) = run else {
                self.line.check.remove(&(number, id));
                continue;
            };
            self.line.checking[lane] += 1;
            let job = Job::Check { torrent: id, first, count };
            self.actions.push_back(Action::Job { lane: lane as u8, job });
        }
    }

    pub(super) fn on_checked(
        &mut self,
        lane: u8,
        id: TorrentId,
        (first, count): (u32, u32),
        result: Result<Bitfield, DiskError>,
        now: Time,
    ) {
        let checking = &mut self.line.checking[usize::from(lane)];
        *checking = checking.saturating_sub(1);
        self.take_checked(id, (first, count), result, now);
        self.pump_checks();
    }

    fn take_checked(
        &mut self,
        id: TorrentId,
        (first, count): (u32, u32),
        result: Result<Bitfield, DiskError>,
        now: Time,
    ) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let check = match &mut t.phase {
            Phase::Checking(check) => check,
            Phase::Closing { .. } => return self.checks_left(id),
            Phase::Running => return self.on_rechecked(id, result, now),
            Phase::Fetching | Phase::Opening | Phase::Closed => return,
        };
        check.out = check.out.saturating_sub(1);
        check.left = check.left.saturating_sub(count);
        let layout = &t.spec.meta.layout;
        check.done += (first..first + count).map(|piece| u64::from(layout.piece_len(piece))).sum::<u64>();
        t.news.moved = true;
        let all = check.left == 0;
        match result {
            Ok(good) => {
                good.iter().for_each(|piece| t.picker.set_have(first + piece));
                if all {
                    self.on_check_done(id, now);
                }
            }
            Err(error) => self.on_disk_error(id, &error, now),
        }
    }

    fn on_check_done(&mut self, id: TorrentId, now: Time) {
        let Some(t) = self.torrents.get_mut(id) else { return };
        let Phase::Checking(check) = &t.phase else { return };
        let (meta, have) = (&t.spec.meta, t.picker.have());
        let foreign =
            check.found.iter().find(|file| !meta.layout.file_pieces(**file).any(|piece| have.get(piece)));
        if let Some(file) = foreign.filter(|_| !t.spec.overwrite && !t.spec.seed_only) {
            let path: std::path::PathBuf = t.spec.dir.iter().collect();
            let path = meta.paths.names(*file).fold(path, |path, name| path.join(name));
            let message = format!(
                "{} is there and no whole piece of this torrent is in it: move it away, or say --overwrite",
                crate::proto::metainfo::printable(&path.to_string_lossy())
            );
            return self.fail(id, Reason::Io, message, now);
        }
        self.start(id, now);
    }
}
