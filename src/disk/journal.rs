//! The resume record of an open torrent: a small file in the state folder, locked and with all its space from the
//! start. A piece costs it two entries of 32 bytes, written before its first store and after its digest. The page
//! cache outlives a killed process, so nothing but a checkpoint is ever made durable.

use super::error::fail;
use super::plain;
use crate::api::{Saved, Spec};
use crate::base::bits::Bitfield;
use crate::limits::{RESUME_BEAT, RESUME_PEERS};
use crate::proto::id::Hex;
use crate::proto::layout::Layout;
use crate::proto::metainfo::printable;
use crate::proto::resume::{Entry, Record, Rest, Shape};
use crate::sys::guard::assert_may_block;
use crate::sys::private;
use rustix::fs::{
    AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, StatxFlags, fallocate, fdatasync, flock, open,
    statx,
};
use rustix::io::{Errno, retry_on_intr};
use sha1::{Digest, Sha1};
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// `STATX_MNT_ID_UNIQUE`, which rustix lacks.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// Which run of which system, and which mount of the download folder: the page cache that a killed process left is
/// there as long as this stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ground {
    boot: [u8; 16],
    device: u64,
    mount: u64,
}

impl Ground {
    /// That of a folder. Where the system does not tell its boot, no two are the same.
    pub(super) fn of(folder: &File) -> Option<Ground> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot = crate::proto::id::from_hex(&text.trim().replace('-', ""))?;
        // The plain number of a mount goes to another one after it: to a card that was pulled out and put in again.
        // Before Linux 6.8 there is only that one.
        let wanted = StatxFlags::MNT_ID.union(StatxFlags::from_bits_retain(MNT_ID_UNIQUE));
        let stat = statx(folder, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
        Some(Ground { boot, device, mount: stat.stx_mnt_id })
    }

    /// Whether a record was written on it.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        (self.boot, self.device, self.mount) == (record.boot, record.device, record.mount)
    }
}

/// The record of an open torrent.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    spec: Arc<Spec>,
    identity: [u8; 20],
    /// What the file says, entries included.
    pub(super) record: Record,
    /// Pieces that the record has as open since they are to be hashed, not since something is stored.
    pub(super) unhashed: Bitfield,
    /// The number of the first entry after the last checkpoint.
    from: u64,
    /// It could not be written: what is on disk is older than this, which the times of the files tell. The next
    /// checkpoint has all that is missing.
    broken: bool,
}

/// The file of a record.
pub(super) struct Handle {
    file: File,
    path: PathBuf,
}

impl Handle {
    /// Makes it durable.
    pub(super) fn sync(&self) {
        assert_may_block();
        if let Err(errno) = retry_on_intr(|| fdatasync(&self.file)) {
            log::warn!("{}", fail("sync", &self.path, errno));
        }
    }
}

/// What was found in the state folder.
pub(super) struct Found {
    /// The record, to be written on; None when that is not possible.
    pub(super) journal: Option<Journal>,
    /// What it says; None when it is new, or not to be believed.
    pub(super) old: Option<Record>,
    /// What the user should be told.
    pub(super) warning: Option<String>,
}

