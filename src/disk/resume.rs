//! What of a resume record is believed when a torrent is opened: which files are still ours, and which pieces then need
//! not be hashed.

use super::journal::{Found, Ground, Journal, selection};
use super::storage::{Place, Storage, locked};
use crate::api::{Opened, Saved, Spec};
use crate::base::bits::Bitfield;
use crate::limits::RESUME_SLACK;
use crate::proto::resume::{Record, Rest};
use rustix::fs::Stat;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// The time of a file's last change, in nanoseconds since 1970.
#[expect(clippy::useless_conversion, reason = "the types of these fields differ among systems")]
pub(super) fn mtime(stat: &Stat) -> i64 {
    let (secs, nanos) = (i64::from(stat.st_mtime), i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Nanoseconds as the record has them.
pub(super) fn slack() -> i64 {
    i64::try_from(RESUME_SLACK.as_nanos()).unwrap_or(i64::MAX)
}

/// A torrent's record while it is opened.
pub(super) struct Resume {
    journal: Option<Journal>,
    old: Option<Record>,
    ground: Option<Ground>,
    /// All that was stored is there: the page cache outlived the process, or the data was made durable at the end.
    whole: bool,
    /// Files in which something may have been stored after the last piece of theirs that became whole.
    touched: Vec<bool>,
    /// Files that are as the record says, the part file last.
    ours: Vec<bool>,
}

impl Resume {
    /// Reads the record of a torrent, if it shall have one. `folder` is the download folder.
    pub(super) fn new(spec: &Arc<Spec>, folder: &std::fs::File, warnings: &mut Vec<String>) -> Resume {
        let found = match &spec.state_dir {
            Some(state) => Journal::open(spec, state),
            None => Found { journal: None, old: None, warning: None },
        };
        warnings.extend(found.warning);
        let files = spec.meta.files.len() + 1;
        let ground = if found.journal.is_some() || found.old.is_some() { Ground::of(folder) } else { None };
        let whole = found.old.as_ref().is_some_and(|old| {
            old.rest == Rest::Synced || !old.gap && ground.is_some_and(|ground| ground.is_of(old))
        });
        let mut touched = vec![false; files];
        if let Some(old) = &found.old {
            let layout = &spec.meta.layout;
            for piece in old.open.iter() {
                let spans = layout.spans(layout.piece_offset(piece), layout.piece_len(piece).into());
                spans.for_each(|span| touched[span.file] = true);
                touched[files - 1] = true;
            }
        }
        let ours = vec![false; files];
        Resume { journal: found.journal, old: found.old, ground, whole, touched, ours }
    }

    /// Looks whether a file (the part file has the number after the last) of this inode, size and time is the one of the
    /// record, as we left it.
    pub(super) fn look(&mut self, file: usize, inode: u64, size: u64, mtime: i64) -> bool {
        let Some(old) = &self.old else { return false };
        let Some(Some(fact)) = old.files.get(file) else { return false };
        let stored = if self.touched[file] || !self.whole { fact.bound.max(old.until) } else { fact.bound };
        let late = if self.whole { i64::try_from(old.slack).unwrap_or(0) } else { slack() };
        let latest = match old.rest {
            Rest::Running => stored.saturating_add(late),
            Rest::Stopped | Rest::Synced => fact.mtime,
        };
        let part = file + 1 == self.ours.len();
        // The part file grows.
        let same = inode == fact.inode && (size == fact.size || part && size > fact.size);
        self.ours[file] = same && (fact.mtime..=latest).contains(&mtime);
        self.ours[file]
    }

    /// Whether nothing of a file has to be looked for that the record does not tell.
    pub(super) fn tells_all(&self, file: usize) -> bool {
        self.whole && self.ours[file]
    }

    /// Decides what is there: takes from the candidates what the record tells.
    pub(super) fn settle(&mut self, storage: &Storage, opened: &mut Opened) {
        let Some(old) = &mut self.old else { return };
        let layout = &storage.spec.meta.layout;
        let same_selection = old.selection == selection(&storage.spec);
        if !self.whole {
            // What is under files that are not selected now is hashed when they are.
            old.have.iter().for_each(|piece| _ = old.open.set(piece));
            old.synced.iter().for_each(|piece| _ = old.open.clear(piece));
            old.have = old.synced.clone();
            old.partial.clear();
        }
        opened.have = Bitfield::new(layout.pieces());
        for piece in 0..layout.pieces() {
            let (mut ours, mut reached) = (true, true);
            for run in storage.runs(piece, 0, layout.piece_len(piece)) {
                match run.place {
                    Place::File(file) => ours &= self.ours[file],
                    Place::Part => ours &= self.ours.last() == Some(&true),
                    Place::Nowhere(_) => reached = false,
                    Place::Zeros => {}
                }
            }
            // With other files selected the bytes of a border piece are elsewhere.
            ours &= same_selection || storage.borders.binary_search(&piece).is_err();
            if !reached {
                continue;
            }
            if !ours {
                if old.have.get(piece) || old.open.get(piece) || !same_selection {
                    opened.candidates.set(piece);
                }
                old.forget(piece);
            } else if old.have.get(piece) {
                opened.have.set(piece);
                opened.candidates.clear(piece);
            } else if old.open.get(piece) {
                opened.candidates.set(piece);
            } else if self.whole {
                opened.candidates.clear(piece);
            }
        }
        if !storage.spec.seed_only {
            let reached = |piece: u32| {
                let mut runs = storage.runs(piece, 0, layout.piece_len(piece));
                !runs.any(|run| matches!(run.place, Place::Nowhere(_)))
            };
            let partial = old.partial.iter().filter(|(piece, _)| reached(**piece));
            opened.partial = partial.map(|(piece, blocks)| (*piece, blocks.clone())).collect();
        }
        let peers = old.peers.iter().copied().collect();
        opened.saved = Saved { uploaded: old.uploaded, downloaded: old.downloaded, peers };
    }

    /// The record of the run that begins. Until the candidates are hashed, the record has them as open: should the run
    /// end before, the next one hashes what is left.
    pub(super) fn begin(self, storage: &mut Storage, candidates: &Bitfield, mapped: bool) {
        let Some(mut journal) = self.journal else { return };
        if let Some(old) = self.old {
            journal.record = old;
        }
        candidates.iter().for_each(|piece| _ = journal.record.open.set(piece));
        journal.unhashed = journal.record.open.clone();
        // What an earlier run stored may not be on the medium.
        for piece in journal.record.have.iter().filter(|piece| !journal.record.synced.get(*piece)) {
            storage.soil(piece);
        }
        if journal.record.rest != Rest::Synced {
            journal.record.partial.keys().for_each(|piece| storage.soil(*piece));
        }
        let (ground, slack) = (self.ground, if mapped { slack().unsigned_abs() } else { 0 });
        let chosen = selection(&storage.spec);
        storage.journal = Some(Mutex::new(journal));
        storage.renew();
        if let Some(journal) = &storage.journal {
            let mut journal = locked(journal);
            for (fact, unknown) in journal.record.files.iter().zip(&storage.unknown) {
                unknown.store(fact.is_none(), Ordering::Release);
            }
            journal.start(ground, chosen, slack);
        }
    }
}
