//! One swarm: the state a torrent is in, its peers, its totals, and what there is to report of it.

use super::announce::Announcer;
use super::choker::Choker;
use super::doubt::Doubt;
use super::full::Full;
use super::goal::Goal;
use super::haves::Haves;
use super::identity::Identity;
use super::known::Known;
use super::metadata::Fetch;
use super::peer::Peer;
use super::pex::Roll;
use super::picker::Picker;
use super::super_seed::SuperSeed;
use super::web_seed::WebSeeds;
use crate::api::{PeerId, Progress, Reason, Report, Saved, Spec, State};
use crate::base::bits::Bitfield;
use crate::base::rate::Rate;
use crate::base::time::Time;
use crate::limits::{NOTES_MAX, RESUME_PEERS, SAVE_AFTER};
use crate::proto::layout::Layout;
use crate::proto::metainfo::Metainfo;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a torrent is doing.
#[derive(Debug)]
pub(super) enum Phase {
    /// It has peers, and gets its metadata from them. Nothing of it is open.
    Fetching,
    /// A worker claims its files.
    Opening,
    /// What is on disk is hashed.
    Checking(Checking),
    /// It has peers.
    Running,
    /// Its files are closed: what is out at the workers comes back first.
    Closing {
        /// Workers that have not closed it yet; 0 before they are told to.
        workers: u8,
    },
    /// Nothing of it is open.
    Closed,
}

/// What a torrent shall do, whatever it is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Run,
    /// Nothing, until the program says otherwise.
    Pause,
    /// Be forgotten once it is closed.
    Remove,
}

/// How far the check of existing data is.
#[derive(Debug)]
pub(super) struct Checking {
    /// Pieces that may be there.
    pub(super) candidates: Bitfield,
    /// The next piece to look at.
    pub(super) cursor: u32,
    /// Jobs that are out.
    pub(super) out: usize,
    /// Pieces that no answer came for.
    pub(super) left: u32,
    /// Bytes looked at, of all that must be.
    pub(super) done: u64,
    pub(super) total: u64,
    /// Files that were there with data.
    pub(super) found: Vec<usize>,
    /// Blocks of pieces that an earlier run left.
    pub(super) partial: Vec<(u32, Bitfield)>,
}

impl Checking {
    /// The next run of pieces to check, of `bytes` at most (but one piece at least).
    pub(super) fn next_run(&mut self, layout: &Layout, bytes: u64) -> Option<(u32, u32)> {
        let pieces = self.candidates.len();
        while self.cursor < pieces && !self.candidates.get(self.cursor) {
            self.cursor += 1;
        }
        let (first, mut sum) = (self.cursor, 0);
        while self.cursor < pieces && self.candidates.get(self.cursor) {
            sum += u64::from(layout.piece_len(self.cursor));
            if sum > bytes && self.cursor > first {
                break;
            }
            self.cursor += 1;
        }
        (self.cursor > first).then_some((first, self.cursor - first))
    }
}