impl Journal {
    /// Opens the record of a torrent, makes it if there is none.
    pub(super) fn open(spec: &Arc<Spec>, state: &Path) -> Found {
        assert_may_block();
        let none = |warning| Found { journal: None, old: None, warning };
        let identity = match identity(spec) {
            Ok(identity) => identity,
            Err(error) => return none(Some(without(&spec.dir, &error))),
        };
        let path = named(spec, state, &identity);
        let shape = Shape::new(&spec.meta.layout);
        let made = private::make_folder(state, "resume").and_then(|_| open_or_make(&path));
        let (file, refused) = match made {
            Ok(file) => (file, None),
            // What cannot be written may still be read.
            Err(error) => match open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => (File::from(file), Some(error)),
                Err(_) => return none(Some(without(&path, &error))),
            },
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return none(Some(without(&path, &io::Error::other("another process has it"))));
            }
            Err(errno) => return none(Some(without(&path, &errno.into()))),
        }
        let old = read(&file, &shape, &identity);
        if let Some(error) = refused {
            return Found { journal: None, old, warning: Some(without(&path, &error)) };
        }
        if let Err(error) = reserve(&file, shape.file_len() as u64) {
            return Found { journal: None, old, warning: Some(without(&path, &error)) };
        }
        // Entries of an earlier life would count as garbage.
        let ring = vec![0; shape.file_len() - 2 * shape.slot_len()];
        if old.is_none()
            && let Err(error) = plain::write_all(&file, &mut [IoSlice::new(&ring)], shape.entry_at(0))
        {
            return Found { journal: None, old, warning: Some(without(&path, &error)) };
        }
        let record = old.clone().unwrap_or_else(|| Record::new(&shape, now() as u64));
        let (from, unhashed) = (record.next, Bitfield::new(spec.meta.layout.pieces()));
        let spec = spec.clone();
        let journal = Journal { file, path, spec, identity, record, unhashed, from, broken: false };
        Found { journal: Some(journal), old, warning: None }
    }

    fn layout(&self) -> &Layout {
        &self.spec.meta.layout
    }

    /// Adds an entry; a checkpoint follows when there are many since the last.
    pub(super) fn add(&mut self, entry: Entry) {
        self.add_all(&[entry]);
    }

    /// Adds entries; those that are neighbours in the file are written at once.
    pub(super) fn add_all(&mut self, mut entries: &[Entry]) {
        let spec = self.spec.clone();
        let shape = Shape::new(&spec.meta.layout);
        while !entries.is_empty() {
            // Up to the next checkpoint, and to the end of the ring.
            let next = self.record.next;
            let left = (shape.entries() / 2).saturating_sub(next - self.from).max(1);
            let count = left.min(shape.entries() - next % shape.entries()).min(entries.len() as u64) as usize;
            let (now, rest) = entries.split_at(count);
            let encode =
                |(entry, number): (&Entry, u64)| entry.encode(&self.identity, self.record.life, number);
            let bytes: Vec<u8> = now.iter().zip(next..).flat_map(encode).collect();
            self.put(&bytes, shape.entry_at(next), false);
            now.iter().for_each(|entry| self.take_in(*entry, &shape));
            entries = rest;
            // The checkpoint before may be needed, with all entries since: half of the ring is for each.
            if self.record.next - self.from >= shape.entries() / 2 {
                self.fold();
            }
        }
    }

    fn take_in(&mut self, entry: Entry, shape: &Shape<'_>) {
        self.record.next += 1;
        self.record.apply(entry, shape);
        if let Entry::Open(piece) | Entry::Have(piece, _) | Entry::Lost(piece) = entry {
            self.unhashed.clear(piece);
        }
    }

    /// Writes a checkpoint.
    pub(super) fn fold(&mut self) {
        let spec = self.spec.clone();
        let shape = Shape::new(&spec.meta.layout);
        self.record.serial += 1;
        let bytes = self.record.encode(&self.identity, &shape);
        let was_broken = std::mem::take(&mut self.broken);
        self.put(&bytes, shape.slot_at(self.record.serial), was_broken);
        if self.broken {
            // The other slot has the last one that is whole.
            self.record.serial -= 1;
        }
        self.from = self.record.next;
    }

    fn put(&mut self, bytes: &[u8], at: u64, said: bool) {
        if self.broken {
            return;
        }
        if let Err(error) = plain::write_all(&self.file, &mut [IoSlice::new(bytes)], at) {
            self.broken = true;
            if !said {
                log::warn!("{}", fail("write", &self.path, error));
            }
        }
    }

    /// Writes to another file from now on. Gives the one before.
    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    /// A second descriptor of the file, to make it durable while entries are added.
    pub(super) fn handle(&self) -> Option<Handle> {
        Some(Handle { file: self.file.try_clone().ok()?, path: self.path.clone() })
    }

    /// A first block of a piece is about to be stored. Gives the blocks that are there from an earlier run.
    pub(super) fn begin(&mut self, piece: u32) -> Option<Bitfield> {
        let blocks = self.record.partial.remove(&piece);
        self.unhashed.clear(piece);
        if !self.record.open.get(piece) {
            self.add(Entry::Open(piece));
        }
        blocks
    }

    /// The torrent is left with these blocks of a piece stored.
    pub(super) fn leave(&mut self, piece: u32, blocks: Bitfield) {
        let some = blocks.len() == self.layout().blocks(piece) && blocks.count() > 0 && !blocks.all();
        if some && !self.record.have.get(piece) {
            self.record.open.clear(piece);
            self.record.partial.insert(piece, blocks);
        }
    }

    /// A piece may be right or not: who opens the torrent next has it hashed, if it is not found out before.
    pub(super) fn doubt(&mut self, piece: u32) {
        self.add(Entry::Open(piece));
        self.unhashed.set(piece);
    }

    /// The torrent is closed: what was stored is told by the blocks of each piece, and what is still to be hashed stays
    /// open.
    pub(super) fn stop(&mut self) {
        let (open, unhashed) = (&mut self.record.open, &self.unhashed);
        let stored: Vec<u32> = open.iter().filter(|piece| !unhashed.get(*piece)).collect();
        stored.into_iter().for_each(|piece| _ = open.clear(piece));
        self.record.rest = Rest::Stopped;
    }

    /// Keeps totals and peers.
    pub(super) fn save(&mut self, saved: Saved) {
        if self.record.uploaded != saved.uploaded {
            self.add(Entry::Uploaded(saved.uploaded));
        }
        if self.record.downloaded != saved.downloaded {
            self.add(Entry::Downloaded(saved.downloaded));
        }
        self.record.peers = saved.peers.into_iter().take(RESUME_PEERS).collect();
    }

    /// Begins a run on this ground, after what is in doubt was forgotten.
    pub(super) fn start(&mut self, ground: Option<Ground>, selection: u64, slack: u64) {
        let ground = ground.unwrap_or(Ground { boot: [0; 16], device: 0, mount: 0 });
        let record = &mut self.record;
        (record.boot, record.device, record.mount) = (ground.boot, ground.device, ground.mount);
        (record.selection, record.slack, record.rest, record.gap) = (selection, slack, Rest::Running, false);
        record.until = i64::MIN;
        self.fold();
    }
}

