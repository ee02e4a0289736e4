//! The digests due for the pieces. They are most of what a torrent is in memory, and one that has everything needs
//! none: a copy of its info dictionary lies in the state folder, and is read again when something is to be hashed.

use super::error::fail;
use super::{journal, resume};
use crate::api::{DiskError, Spec};
use crate::limits::{COPY_KEPT, DUE_HELD, TORRENT_FILE_MAX};
use crate::proto::extended::metadata;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::{Metainfo, find_hashes, find_info, wrap};
use crate::sys::guard::assert_may_block;
use crate::sys::{atomic_file, private};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, open, statat,
    utimensat,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where the copy of a torrent lies.
fn path_of(info_hash: InfoHash, state: &Path) -> PathBuf {
    state.join("torrents").join(format!("{info_hash}.torrent"))
}

/// Makes sure that the state folder has a copy of this info dictionary, then drops what is in memory of it. After an
/// error it stays there.
pub fn keep(meta: &mut Metainfo, state: &Path) -> io::Result<()> {
    assert_may_block();
    let folder = private::make_folder(state, "torrents");
    let (path, bytes) = (path_of(meta.info_hash, state), wrap(&meta.info));
    if is_there(&path, &bytes) {
        // It is in use, so it stays. Where its time cannot be set, it is written again some time.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ =
            utimensat(CWD, &path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
        meta.let_go();
        return Ok(());
    }
    folder?;
    atomic_file::replace(&path, &bytes)?;
    meta.let_go();
    Ok(())
}

/// Whether a copy has these bytes.
fn is_there(path: &Path, bytes: &[u8]) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    private::tighten(&file);
    let mut there = Vec::with_capacity(bytes.len());
    file.metadata().is_ok_and(|metadata| metadata.len() == bytes.len() as u64)
        && file.read_to_end(&mut there).is_ok()
        && there == bytes
}

/// The torrent of which the state folder has a copy, if it is whole.
pub fn kept(info_hash: InfoHash, state: &Path) -> Option<Metainfo> {
    assert_may_block();
    let mut bytes = Vec::new();
    let file = File::open(path_of(info_hash, state)).ok()?;
    private::tighten(&file);
    file.take(TORRENT_FILE_MAX).read_to_end(&mut bytes).ok()?;
    Metainfo::parse(&bytes).ok().filter(|meta| meta.info_hash == info_hash)
}

/// Drops the copies in the state folder that no start asked for in a long while and no process is at work with.
pub fn sweep(state: &Path) {
    assert_may_block();
    let kept = i64::try_from(COPY_KEPT.as_nanos()).unwrap_or(i64::MAX);
    let latest = journal::now().saturating_sub(kept);
    let Ok(copies) = fs::read_dir(state.join("torrents")) else { return };
    let old = |path: &PathBuf| {
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| resume::mtime(&stat) < latest)
    };
    let old: Vec<PathBuf> = copies.flatten().map(|copy| copy.path()).filter(old).collect();
    if old.is_empty() {
        return;
    }
    let records = records(state);
    for path in old {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(torrent) = name.split('.').next().filter(|name| name.len() == 40) else { continue };
        if !records.iter().any(|record| is_of(record, torrent) && is_locked(record)) {
            // Who cannot write there has nothing to tidy up.
            let _ = fs::remove_file(&path);
        }
    }
}

/// The torrent was removed: so is its copy, unless another process is at work with it, in another folder.
pub(super) fn drop_copy(spec: &Spec) {
    assert_may_block();
    let Some(state) = spec.state_dir.as_deref() else { return };
    let torrent = spec.meta.info_hash.to_string();
    // Our own record may be open for another moment.
    let own = journal::path_of(spec, state).ok();
    let others = records(state).into_iter().filter(|record| own.as_ref() != Some(record));
    if others.into_iter().any(|record| is_of(&record, &torrent) && is_locked(&record)) {
        return;
    }
    let path = path_of(spec.meta.info_hash, state);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            log::info!("{}", fail("remove", &path, error));
        }
        _ => {}
    }
}