/// One torrent of the session.
pub(super) struct Torrent {
    pub(super) number: u32,
    pub(super) spec: Arc<Spec>,
    pub(super) identity: Identity,
    pub(super) phase: Phase,
    pub(super) wish: Wish,
    pub(super) picker: Picker,
    pub(super) known: Known,
    pub(super) announcer: Announcer,
    /// Its metadata as far as it is there, while it has none.
    pub(super) fetch: Option<Box<Fetch>>,
    /// Its peers know what it has; not so those that it had before its metadata.
    pub(super) introduced: bool,
    pub(super) web: WebSeeds,
    pub(super) peers: Vec<PeerId>,
    /// What they are told of each other.
    pub(super) roll: Roll,
    /// Places of the table that it has: its peers, and those that are being called.
    pub(super) places: usize,
    /// Its peers in the upload round, in turn.
    pub(super) turns: VecDeque<PeerId>,
    /// Bytes of the pieces under the wanted files.
    pub(super) wanted: u64,
    /// What earlier runs saved; its peers grow with good ones of this run.
    pub(super) before: Saved,
    /// When totals and peers are to be saved, if they changed.
    pub(super) save_at: Time,
    /// A save is at the disk worker.
    pub(super) saving: bool,
    /// Payload of this run, in bytes.
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) down: Rate,
    pub(super) up: Rate,
    /// For [`super::timers`].
    pub(super) armed: Time,
    pub(super) news: News,
    pub(super) choker: Choker,
    /// Peers that had nothing to ask for, in turn.
    pub(super) starved: VecDeque<PeerId>,
    /// What its peers are to hear of.
    pub(super) haves: Haves,
    /// While it super-seeds, and after.
    pub(super) super_seed: Option<SuperSeed>,
    pub(super) goal: Goal,
    /// Bytes of blocks that are read for peers or stand in their outboxes.
    pub(super) going: u64,
    /// Bytes given to peers that are choked ([`super::fast`]).
    pub(super) gifts: u64,
    /// What its peers were told of [`Torrent::upload_only`] last.
    pub(super) upload_only_told: bool,
    /// It could not go on.
    pub(super) failed: bool,
    pub(super) full: Full,
    pub(super) doubt: Doubt,
    /// It was stopped since it ran last: its trackers and peers have to be told that it is back.
    pub(super) halted: bool,
    /// What earlier runs saved is in `before`.
    pub(super) adopted: bool,
    /// It stands in the line of those that wait for another one to be closed.
    pub(super) queued: bool,
    /// Peers that the user gave with others that are the same.
    pub(super) more_peers: Vec<(String, u16)>,
    /// When a torrent that is removed is forgotten, though a tracker has not answered.
    pub(super) forget_at: Time,
    /// Check jobs that come back before its files may be closed.
    pub(super) checks_left: usize,
    /// It stands in the line of those with somebody to call.
    pub(super) calling: bool,
    /// When its peers were last asked one and all.
    pub(super) refilled: Time,
    /// For [`super::torrents`]: it may have changed, and when its news is due as far as that knows.
    pub(super) touched: bool,
    pub(super) listed: Time,
}

impl Torrent {
    /// Whether something is missing that it is to get.
    pub(super) fn lacks(&self) -> bool {
        matches!(self.phase, Phase::Running) && !self.spec.seed_only && !self.picker.is_complete()
    }

    /// Whether it gets what it lacks.
    pub(super) fn downloading(&self) -> bool {
        self.lacks() && !self.full.is_so()
    }

    /// Whether it wants nothing more of its peers, though it may not have all (BEP 21).
    pub(super) fn upload_only(&self) -> bool {
        self.running() && !self.lacks()
    }

    /// Whether neither side has anything for the other: both have all, or want nothing more (BEP 21).
    pub(super) fn has_no_use_for(&self, p: &Peer) -> bool {
        self.upload_only() && (p.is_seed() || p.spoken.upload_only)
    }

    pub(super) fn running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Whether it has use for peers that it does not have.
    pub(super) fn welcomes(&self) -> bool {
        self.swarming() && !self.goal.is_parting()
    }

    /// Whether it gets its metadata.
    pub(super) fn fetching(&self) -> bool {
        matches!(self.phase, Phase::Fetching)
    }

    /// Whether it gets what it lacks, metadata or payload.
    pub(super) fn hungry(&self) -> bool {
        self.fetching() || self.downloading()
    }

    /// Whether it has peers: trackers and others are asked for some.
    pub(super) fn swarming(&self) -> bool {
        self.running() || self.fetching()
    }

    /// The state while it runs, as the user reads it.
    pub(super) fn state(&self) -> (State, Option<String>) {
        if self.lacks() {
            return (State::Downloading, None);
        }
        let part = !self.picker.is_complete();
        (State::Seeding, part.then(|| "only a part of it is here".to_owned()))
    }

    /// A block came, from whomever.
    pub(super) fn count_down(&mut self, len: u32, now: Time) {
        self.down.add(len.into(), now);
        self.downloaded += u64::from(len);
        self.news.moved = true;
    }

    /// Payload moved: that is to be remembered. Tells when it will be saved.
    pub(super) fn save_soon(&mut self, now: Time) -> Time {
        if self.spec.state_dir.is_some() && self.save_at == Time::NEVER {
            self.save_at = now + SAVE_AFTER;
        }
        self.save_at
    }

