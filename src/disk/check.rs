//! Hashing what is on disk, some pieces side by side in the order of the files, a read of each at a time so that the
//! worker can serve others in between. The system is told of all of a job before the first read, so that a disk has one
//! long stretch to read for each worker and is at work while we hash.

use super::ahead::{self, Fetched};
use super::digest::{Sha, Stream, WIDE, side_by_side};
use super::files::Files;
use super::storage::{Ground, Place, Storage};
use super::{Hands, read};
use crate::api::{DiskError, TorrentId};
use crate::base::bits::Bitfield;
use crate::limits::{CHECK_BYTES, READ_AHEAD, READ_CHUNK};
use sha1::{Digest, Sha1};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;

/// How much of a piece is on its way to memory before it is hashed.
const AHEAD: u32 = CHECK_BYTES as u32;
/// Reads begin and end with pages.
const PAGE: usize = 4096;

/// A check under way.
pub(super) struct Check {
    pub(super) torrent: TorrentId,
    pub(super) first: u32,
    pub(super) count: u32,
    /// Which pieces are right, bit 0 for the first.
    pub(super) right: Bitfield,
    /// How many pieces were looked at.
    looked: u32,
    /// Of these, those that are to be read: they are on their way to memory, with what has to leave it again.
    ready: VecDeque<(u32, Vec<Fetched>)>,
    /// What has to leave memory once it is hashed.
    fetched: Vec<Fetched>,
    /// Those at hand, hashed side by side.
    group: Vec<(u32, Sha)>,
    /// How far they are hashed.
    at: u32,
    storage: Arc<Storage>,
}

impl Check {
    /// A check of `count` pieces from `first`; those past the end are not right.
    pub(super) fn new(storage: Arc<Storage>, first: u32, count: u32) -> Check {
        let (torrent, right) = (storage.torrent, Bitfield::new(count));
        let (ready, fetched, group) = (VecDeque::new(), Vec::new(), Vec::new());
        Check { torrent, first, count, right, looked: 0, ready, fetched, group, at: 0, storage }
    }

    /// Does a bit of work, a read's worth; true when all is done.
    pub(super) fn step(&mut self, hands: &mut Hands) -> Result<bool, DiskError> {
        if self.group.is_empty() {
            self.look(hands)?;
            return Ok(self.group.is_empty());
        }
        self.go_on(hands);
        let layout = &self.storage.spec.meta.layout;
        let (at, share) = (self.at, READ_CHUNK / self.group.len() / PAGE * PAGE);
        let (mut streams, mut gone) = (Vec::with_capacity(WIDE), Vec::new());
        let mut longest = 0;
        for ((piece, sha), chunk) in self.group.iter_mut().zip(hands.chunk.chunks_mut(share)) {
            let len = layout.piece_len(*piece);
            longest = longest.max(len);
            let chunk = &mut chunk[..(len.saturating_sub(at) as usize).min(share)];
            match read(&mut hands.files, &self.storage, *piece, at, chunk) {
                Ok(()) => streams.push(Stream { sha, parts: vec![chunk] }),
                Err(error)
                    if matches!(error.source.kind(), ErrorKind::UnexpectedEof | ErrorKind::NotFound) =>
                {
                    gone.push(*piece);
                }
                Err(error) => return Err(error),
            }
        }
        side_by_side(&mut streams);
        drop(streams);
        self.at += share as u32;
        self.group.retain(|(piece, _)| !gone.contains(piece));
        gone.into_iter().for_each(|piece| self.judge(piece, false));
        if self.at >= longest {
            for (piece, sha) in std::mem::take(&mut self.group) {
                let right = self.storage.is_due(piece, &sha.finish())?;
                self.judge(piece, right);
            }
        }
        let done = self.looked >= self.count && self.ready.is_empty() && self.group.is_empty();
        if done {
            ahead::let_go(&mut hands.files, &self.storage, &std::mem::take(&mut self.fetched));
        }
        Ok(done)
    }

