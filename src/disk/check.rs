//! Hashing what is on disk, piece by piece in the order of the files, a read at a time so that the worker can serve
//! others in between.

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
    /// How many pieces are done.
    done: u32,
    /// How far the one at hand is hashed.
    at: u32,
    hasher: Sha1,
    storage: Arc<Storage>,
}

impl Check {
    /// A check of `count` pieces from `first`; those past the end are not right.
    pub(super) fn new(storage: Arc<Storage>, first: u32, count: u32) -> Check {
        let (torrent, right) = (storage.torrent, Bitfield::new(count));
        Check { torrent, first, count, right, done: 0, at: 0, hasher: Sha1::new(), storage }
    }

    /// Does one read's worth of work; true when all is done.
    pub(super) fn step(&mut self, hands: &mut Hands) -> Result<bool, DiskError> {
        let meta = &self.storage.spec.meta;
        let piece = self.first.saturating_add(self.done);
        let len = meta.layout.piece_len(piece);
        if self.done >= self.count || len == 0 {
            return Ok(true);
        }
        if self.at == 0 {
            match ground(&self.storage, piece, len, &mut hands.files)? {
                Ground::Data => {}
                Ground::Missing => return Ok(self.next(false)),
                Ground::Hole => {
                    let right = self.storage.is_due(piece, &hands.zeros.digest(len))?;
                    return Ok(self.next(right));
                }
            }
        }
        let now = (len - self.at).min(READ_CHUNK as u32);
        let chunk = &mut hands.chunk[..now as usize];
        match read(&mut hands.files, &self.storage, piece, self.at, chunk) {
            Ok(()) => {}
            Err(error) if matches!(error.source.kind(), ErrorKind::UnexpectedEof | ErrorKind::NotFound) => {
                return Ok(self.next(false));
            }
            Err(error) => return Err(error),
        }
        self.hasher.update(chunk);
        self.at += now;
        if self.at < len {
            return Ok(false);
        }
        let digest: [u8; 20] = self.hasher.finalize_reset().into();
        let right = self.storage.is_due(piece, &digest)?;
        Ok(self.next(right))
    }

    /// Goes on to the next piece; true when there is none.
    fn next(&mut self, right: bool) -> bool {
        if self.at != 0 {
            (self.at, self.hasher) = (0, Sha1::new());
        }
        let piece = self.first + self.done;
        if right {
            // When its files were changed was looked at when they were opened.
            self.storage.set_right(piece, i64::MIN);
            self.right.set(self.done);
        } else {
            self.storage.set_wrong(piece);
        }
        self.done += 1;
        self.done == self.count
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