    /// This address has proved good: a later run calls it.
    pub(super) fn remember(&mut self, addr: SocketAddr) {
        self.before.peers.retain(|other| *other != addr);
        self.before.peers.push(addr);
        if self.before.peers.len() > RESUME_PEERS {
            self.before.peers.remove(0);
        }
    }

    /// What the resume record shall keep.
    pub(super) fn saved(&self) -> Saved {
        Saved {
            uploaded: self.before.uploaded.saturating_add(self.uploaded),
            downloaded: self.before.downloaded.saturating_add(self.downloaded),
            peers: self.before.peers.clone(),
        }
    }
}

/// What there is to report, coalesced: a program that does not listen for a while misses steps, never the state.
#[derive(Default)]
pub(super) struct News {
    state: Option<(State, Option<String>)>,
    notes: VecDeque<Note>,
    metadata: Option<Box<Metainfo>>,
    complete: Complete,
    /// `complete` was said: that is done once.
    was_complete: bool,
    /// What is to be said now is the last.
    last: bool,
    /// It has ended of itself, and why: to be said last, after the figures.
    ended: Option<String>,
    /// These figures are the last.
    final_told: bool,
    /// Some figure is another one than was reported last.
    pub(super) moved: bool,
    /// When figures were reported last.
    pub(super) told: Option<Time>,
}

/// Whether `complete` is to be said.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Complete {
    #[default]
    No,
    /// Once the figures are told, so that 100 % is seen before.
    AfterFigures,
    Next,
}

enum Note {
    Error(Reason, String),
    Warning(String),
}

impl News {
    pub(super) fn state(&mut self, state: State, reason: Option<String>) {
        if !self.last {
            self.state = Some((state, reason));
        }
    }

    /// Says this state and nothing more, ever; None: not even that.
    pub(super) fn last(&mut self, state: Option<State>) {
        *self = News { state: state.map(|state| (state, None)), last: true, ..News::default() };
    }

    pub(super) fn complete(&mut self) {
        if !self.last && !std::mem::replace(&mut self.was_complete, true) {
            self.complete = Complete::AfterFigures;
            self.moved = true;
        }
    }

    pub(super) fn metadata(&mut self, meta: Box<Metainfo>) {
        if !self.last {
            self.metadata = Some(meta);
        }
    }

    pub(super) fn ended(&mut self, reason: String) {
        if !self.last {
            self.ended = Some(reason);
            self.moved = true;
        }
    }

    pub(super) fn error(&mut self, reason: Reason, message: String) {
        self.note(Note::Error(reason, message));
    }

    pub(super) fn warning(&mut self, message: String) {
        self.note(Note::Warning(message));
    }

