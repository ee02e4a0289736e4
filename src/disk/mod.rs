//! The disk workers: everything that may wait for a disk, and all hashing of pieces.
//!
//! A [`Worker`] takes [`Job`]s from two queues, answers each with a [`Done`] and rings the net thread's bell. Urgent
//! jobs (open, write, read, close) come first, in order; a check is done a read at a time in between. What the workers
//! share is in [`Shared`]: which torrents are open, and whose each file is.

mod ahead;
mod check;
mod claims;
mod digest;
mod due;
mod error;
mod files;
mod folders;
mod info;
mod journal;
mod open;
mod partfile;
mod piece;
mod piece_hashes;
mod plain;
mod read;
mod resume;
mod room;
mod sigbus;
mod storage;
mod sync;
mod window;
mod write;

#[cfg(test)]
mod tests;

pub use due::{keep, kept, sweep};
pub use sync::{SyncJob, Syncer};

use crate::api::{Done, Job, PeerId, Saved, Spec, TorrentId};
use crate::base::buf::Buf;
use crate::base::wake::Wake;
use crate::limits::{DISK_BATCH, HOLD_REST, LANES_MAX, READ_CHUNK};
use crate::proto::layout::Block;
use check::{Check, Zeros};
use claims::{Claims, Id};
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError};
use files::Files;
use piece::{Held, Piece};
use piece_hashes::PieceHashes;
use read::read;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use storage::{Storage, locked};
use sync::Stored;
use window::Windows;
use write::{Key, closed};

#[expect(clippy::disallowed_methods, reason = "how long blocks are held; nothing of the core depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// What all workers know.
pub struct Shared {
    lanes: u8,
    torrents: Mutex<BTreeMap<TorrentId, Arc<Storage>>>,
    claims: Arc<Mutex<Claims>>,
    hashes: Arc<PieceHashes>,
}

impl Shared {
    /// For this many workers; each torrent is closed once all of them have closed it.
    ///
    /// # Panics
    /// When there are none, or more than `limits::LANES_MAX`.
    pub fn new(lanes: u8) -> Arc<Shared> {
        assert!(lanes > 0 && usize::from(lanes) <= LANES_MAX, "1 to {LANES_MAX} workers");
        Arc::new(Shared { lanes, torrents: Mutex::default(), claims: Arc::default(), hashes: Arc::default() })
    }

    fn add(&self, storage: Storage) {
        locked(&self.torrents).insert(storage.torrent, Arc::new(storage));
    }

    /// The torrent, if it is open for this lane.
    fn find(&self, torrent: TorrentId, lane: u8) -> Option<Arc<Storage>> {
        let storage = locked(&self.torrents).get(&torrent)?.clone();
        (storage.closed.load(Ordering::Acquire) & 1 << lane == 0).then_some(storage)
    }

    /// Another open torrent with this folder and a file of this one, if either stores there: its name, and the file.
    fn rival(&self, folder: Id, spec: &Spec) -> Option<(String, usize)> {
        let torrents: Vec<Arc<Storage>> = locked(&self.torrents).values().cloned().collect();
        let same = |storage: &&Arc<Storage>| storage.folder == Some(folder);
        torrents.iter().filter(same).find_map(|other| {
            if other.spec.seed_only && spec.seed_only {
                return None;
            }
            fn path(spec: &Spec, file: usize) -> (&str, &str) {
                (spec.meta.paths.folder(file), spec.meta.paths.name(file))
            }
            let theirs: BTreeSet<_> =
                storage::stored(&other.spec).map(|file| path(&other.spec, file)).collect();
            let file = storage::stored(spec).find(|file| theirs.contains(&path(spec, *file)))?;
            Some((other.spec.meta.name.clone(), file))
        })
    }

    /// Bytes of a file system that are promised to open torrents and neither taken nor reserved yet.
    fn promised(&self, device: u64) -> u64 {
        let torrents: Vec<Arc<Storage>> = locked(&self.torrents).values().cloned().collect();
        torrents.iter().filter(|storage| storage.promised == Some(device)).map(|s| s.still_due()).sum()
    }

