//! The copies of torrents in the state folder. A torrent's piece hashes are most of what it is in memory, and one that has
//! everything needs none: its info dictionary is in the copy, which [`super::piece_hashes`] reads when it is needed.

use super::error::fail;
use super::{journal, resume};
use crate::api::Spec;
use crate::limits::{COPY_KEPT, TORRENT_FILE_MAX};
use crate::proto::id::InfoHash;
use crate::proto::metainfo::{Metainfo, wrap};
use crate::sys::guard::assert_may_block;
use crate::sys::{atomic_file, private};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, flock, open, statat,
    utimensat,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// Where the copy of a torrent lies.
pub(super) fn path_of(info_hash: InfoHash, state: &Path) -> PathBuf {
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