    /// Takes up the next pieces that are to be read. None: all are judged.
    fn look(&mut self, hands: &mut Hands) -> Result<(), DiskError> {
        self.at = 0;
        self.look_ahead(hands)?;
        while self.group.len() < WIDE
            && let Some((piece, fetched)) = self.ready.pop_front()
        {
            self.group.push((piece, Sha::new()));
            self.fetched.extend(fetched);
        }
        Ok(())
    }

    /// Has the system fetch the pieces of the job, or as much of one as a job has otherwise, and judges those that need
    /// not be read.
    fn look_ahead(&mut self, hands: &mut Hands) -> Result<(), DiskError> {
        while self.looked < self.count {
            let piece = self.first.saturating_add(self.looked);
            let len = self.storage.spec.meta.layout.piece_len(piece);
            if len == 0 {
                self.looked = self.count;
                return Ok(());
            }
            self.looked += 1;
            match ground(&self.storage, piece, len, &mut hands.files)? {
                Ground::Data => {
                    let mut fetched = Vec::new();
                    ahead::fetch(&mut hands.files, &self.storage, (piece, 0, len.min(AHEAD)), &mut fetched);
                    self.ready.push_back((piece, fetched));
                }
                Ground::Missing => self.judge(piece, false),
                Ground::Hole => {
                    let right = self.storage.is_due(piece, &hands.zeros.digest(len))?;
                    self.judge(piece, right);
                }
            }
        }
        Ok(())
    }

    /// Of a long piece, which is alone: has the next stretch fetched, and lets go of those that are hashed.
    fn go_on(&mut self, hands: &mut Hands) {
        let [(piece, _)] = self.group[..] else { return };
        let len = self.storage.spec.meta.layout.piece_len(piece);
        let next = self.at.saturating_add(AHEAD);
        if self.at == 0 || !self.at.is_multiple_of(READ_AHEAD) || next >= len {
            return;
        }
        if self.at.is_multiple_of(AHEAD) {
            let at = self.at;
            let (gone, rest) = std::mem::take(&mut self.fetched).into_iter().partition(|part| part.end <= at);
            self.fetched = rest;
            let gone: Vec<Fetched> = gone;
            ahead::let_go(&mut hands.files, &self.storage, &gone);
        }
        let stretch = (piece, next, READ_AHEAD.min(len - next));
        ahead::fetch(&mut hands.files, &self.storage, stretch, &mut self.fetched);
    }

    fn judge(&mut self, piece: u32, right: bool) {
        if right {
            // When its files were changed was looked at when they were opened.
            self.storage.set_right(piece, i64::MIN);
            self.right.set(piece - self.first);
        } else {
            self.storage.set_wrong(piece);
        }
    }
}

/// What is under a piece, without reading it.
fn ground(storage: &Storage, piece: u32, len: u32, files: &mut Files) -> Result<Ground, DiskError> {
    let mut all = Ground::Hole;
    for run in storage.runs(piece, 0, len) {
        match run.place {
            Place::Zeros => continue,
            Place::Nowhere(_) => return Ok(Ground::Missing),
            Place::File(_) | Place::Part => {}
        }
        let fd = match files.get(storage, run.place, false) {
            Ok(fd) => fd,
            Err(error) if error.source.kind() == ErrorKind::NotFound => return Ok(Ground::Missing),
            Err(error) => return Err(error),
        };
        match storage.ground(run, fd) {
            Ground::Missing => return Ok(Ground::Missing),
            Ground::Hole => {}
            Ground::Data => {
                all = Ground::Data;
            }
        }
    }
    Ok(all)
}

/// The digest of zeros: that of a hole. The one asked for last is kept.
#[derive(Default)]
pub(super) struct Zeros(Option<(u32, [u8; 20])>);

impl Zeros {
    fn digest(&mut self, len: u32) -> [u8; 20] {
        if let Some((known, digest)) = self.0
            && known == len
        {
            return digest;
        }
        let (zeros, mut hasher, mut left) = ([0; 4096], Sha1::new(), len as usize);
        while left > 0 {
            let now = left.min(zeros.len());
            hasher.update(&zeros[..now]);
            left -= now;
        }
        let digest = hasher.finalize().into();
        self.0 = Some((len, digest));
        digest
    }
}