    /// One lane closes it. The last one gets it: its files have to be given free.
    fn close(&self, torrent: TorrentId, lane: u8) -> Option<Arc<Storage>> {
        let mut torrents = locked(&self.torrents);
        let storage = torrents.get(&torrent)?;
        let closed = storage.closed.fetch_or(1 << lane, Ordering::AcqRel) | 1 << lane;
        if closed.count_ones() < u32::from(self.lanes) {
            return None;
        }
        torrents.remove(&torrent)
    }
}

/// One disk worker: the pieces in hand, its own descriptors and windows.
pub struct Worker {
    lane: u8,
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    checks: Receiver<Job>,
    done: Sender<(u8, Done)>,
    syncs: Sender<SyncJob>,
    wake: Arc<Wake>,
    /// Something was answered since the bell was rung last.
    news: Cell<bool>,
    open: BTreeMap<TorrentId, Arc<Storage>>,
    pieces: BTreeMap<Key, Piece>,
    /// Bytes of blocks that are held and not stored.
    held_bytes: u64,
    /// The pieces that they are of.
    holding: Vec<Key>,
    /// Of these, pieces of which a store is worth it, the eldest first.
    ripe: Vec<Key>,
    /// When the last block came.
    last_block: Instant,
    hands: Hands,
    check: Option<Check>,
}

/// What a worker works with.
struct Hands {
    files: Files,
    windows: Windows,
    /// For what is read back and hashed.
    chunk: Box<[u8]>,
    zeros: Zeros,
}

impl Worker {
    /// Worker number `lane` (from 0). `jobs` brings open, write, read, save and close, `checks` checks alone; each
    /// answer goes to `done` with the number of the lane, and `wake` is rung after. `syncs` leads to the [`Syncer`].
    /// `done` must have room for all answers that can be outstanding.
    pub fn new(
        lane: u8,
        shared: Arc<Shared>,
        jobs: Receiver<Job>,
        checks: Receiver<Job>,
        done: Sender<(u8, Done)>,
        syncs: Sender<SyncJob>,
        wake: Arc<Wake>,
    ) -> Worker {
        let chunk = vec![0; READ_CHUNK].into();
        let (files, windows, zeros) = (Files::new(), Windows::new(), Zeros::default());
        let hands = Hands { files, windows, chunk, zeros };
        let (open, pieces) = (BTreeMap::new(), BTreeMap::new());
        let (held_bytes, holding, ripe, check) = (0, Vec::new(), Vec::new(), None);
        Worker {
            lane,
            shared,
            jobs,
            checks,
            done,
            syncs,
            wake,
            news: Cell::new(false),
            open,
            pieces,
            held_bytes,
            holding,
            ripe,
            last_block: now(),
            hands,
            check,
        }
    }

    /// Works until the sender of `jobs` is gone and all urgent jobs are done. A check under way then is dropped.
    pub fn run(mut self) {
        loop {
            if self.check.is_none() && !self.await_work() {
                break;
            }
            let (batch, over) = self.batch();
            let idle = batch.is_empty();
            if !idle {
                self.serve(batch);
                self.settle_overdue();
                self.ring();
            } else if over {
                break;
            }
            if self.check.is_some() {
                // It gives way to jobs, and what is held must not wait for its end.
                if idle {
                    self.settle_all();
                }
                if self.step() || idle {
                    self.ring();
                }
            }
        }
        self.settle_all();
        self.ring();
    }

