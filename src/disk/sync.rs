//! The thread `ptorrent-sync`: makes data durable and writes checkpoints, so that no worker waits for the medium. A
//! torrent gets a checkpoint some time after data was stored, and its last one when it is closed.

use super::Shared;
use super::storage::{Loss, Storage, locked};
use crate::api::Done;
use crate::base::buf::BLOCK;
use crate::base::wake::Wake;
use crate::limits::{SYNC_AFTER, SYNC_AT_STOP, SYNC_PATIENCE};
use crate::proto::resume::Rest;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the workers ask of it.
pub enum SyncJob {
    /// Pieces became right: a checkpoint is due in a while.
    Soon(Stored),
    /// The last worker has closed the torrent.
    Close(Stored, u8),
}

/// An open torrent, as the workers hand it over.
pub struct Stored(pub(super) Arc<Storage>);

/// The thread's state.
pub struct Syncer {
    shared: Arc<Shared>,
    jobs: Receiver<SyncJob>,
    done: Sender<(u8, Done)>,
    wake: Arc<Wake>,
    /// Torrents and when their checkpoints are due, in order.
    due: VecDeque<(Instant, Arc<Storage>)>,
    /// How long closes may still wait for the medium, all of them together.
    patience: Duration,
}

impl Syncer {
    /// `jobs` comes from the workers; two of a torrent may wait. Answers go to `done`, and `wake` is rung after.
    pub fn new(
        shared: Arc<Shared>,
        jobs: Receiver<SyncJob>,
        done: Sender<(u8, Done)>,
        wake: Arc<Wake>,
    ) -> Syncer {
        Syncer { shared, jobs, done, wake, due: VecDeque::new(), patience: SYNC_PATIENCE }
    }

    /// Works until all workers have ended. What is due then is not done: who ends in order closes first.
    pub fn run(mut self) {
        loop {
            let wait = self.due.front().map(|(at, _)| at.saturating_duration_since(now()));
            let job = match wait {
                Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                Some(wait) => self.jobs.recv_timeout(wait),
                None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(SyncJob::Soon(Stored(storage))) => self.due.push_back((now() + SYNC_AFTER, storage)),
                Ok(SyncJob::Close(Stored(storage), lane)) => self.close(storage, lane),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((_, storage)) = self.due.pop_front() {
                        storage.sync_asked.store(false, Ordering::Release);
                        // One that is closed gets its last checkpoint, which is enough, and the user waits.
                        let go_on = || storage.closed.load(Ordering::Acquire) == 0;
                        self.checkpoint(&storage, Rest::Running, &go_on);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Makes durable what is right, and says so in a checkpoint. It is given up when `go_on` says so.
    fn checkpoint(&self, storage: &Storage, rest: Rest, go_on: &dyn Fn() -> bool) {
        let Some(journal) = &storage.journal else { return };
        let have = locked(journal).record.have.clone();
        let (synced, loss) = storage.sync_files(&have, go_on);
        if let Some(Loss { error, pieces }) = loss {
            log::debug!("{} {error}", storage.torrent);
            let lost = pieces.into_iter().collect();
            self.answer(0, Done::Unsynced { torrent: storage.torrent, error, lost });
            return;
        }
        let Some(synced) = synced else { return };
        storage.renew();
        let mut journal = locked(journal);
        for piece in have.iter().filter(|piece| journal.record.have.get(*piece)).collect::<Vec<_>>() {
            journal.record.synced.set(piece);
        }
        journal.record.rest = rest;
        journal.fold();
        let file = journal.handle();
        drop(journal);
        if synced && let Some(file) = file {
            file.sync();
        }
    }

    fn close(&mut self, storage: Arc<Storage>, lane: u8) {
        self.due.retain(|(_, other)| other.torrent != storage.torrent);
        if let Some(journal) = &storage.journal {
            storage.renew();
            let mut journal = locked(journal);
            journal.stop();
            // Should we be killed while the medium is slow, nothing is lost.
            journal.fold();
        }
        if few_unsynced(&storage) {
            let begun = now();
            self.checkpoint(&storage, Rest::Synced, &|| begun.elapsed() < self.patience);
            self.patience = self.patience.saturating_sub(begun.elapsed());
        }
        storage.release(&mut locked(&self.shared.claims));
        let torrent = storage.torrent;
        // The record is locked as long as it is there, and who hears of the end may open it again.
        drop(storage);
        self.answer(lane, Done::Closed { torrent });
    }

    fn answer(&self, lane: u8, done: Done) {
        match self.done.try_send((lane, done)) {
            // Nobody is left to hear it: the engine is on its way out.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(answer)) => {
                debug_assert!(false, "no room for an answer: {answer:?}");
                let _ = self.done.send(answer);
            }
        }
        self.wake.ring();
    }
}

/// Whether making the rest durable takes no time that one would notice. Waiting for gigabytes on a memory card would make
/// the user kill us; what is not durable is hashed again, should the system go down before its own write-back.
fn few_unsynced(storage: &Storage) -> bool {
    let Some(journal) = &storage.journal else { return false };
    let journal = locked(journal);
    let record = &journal.record;
    let pieces = record.have.iter().filter(|piece| !record.synced.get(*piece)).count() as u64;
    let blocks: u64 = record.partial.values().map(|blocks| u64::from(blocks.count())).sum();
    pieces * u64::from(storage.spec.meta.layout.piece_length()) + blocks * u64::from(BLOCK) <= SYNC_AT_STOP
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which sleeps until a checkpoint is due")]
fn now() -> Instant {
    Instant::now()
}
