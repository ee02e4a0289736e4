//! The hashes of pieces, and the info dictionary for peers (BEP 9), of torrents that keep neither in memory: they are read
//! from the copy in the state folder.
//!
//! A copy is read and hashed once, and again only when it has changed. Until then each request reads no more than it
//! needs: peers ask for 16 KiB at a time, and to hash megabytes for each of them would keep a worker busy. The copies
//! used last stay in memory for their hashes, so that a piece costs no read while few torrents are active.

use super::due::path_of;
use super::error::fail;
use super::resume::mtime;
use super::storage::locked;
use crate::api::{DiskError, Spec};
use crate::limits::{DUE_HELD, TORRENT_FILE_MAX};
use crate::proto::extended::metadata;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::{find_hashes, find_info};
use crate::sys::guard::assert_may_block;
use rustix::fs::fstat;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A copy in memory.
struct Copy {
    torrent: InfoHash,
    bytes: Vec<u8>,
    parts: Parts,
}

/// Where the interesting parts lie in a copy.
#[derive(Clone)]
struct Parts {
    hashes: Range<usize>,
    info: Range<usize>,
}

/// Tells whether a file has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    len: u64,
    mtime: i64,
}

/// What a copy was when it was hashed; no parts: it was not what had been written there.
struct Verified {
    version: Version,
    parts: Option<Parts>,
}

#[derive(Default)]
struct Known {
    verified: BTreeMap<InfoHash, Verified>,
    /// The last one used is at the end.
    held: Vec<Arc<Copy>>,
    /// How many copies were hashed.
    #[cfg(test)]
    loads: u32,
}

impl Known {
    fn held_bytes(&self) -> usize {
        self.held.iter().map(|copy| copy.bytes.len()).sum()
    }
}

/// The copies of all torrents that the workers have read.
#[derive(Default)]
pub(super) struct PieceHashes {
    known: Mutex<Known>,
    /// One copy is read and hashed at a time: it may be as large as a .torrent can be.
    turn: Mutex<()>,
}

/// A copy that is open.
struct Open {
    file: File,
    path: PathBuf,
    version: Version,
}