    /// Sleeps until there is something to do, a check included, which is taken up. What is held is stored once nothing
    /// came for a while. False: nothing will come any more.
    fn await_work(&mut self) -> bool {
        loop {
            let mut select = Select::new();
            select.recv(&self.jobs);
            select.recv(&self.checks);
            let ready = if self.holding.is_empty() {
                select.ready()
            } else if let Ok(ready) = select.ready_timeout(HOLD_REST) {
                ready
            } else {
                self.settle_all();
                self.ring();
                continue;
            };
            if ready == 0 || !self.jobs.is_empty() || self.next_check() {
                return true;
            }
            // No more checks will come: only jobs can.
            self.settle_all();
            self.ring();
            let Ok(job) = self.jobs.recv() else { return false };
            self.serve(vec![job]);
            self.ring();
        }
    }

    /// Urgent jobs that wait, a bounded number; and whether no more will come.
    fn batch(&self) -> (Vec<Job>, bool) {
        let mut batch = Vec::new();
        while batch.len() < DISK_BATCH {
            match self.jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return (batch, true),
            }
        }
        (batch, false)
    }

    /// Takes up the next check; false when no more will come.
    fn next_check(&mut self) -> bool {
        match self.checks.try_recv() {
            Ok(Job::Check { torrent, first, count }) => {
                match self.storage(torrent) {
                    Some(storage) => self.check = Some(Check::new(storage, first, count)),
                    None => {
                        self.answer(Done::Checked { torrent, first, count, result: Err(closed()) });
                        self.ring();
                    }
                }
                true
            }
            Ok(job) => {
                debug_assert!(false, "not a check: {job:?}");
                self.serve(vec![job]);
                self.ring();
                true
            }
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Disconnected) => false,
        }
    }

    /// Does a bit of the check in hand; tells whether that ended it.
    fn step(&mut self) -> bool {
        let Some(check) = &mut self.check else { return false };
        let result = match check.step(&mut self.hands) {
            Ok(false) => return false,
            Ok(true) => Ok(std::mem::take(&mut check.right)),
            Err(error) => Err(error),
        };
        let (torrent, first, count) = (check.torrent, check.first, check.count);
        self.check = None;
        if let Some(storage) = self.storage(torrent) {
            self.ask_sync(&storage);
        }
        self.answer(Done::Checked { torrent, first, count, result });
        true
    }

    /// Stores all that is held once no block came for a while, however many other jobs come: a peer that requests
    /// blocks without end must not keep the pieces of others from being verified.
    fn settle_overdue(&mut self) {
        if !self.holding.is_empty() && now().saturating_duration_since(self.last_block) >= HOLD_REST {
            self.settle_all();
        }
    }

    /// Does urgent jobs in their order; writes are held, and done together.
    fn serve(&mut self, batch: Vec<Job>) {
        if batch.iter().any(|job| matches!(job, Job::Write { .. })) {
            self.last_block = now();
        }
        for job in batch {
            if let Job::Write { torrent, block, buf } = job {
                self.hold(torrent, Held { block, buf });
                continue;
            }
            // What is answered need not wait for a job that may take long.
            self.settle_ripe();
            self.ring();
            match job {
                Job::Open { torrent, spec } => {
                    let result = Box::new(open::open(&self.shared, torrent, &spec));
                    if let Some(storage) = self.storage(torrent) {
                        self.ask_sync(&storage);
                    }
                    self.answer(Done::Opened { torrent, result });
                }
                Job::Read { torrent, peer, blocks } => self.read(torrent, peer, blocks),
                Job::Save { torrent, saved } => self.save(torrent, saved),
                Job::Room { torrent, bytes } => self.room(torrent, bytes),
                Job::Close { torrent } => self.close(torrent),
                Job::Digest { torrent, spec, info } => {
                    self.answer(Done::Digested { torrent, result: info::digest(&spec, info) });
                }
                Job::Info { torrent, spec, peer, piece } => {
                    let result = self.shared.hashes.piece(&spec, piece);
                    self.answer(Done::Info { torrent, peer, piece, result });
                }
                Job::Forget { spec, .. } => due::drop_copy(&spec),
                Job::Check { torrent, first, count } => {
                    debug_assert!(false, "a check among the urgent jobs");
                    self.answer(Done::Checked { torrent, first, count, result: Err(closed()) });
                }
                Job::Write { .. } => {}
            }
        }
        self.settle_ripe();
    }

    fn read(&mut self, torrent: TorrentId, peer: PeerId, mut blocks: Vec<(Block, Buf)>) {
        let failed = match self.storage(torrent) {
            None => Some((0, closed())),
            Some(storage) => read::blocks(&mut self.hands.files, &storage, &mut blocks),
        };
        self.answer(Done::Read { torrent, peer, blocks, failed });
    }

    fn close(&mut self, torrent: TorrentId) {
        self.settle_all();
        if let Some(check) = self.check.take_if(|check| check.torrent == torrent) {
            let (first, count) = (check.first, check.count);
            self.answer(Done::Checked { torrent, first, count, result: Err(closed()) });
        }
        if let Some(storage) = self.storage(torrent) {
            self.leave_pieces(&storage);
        }
        self.open.remove(&torrent);
        self.pieces.retain(|(other, _), _| *other != torrent);
        self.hands.windows.close(torrent);
        self.hands.files.close(torrent);
        match self.shared.close(torrent, self.lane) {
            Some(storage) if storage.journal.is_some() => {
                self.tell_sync(SyncJob::Close(Stored(storage), self.lane));
            }
            Some(storage) => {
                storage.release(&mut locked(&self.shared.claims));
                self.answer(Done::Closed { torrent });
            }
            None => self.answer(Done::Closed { torrent }),
        }
    }

    /// The record keeps which blocks of the pieces in hand are stored.
    fn leave_pieces(&self, storage: &Storage) {
        let Some(journal) = &storage.journal else { return };
        let from = (storage.torrent, 0);
        for (&(_, piece), state) in self.pieces.range(from..).take_while(|((t, _), _)| *t == storage.torrent)
        {
            // What is of a try that failed elsewhere is not on disk any more.
            if storage.failed(piece).tries == state.before.tries {
                storage.soil(piece);
                locked(journal).leave(piece, state.blocks().clone());
            }
        }
    }

    fn save(&mut self, torrent: TorrentId, saved: Saved) {
        if let Some(storage) = self.storage(torrent)
            && let Some(journal) = &storage.journal
        {
            locked(journal).save(saved);
        }
        self.answer(Done::Saved { torrent });
    }

    fn room(&mut self, torrent: TorrentId, bytes: u64) {
        let result = self.storage(torrent).ok_or_else(closed).and_then(|storage| room::look(&storage, bytes));
        self.answer(Done::Room { torrent, result });
    }

    /// Sees to it that what is stored is made durable some time.
    fn ask_sync(&self, storage: &Arc<Storage>) {
        if storage.wants_sync() {
            self.tell_sync(SyncJob::Soon(Stored(storage.clone())));
        }
    }

    fn tell_sync(&self, job: SyncJob) {
        if let Err(TrySendError::Full(job)) = self.syncs.try_send(job) {
            debug_assert!(false, "no room for a job of the sync thread");
            let _ = self.syncs.send(job);
        }
    }

    /// The files of a torrent, if it is open.
    fn storage(&mut self, torrent: TorrentId) -> Option<Arc<Storage>> {
        if let Some(storage) = self.open.get(&torrent) {
            return Some(storage.clone());
        }
        let storage = self.shared.find(torrent, self.lane)?;
        self.open.insert(torrent, storage.clone());
        Some(storage)
    }

    /// Wakes the net thread if there is something for it to hear: to wake it for nothing costs as much.
    fn ring(&self) {
        if self.news.replace(false) {
            self.wake.ring();
        }
    }

    fn answer(&self, done: Done) {
        self.news.set(true);
        match self.done.try_send((self.lane, done)) {
            // Nobody is left to hear it: the engine is on its way out.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(answer)) => {
                debug_assert!(false, "no room for an answer: {answer:?}");
                self.ring();
                let _ = self.done.send(answer);
                self.news.set(true);
            }
        }
    }
}