    fn note(&mut self, note: Note) {
        if self.last {
            return;
        }
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    /// When the next thing may be said; [`Time::NEVER`] when there is nothing.
    pub(super) fn due(&self) -> Time {
        if self.state.is_some()
            || self.metadata.is_some()
            || !self.notes.is_empty()
            || self.complete != Complete::No
            || self.ended.is_some()
        {
            Time::ZERO
        } else if self.moved && !self.last {
            self.told.map_or(Time::ZERO, |told| told + crate::limits::TORRENT_TICK)
        } else {
            Time::NEVER
        }
    }

    /// The next thing to say that is not figures.
    pub(super) fn next(&mut self, number: u32) -> Option<Report> {
        if let Some(note) = self.notes.pop_front() {
            return Some(match note {
                Note::Error(reason, message) => Report::Error { number, reason, message },
                Note::Warning(message) => Report::Warning { number, message },
            });
        }
        if let Some((state, reason)) = self.state.take() {
            return Some(Report::State { number, state, reason });
        }
        if let Some(meta) = self.metadata.take() {
            return Some(Report::Metadata { number, meta });
        }
        if self.complete == Complete::Next {
            self.complete = Complete::No;
            return Some(Report::Complete { number });
        }
        if self.final_told
            && self.complete == Complete::No
            && let Some(reason) = self.ended.take()
        {
            return Some(Report::State { number, state: State::Stopped, reason: Some(reason) });
        }
        None
    }

    /// The figures were said.
    pub(super) fn said(&mut self, now: Time) {
        self.moved = false;
        self.told = Some(now);
        self.final_told = self.ended.is_some();
        if self.complete == Complete::AfterFigures {
            self.complete = Complete::Next;
        }
    }
}

/// The figures of a torrent.
pub(super) fn progress(t: &Torrent, seeds: u32, stuck: Option<String>, now: Time) -> Progress {
    let checked = match &t.phase {
        Phase::Checking(check) => Some((check.done, check.total)),
        _ => None,
    };
    let total = t.wanted;
    Progress {
        total,
        have: total - t.picker.left(),
        checked,
        metadata: t.fetch.as_ref().filter(|_| t.fetching()).and_then(|fetch| fetch.progress()),
        downloaded: t.downloaded,
        uploaded: t.uploaded,
        uploaded_ever: t.before.uploaded.saturating_add(t.uploaded),
        download_rate: t.down.per_second(5, now),
        upload_rate: t.up.per_second(5, now),
        peers: t.peers.len() as u32,
        seeds,
        web: t.web.active() as u32,
        stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_go_in_runs_of_candidates() {
        let layout = Layout::new(16384, [16384 * 10 - 5]).unwrap();
        let mut candidates = Bitfield::full(10);
        candidates.clear(0);
        candidates.clear(4);
        let (found, partial) = (vec![], vec![]);
        let mut check =
            Checking { candidates, cursor: 0, out: 0, left: 8, done: 0, total: 0, found, partial };
        let mut runs = Vec::new();
        while let Some(run) = check.next_run(&layout, 3 * 16384) {
            runs.push(run);
        }
        assert_eq!(runs, [(1, 3), (5, 3), (8, 2)]);
        check.cursor = 0;
        assert_eq!(check.next_run(&layout, 1), Some((1, 1)), "a piece longer than the bound goes alone");
    }

    #[test]
    fn news_keeps_the_last_state_and_says_complete_after_the_figures() {
        let mut news = News::default();
        assert_eq!((news.due(), news.next(7).is_none()), (Time::NEVER, true));
        news.state(State::Checking, None);
        news.state(State::Seeding, None);
        news.complete();
        assert!(matches!(news.next(7), Some(Report::State { number: 7, state: State::Seeding, .. })));
        assert!(news.next(7).is_none());
        news.said(Time(5));
        assert!(matches!(news.next(7), Some(Report::Complete { number: 7 })));
        assert_eq!(news.due(), Time::NEVER);
        for n in 0..2 * NOTES_MAX {
            news.warning(n.to_string());
        }
        let mut count = 0;
        while news.next(7).is_some() {
            count += 1;
        }
        assert_eq!(count, NOTES_MAX);
    }

    #[test]
    fn news_of_the_end_comes_last_and_after_the_figures() {
        let mut news = News::default();
        news.complete();
        news.ended("enough".into());
        assert!(news.next(7).is_none() && news.moved && news.due() == Time::ZERO);
        news.said(Time(5));
        assert!(matches!(news.next(7), Some(Report::Complete { .. })));
        assert!(matches!(news.next(7), Some(Report::State { state: State::Stopped, .. })));
        assert_eq!((news.next(7).is_none(), news.due()), (true, Time::NEVER));
    }

    #[test]
    fn complete_is_said_once_and_nothing_after_the_last_words() {
        let mut news = News::default();
        news.complete();
        news.said(Time(5));
        assert!(matches!(news.next(7), Some(Report::Complete { number: 7 })));
        news.complete();
        news.said(Time(6));
        assert!(news.next(7).is_none());
        news.last(Some(State::Stopped));
        (news.moved, news.told) = (true, None);
        news.state(State::Error, None);
        news.warning("late".into());
        news.ended("late".into());
        assert!(matches!(news.next(7), Some(Report::State { state: State::Stopped, .. })));
        assert_eq!((news.next(7).is_none(), news.due()), (true, Time::NEVER));
    }
}