/// Says that a run leaves no record.
fn without(path: &Path, error: &io::Error) -> String {
    format!("what is there will not be remembered: {}: {error}", printable(&path.to_string_lossy()))
}

/// Where the record of a torrent lies.
pub(super) fn path_of(spec: &Spec, state: &Path) -> io::Result<PathBuf> {
    Ok(named(spec, state, &identity(spec)?))
}

fn named(spec: &Spec, state: &Path, identity: &[u8; 20]) -> PathBuf {
    state.join("resume").join(format!("{}-{}", spec.meta.info_hash, Hex(&identity[..6])))
}

/// Which torrent in which folder.
fn identity(spec: &Spec) -> io::Result<[u8; 20]> {
    use std::os::unix::ffi::OsStrExt;
    let dir = std::fs::canonicalize(&spec.dir)?;
    let digest = Sha1::new().chain_update(spec.meta.info_hash.0).chain_update(dir.as_os_str().as_bytes());
    Ok(digest.finalize().into())
}

/// A digest of which files are wanted.
pub(super) fn selection(spec: &Spec) -> u64 {
    let flags: Vec<u8> = spec.wanted.iter().map(|wanted| u8::from(*wanted)).collect();
    let digest: [u8; 20] = Sha1::digest(flags).into();
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn open_or_make(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(retry_on_intr(|| open(path, flags, Mode::from_raw_mode(0o600)))?);
    private::tighten(&file);
    Ok(file)
}

/// Reads a record, no more of the file than one can have.
fn read(file: &File, shape: &Shape<'_>, identity: &[u8; 20]) -> Option<Record> {
    let len = file.metadata().ok()?.len().min(shape.file_len() as u64);
    if len == 0 {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    plain::read_exact(file, &mut bytes, 0).ok()?;
    shape.load(&bytes, identity)
}

/// Gives the record its length and space; where none can be reserved, by zeros past the end.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    let there = file.metadata()?.len();
    if there > len {
        file.set_len(len)?;
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Ok(()) => return Ok(()),
        Err(errno) if super::storage::cannot_reserve(errno) => {}
        Err(errno) => {
            // A part of it is of no use, and a record that is there stays.
            if there == 0 {
                let _ = file.set_len(0);
            }
            return Err(errno.into());
        }
    }
    let (zeros, mut at) = ([0; 4096], there.min(len));
    while at < len {
        let now = (len - at).min(zeros.len() as u64);
        plain::write_all(file, &mut [IoSlice::new(&zeros[..now as usize])], at)?;
        at += now;
    }
    Ok(())
}

/// The time of the system, as the times of files are: nanoseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "it is compared with the times of files")]
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Until when stores at this time are covered, if that needs saying: `until` is what was said last.
pub(super) fn beat(until: i64, now: i64) -> Option<i64> {
    let beat = i64::try_from(RESUME_BEAT.as_nanos()).unwrap_or(i64::MAX);
    let soon = now.saturating_add(beat / 2);
    // A clock that was set back makes what was said too late.
    (until < soon || until > now.saturating_add(2 * beat)).then(|| now.saturating_add(beat))
}