/// All resume records of a state folder.
fn records(state: &Path) -> Vec<PathBuf> {
    let folder = fs::read_dir(state.join("resume"));
    folder.into_iter().flatten().flatten().map(|record| record.path()).collect()
}

fn is_of(record: &Path, torrent: &str) -> bool {
    record.file_name().is_some_and(|name| name.to_string_lossy().starts_with(torrent))
}

/// Whether a process has the torrent of this record open.
fn is_locked(record: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let Ok(file) = open(record, flags, Mode::empty()) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// A copy that was read.
struct Copy {
    torrent: InfoHash,
    bytes: Vec<u8>,
    hashes: Range<usize>,
    info: Range<usize>,
}

/// Copies that were read lately, of all torrents, the last one used at the end.
#[derive(Default)]
pub(super) struct Due(Mutex<Vec<Arc<Copy>>>);

impl Due {
    /// Whether this is the digest due for a piece.
    pub(super) fn is(&self, spec: &Spec, piece: u32, digest: &[u8; 20]) -> Result<bool, DiskError> {
        if spec.meta.holds_hashes() {
            return Ok(spec.meta.hash(piece) == Some(digest));
        }
        let copy = self.copy(spec)?;
        let hashes = copy.bytes[copy.hashes.clone()].as_chunks().0;
        Ok(hashes.get(piece as usize) == Some(digest))
    }

    /// A piece of the info dictionary (BEP 9); an empty one when there is none of that number.
    pub(super) fn piece(&self, spec: &Spec, piece: u32) -> Result<Box<[u8]>, DiskError> {
        let of = |info: &[u8]| {
            info.chunks(metadata::PIECE as usize).nth(piece as usize).unwrap_or_default().into()
        };
        if !spec.meta.info.is_empty() {
            return Ok(of(&spec.meta.info));
        }
        let copy = self.copy(spec)?;
        Ok(of(&copy.bytes[copy.info.clone()]))
    }

    fn copy(&self, spec: &Spec) -> Result<Arc<Copy>, DiskError> {
        match self.held(spec.meta.info_hash) {
            Some(copy) => Ok(copy),
            None => self.load(spec),
        }
    }

    /// How many bytes are held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        super::storage::locked(&self.0).iter().map(|copy| copy.bytes.len()).sum()
    }

    fn held(&self, torrent: InfoHash) -> Option<Arc<Copy>> {
        let mut held = super::storage::locked(&self.0);
        let at = held.iter().rposition(|copy| copy.torrent == torrent)?;
        held[at..].rotate_left(1);
        held.last().cloned()
    }

    fn load(&self, spec: &Spec) -> Result<Arc<Copy>, DiskError> {
        assert_may_block();
        let torrent = spec.meta.info_hash;
        let path = path_of(torrent, spec.state_dir.as_deref().unwrap_or(Path::new("")));
        let bytes = fs::read(&path).map_err(|e| fail("read the piece hashes in", &path, e))?;
        let parts = find_hashes(&bytes, torrent).zip(find_info(&bytes, torrent));
        let (hashes, info) = parts.ok_or_else(|| {
            let words = "it is not what was written there; start again with the .torrent file";
            fail("read the piece hashes in", &path, io::Error::new(ErrorKind::InvalidData, words))
        })?;
        let copy = Arc::new(Copy { torrent, bytes, hashes, info });
        let mut held = super::storage::locked(&self.0);
        held.retain(|other| other.torrent != torrent);
        held.push(copy.clone());
        let mut sum: usize = held.iter().map(|copy| copy.bytes.len()).sum();
        while sum > DUE_HELD && held.len() > 1 {
            sum -= held.remove(0).bytes.len();
        }
        Ok(copy)
    }

    /// The torrent needs them no more, for now.
    pub(super) fn forget(&self, torrent: InfoHash) {
        super::storage::locked(&self.0).retain(|copy| copy.torrent != torrent);
    }
}