impl Open {
    fn new(spec: &Spec) -> Result<Open, DiskError> {
        assert_may_block();
        let path = path_of(spec.meta.info_hash, spec.state_dir.as_deref().unwrap_or(Path::new("")));
        let opened = File::open(&path).and_then(|file| {
            let stat = fstat(&file)?;
            let version = Version {
                inode: stat.st_ino,
                len: u64::try_from(stat.st_size).unwrap_or(0),
                mtime: mtime(&stat),
            };
            Ok((file, version))
        });
        match opened {
            Ok((file, version)) => Ok(Open { file, path, version }),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// A part of it; empty past the end of `within`.
    fn part(&self, within: &Range<usize>, from: usize, len: usize) -> Result<Box<[u8]>, DiskError> {
        let start = within.start.saturating_add(from).min(within.end);
        let mut bytes = vec![0; len.min(within.end - start)].into_boxed_slice();
        self.file.read_exact_at(&mut bytes, start as u64).map_err(|error| failed(&self.path, error))?;
        Ok(bytes)
    }
}

fn failed(path: &Path, error: io::Error) -> DiskError {
    fail("read the piece hashes in", path, error)
}

fn foreign(path: &Path) -> DiskError {
    let words = "it is not what was written there; start again with the .torrent file";
    failed(path, io::Error::new(ErrorKind::InvalidData, words))
}

impl PieceHashes {
    /// Whether this is the hash of a piece.
    pub(super) fn is(&self, spec: &Spec, piece: u32, digest: &[u8; 20]) -> Result<bool, DiskError> {
        if spec.meta.holds_hashes() {
            return Ok(spec.meta.hash(piece) == Some(digest));
        }
        if let Some(copy) = self.held(spec.meta.info_hash) {
            let hashes = copy.bytes[copy.parts.hashes.clone()].as_chunks().0;
            return Ok(hashes.get(piece as usize) == Some(digest));
        }
        let open = Open::new(spec)?;
        let parts = self.parts(spec, &open, true)?;
        let from = (piece as usize).saturating_mul(digest.len());
        Ok(*open.part(&parts.hashes, from, digest.len())? == digest[..])
    }

    /// A piece of the info dictionary (BEP 9); an empty one when there is none of that number.
    pub(super) fn piece(&self, spec: &Spec, piece: u32) -> Result<Box<[u8]>, DiskError> {
        let len = metadata::PIECE as usize;
        if !spec.meta.info.is_empty() {
            return Ok(spec.meta.info.chunks(len).nth(piece as usize).unwrap_or_default().into());
        }
        let open = Open::new(spec)?;
        // Peers that want metadata must not take the memory of those that bring payload.
        let parts = self.parts(spec, &open, false)?;
        open.part(&parts.info, (piece as usize).saturating_mul(len), len)
    }

    /// Where the parts lie, after a look at all of it if that is due. It stays in memory if it is to be held.
    fn parts(&self, spec: &Spec, open: &Open, hold: bool) -> Result<Parts, DiskError> {
        let torrent = spec.meta.info_hash;
        let limit = open.version.len.min(TORRENT_FILE_MAX);
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let hold = hold && size <= DUE_HELD;
        if let Some(parts) = self.verified(torrent, open, size, hold) {
            return parts;
        }
        let _turn = locked(&self.turn);
        // Somebody else may have done it meanwhile.
        if let Some(parts) = self.verified(torrent, open, size, hold) {
            return parts;
        }
        let mut bytes = Vec::with_capacity(size);
        (&open.file).take(limit).read_to_end(&mut bytes).map_err(|error| failed(&open.path, error))?;
        let parts = find_hashes(&bytes, torrent).zip(find_info(&bytes, torrent));
        let parts = parts.map(|(hashes, info)| Parts { hashes, info });
        let mut known = locked(&self.known);
        #[cfg(test)]
        {
            known.loads += 1;
        }
        known.verified.insert(torrent, Verified { version: open.version, parts: parts.clone() });
        let parts = parts.ok_or_else(|| foreign(&open.path))?;
        if hold {
            let held = &mut known.held;
            held.retain(|other| other.torrent != torrent);
            held.push(Arc::new(Copy { torrent, bytes, parts: parts.clone() }));
            let mut sum: usize = held.iter().map(|copy| copy.bytes.len()).sum();
            while sum > DUE_HELD {
                sum -= held.remove(0).bytes.len();
            }
        }
        Ok(parts)
    }

    /// Where the parts lie in a copy of this version, if it was hashed and need not be read.
    fn verified(
        &self,
        torrent: InfoHash,
        open: &Open,
        size: usize,
        hold: bool,
    ) -> Option<Result<Parts, DiskError>> {
        let known = locked(&self.known);
        let verified = known.verified.get(&torrent).filter(|verified| verified.version == open.version)?;
        match &verified.parts {
            None => Some(Err(foreign(&open.path))),
            // To be held it is read again, but never at the cost of another one: they would take turns for ever.
            Some(parts) if !hold || known.held_bytes() + size > DUE_HELD => Some(Ok(parts.clone())),
            Some(_) => None,
        }
    }

    fn held(&self, torrent: InfoHash) -> Option<Arc<Copy>> {
        let held = &mut locked(&self.known).held;
        let at = held.iter().rposition(|copy| copy.torrent == torrent)?;
        held[at..].rotate_left(1);
        held.last().cloned()
    }

    /// How many bytes are held, and how many copies were hashed.
    #[cfg(test)]
    pub(super) fn effort(&self) -> (usize, u32) {
        let known = locked(&self.known);
        (known.held_bytes(), known.loads)
    }

    /// The torrent is closed.
    pub(super) fn forget(&self, torrent: InfoHash) {
        let mut known = locked(&self.known);
        known.held.retain(|copy| copy.torrent != torrent);
        known.verified.remove(&torrent);
    }
}
