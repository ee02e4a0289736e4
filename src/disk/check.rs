//! Hashing what is on disk, some pieces side by side in the order of the files, a read of each at a time so that the
//! worker can serve others in between.

use super::digest::{Sha, Stream, WIDE, side_by_side};
use super::files::Files;
use super::storage::{Ground, Place, Storage};
use super::{Hands, read};
use crate::api::{DiskError, TorrentId};
use crate::base::bits::Bitfield;
use crate::limits::READ_CHUNK;
use rustix::fs::{Advice, fadvise};
use sha1::{Digest, Sha1};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::sync::Arc;

/// A check under way.
pub(super) struct Check {
    pub(super) torrent: TorrentId,
    pub(super) first: u32,
    pub(super) count: u32,
    /// Which pieces are right, bit 0 for the first.
    pub(super) right: Bitfield,
    /// How many pieces were looked at.
    looked: u32,
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
        Check { torrent, first, count, right, looked: 0, group: Vec::new(), at: 0, storage }
    }

    /// Does a bit of work, a read's worth; true when all is done.
    pub(super) fn step(&mut self, hands: &mut Hands) -> Result<bool, DiskError> {
        if self.group.is_empty() {
            self.look(hands)?;
            return Ok(self.group.is_empty());
        }
        let layout = &self.storage.spec.meta.layout;
        let (at, share) = (self.at, READ_CHUNK / WIDE);
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
        Ok(self.looked >= self.count && self.group.is_empty())
    }

    /// Looks for pieces that are to be read, and judges those that need not be. None: all are judged.
    fn look(&mut self, hands: &mut Hands) -> Result<(), DiskError> {
        self.at = 0;
        while self.group.len() < WIDE && self.looked < self.count {
            let piece = self.first.saturating_add(self.looked);
            let len = self.storage.spec.meta.layout.piece_len(piece);
            if len == 0 {
                self.looked = self.count;
                return Ok(());
            }
            self.looked += 1;
            match ground(&self.storage, piece, len, &mut hands.files)? {
                Ground::Data => self.group.push((piece, Sha::new())),
                Ground::Missing => self.judge(piece, false),
                Ground::Hole => {
                    let right = self.storage.is_due(piece, &hands.zeros.digest(len))?;
                    self.judge(piece, right);
                }
            }
        }
        Ok(())
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

/// What is under a piece, without reading it. Has the system fetch it if there is data.
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
                // Only advice: where it does not work, nothing is lost.
                let _ = fadvise(fd, run.offset, NonZeroU64::new(run.len), Advice::WillNeed);
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
