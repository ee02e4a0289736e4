//! The files of a torrent: where its bytes lie, which inode each file is, and what all workers know of it.

use super::claims::{Claims, Id, Refused};
use super::error::{fail, say};
use super::folders::Folders;
use super::journal::{self, Journal};
use super::partfile;
use super::piece_hashes::PieceHashes;
use super::plain::cut_short;
use super::resume::mtime;
use crate::api::{DiskError, Prealloc, Spec, TorrentId};
use crate::base::bits::Bitfield;
use crate::limits::SYNC_PART;
use crate::proto::resume::{Entry, Fact, made_after};
use crate::sys::guard::assert_may_block;
use crate::sys::sync::sync_data;
use rustix::fs::{AtFlags, SeekFrom, seek};
use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, OFlags, Stat, fallocate, fstat, ftruncate, openat, statat,
};
use rustix::io::{Errno, retry_on_intr};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a run of bytes lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// The file of that number.
    File(usize),
    /// The part file.
    Part,
    /// Nothing: padding, zeros.
    Zeros,
    /// Nothing: a file that is not wanted, outside of the pieces that a wanted one has a share in.
    Nowhere(usize),
}

/// Bytes that lie together in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) place: Place,
    /// Where they start in it.
    pub(super) offset: u64,
    /// How many; never 0.
    pub(super) len: u64,
}

/// What is under a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ground {
    /// Part of a file is missing or not long enough.
    Missing,
    /// Nothing was ever stored there.
    Hole,
    /// Some data.
    Data,
}

/// What is known of a piece that failed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Failed {
    /// How many tries failed. What a worker has of an earlier try, it has to forget.
    pub(super) tries: u32,
    /// The last try is on disk as a whole: the next one is compared with it.
    pub(super) compare: bool,
}

/// Data that could not be made durable.
pub(super) struct Loss {
    pub(super) error: DiskError,
    /// The pieces with it.
    pub(super) pieces: BTreeSet<u32>,
}

/// A file that was made.
pub(super) struct Made {
    file: u32,
    inode: u64,
    mtime: i64,
}

/// An open torrent; every worker has a share in it.
pub(super) struct Storage {
    pub(super) torrent: TorrentId,
    pub(super) spec: Arc<Spec>,
    /// Which inode each file is; none for those that are not there: not wanted, padding, missing when seeding, or not
    /// made before something is stored in them.
    pub(super) ids: Vec<OnceLock<Id>>,
    /// The folder of a torrent of several files.
    pub(super) folder: Option<Id>,
    /// Of workers that make a file, one makes it: a lock for every so many files.
    pub(super) making: [Mutex<()>; MAKING],
    pub(super) claims: Arc<Mutex<Claims>>,
    /// Files that have their length and space. Those that were there with data get theirs before the first store:
    /// until a piece proves right they may not be ours.
    pub(super) prepared: Vec<AtomicBool>,
    /// The inode of the part file, once there is one.
    pub(super) part: Mutex<Option<Id>>,
    /// The pieces with a slot in the part file.
    pub(super) borders: Vec<u32>,
    /// Whether mapping is wanted and works.
    pub(super) mapped: AtomicBool,
    /// Where the digests due for its pieces come from.
    pub(super) hashes: Arc<PieceHashes>,
    /// The pieces that failed.
    pub(super) failed: Mutex<BTreeMap<u32, Failed>>,
    /// How many tries failed, of any piece: who has seen none fail since need not look at `failed`.
    pub(super) fails: AtomicU32,
    /// A bit for each piece that is right: such a piece is never stored into.
    pub(super) right: Vec<AtomicU32>,
    /// The lanes that have closed it, a bit each.
    pub(super) closed: AtomicU32,
    /// What is locked against other processes.
    pub(super) lock: Option<Id>,
    /// Files that were there with data before us: not ours until a piece proves it or something is stored.
    pub(super) found: Vec<usize>,
    /// The resume record.
    pub(super) journal: Option<Mutex<Journal>>,
    /// Until when stores are covered by the record.
    pub(super) until: AtomicI64,
    /// Files with data that is right and may not be on the medium, the part file last.
    pub(super) soiled: Vec<AtomicBool>,
    /// Files that the record does not know, the part file last.
    pub(super) unknown: Vec<AtomicBool>,
    /// A checkpoint is asked for.
    pub(super) sync_asked: AtomicBool,
    /// Its space was found to be there, and of some files it is not reserved before they fill: the device.
    pub(super) promised: Option<u64>,
    /// Whether its files are in memory, where nothing is reserved.
    pub(super) in_memory: bool,
}

/// The lock's value, whatever became of a thread that held it: every change under these locks is a single step.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files of a torrent that are wanted and exist on the disk.
pub(super) fn stored(spec: &Spec) -> impl Iterator<Item = usize> {
    let wanted = |file: &usize| spec.wanted.get(*file).copied().unwrap_or(false);
    (0..spec.meta.files.len()).filter(move |file| wanted(file) && spec.meta.files[*file].is_stored())
}

/// The path of a file of a torrent.
pub(super) fn path_of(spec: &Spec, file: usize) -> PathBuf {
    let mut path = spec.dir.clone();
    path.extend(spec.meta.paths.names(file));
    path
}

/// How many files are made at a time at most.
pub(super) const MAKING: usize = 8;

/// How files are opened, but for what is done with them: no symbolic link is followed, no device waits.
pub(super) const OPEN: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

impl Storage {
    pub(super) fn path(&self, place: Place) -> PathBuf {
        match place {
            Place::File(file) | Place::Nowhere(file) => path_of(&self.spec, file),
            Place::Part | Place::Zeros => self.spec.dir.join(partfile::name(&self.spec.meta)),
        }
    }

    /// The runs that `len` bytes from `begin` of a piece lie in. What leaves the piece must be in files, not in the part
    /// file.
    pub(super) fn runs(&self, piece: u32, begin: u32, len: u32) -> impl Iterator<Item = Run> + '_ {
        let layout = &self.spec.meta.layout;
        let mut within = u64::from(begin);
        layout.spans(layout.piece_offset(piece) + within, len.into()).map(move |span| {
            let file = &self.spec.meta.files[span.file];
            let (place, offset) = if !file.is_stored() {
                (Place::Zeros, 0)
            } else if self.spec.wanted.get(span.file).copied().unwrap_or(false) {
                (Place::File(span.file), span.offset)
            } else if let Ok(slot) = self.borders.binary_search(&piece) {
                (Place::Part, slot as u64 * u64::from(layout.piece_length()) + within)
            } else {
                (Place::Nowhere(span.file), 0)
            };
            within += span.len;
            Run { place, offset, len: span.len }
        })
    }

    /// Which inode a file is, once it is there.
    pub(super) fn id(&self, file: usize) -> Option<Id> {
        self.ids[file].get().copied()
    }

    /// Whether a place is a file that is made when something is stored in it, and is not yet.
    pub(super) fn is_unmade(&self, place: Place) -> bool {
        matches!(place, Place::File(file) if !self.spec.seed_only && self.ids[file].get().is_none())
    }

    /// Makes a file that was not there when the torrent was opened, with its length and no data, and opens it. Gives
    /// what the record has to know before anything is stored in it; None when another worker was faster.
    pub(super) fn make(&self, file: usize, folders: &mut Folders) -> Result<(File, Option<Made>), DiskError> {
        assert_may_block();
        let _one = locked(&self.making[file % MAKING]);
        if self.id(file).is_some() {
            return Ok((self.open(Place::File(file), true)?, None));
        }
        let (fd, id, mtime) = make_file(&self.spec, file, folders)?;
        let claimed = locked(&self.claims).take(id, true, &self.who());
        let made = match claimed {
            Err(refused) => Err(taken(path_of(&self.spec, file), &refused)),
            Ok(()) => set_length(&fd, self.spec.meta.files[file].len).map_err(|errno| {
                locked(&self.claims).release(id);
                fail("create", path_of(&self.spec, file), errno)
            }),
        };
        if let Err(error) = made {
            // Nothing is in it yet.
            let paths = &self.spec.meta.paths;
            folders.remove_file(paths.folders(file), paths.name(file), id);
            return Err(error);
        }
        self.prepared[file].store(true, Ordering::Release);
        self.unknown[file].store(false, Ordering::Release);
        // Nobody else sets it: the lock is held.
        let _ = self.ids[file].set(id);
        Ok((fd, u32::try_from(file).ok().map(|file| Made { file, inode: id.inode(), mtime })))
    }

    /// Tells the record of files that were made.
    pub(super) fn made(&self, made: &[Made]) {
        let Some(journal) = self.journal.as_ref().filter(|_| !made.is_empty()) else { return };
        let mut journal = locked(journal);
        let after = made_after(journal.record.until);
        let mut entries = Vec::with_capacity(made.len());
        for &Made { file, inode, mtime } in made {
            entries.push(Entry::File(file, inode));
            entries.extend((mtime < after).then_some(Entry::Since(file, mtime)));
        }
        journal.add_all(&entries);
    }

    fn who(&self) -> Arc<str> {
        self.spec.meta.name.as_str().into()
    }

    /// Opens the file of a place again, or the part file for the first time. It must be the inode that it was.
    pub(super) fn open(&self, place: Place, write: bool) -> Result<File, DiskError> {
        assert_may_block();
        let mut part = (place == Place::Part).then(|| locked(&self.part));
        let known = match (place, &part) {
            (Place::File(file), _) => self.id(file),
            (_, Some(part)) => **part,
            _ => None,
        };
        let missing = || fail("open", self.path(place), Errno::NOENT);
        let access = if self.spec.seed_only { OFlags::RDONLY } else { OFlags::RDWR };
        let create = known.is_none() && write && part.is_some();
        if known.is_none() && !create {
            return Err(missing());
        }
        let flags = if create { access | OPEN | OFlags::CREATE | OFlags::EXCL } else { access | OPEN };
        let path = self.path(place);
        let file = match retry_on_intr(|| openat(CWD, &path, flags, Mode::from_raw_mode(0o666))) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) if !create => return Err(removed(path)),
            Err(Errno::LOOP) => return Err(replaced(path)),
            Err(errno) => return Err(fail("open", path, errno)),
        };
        let id = Id::of(&fstat(&file).map_err(|e| fail("look at", &path, e))?);
        match part.as_deref_mut() {
            Some(part) if create => *part = Some(id),
            _ if known != Some(id) => return Err(replaced(path)),
            _ => {}
        }
        Ok(file)
    }

    /// Gives a file its length and space, if it has not had them.
    fn prepare(&self, file: usize, fd: &File) -> Result<(), DiskError> {
        let prepared = &self.prepared[file];
        if prepared.load(Ordering::Acquire) {
            return Ok(());
        }
        // Only one at a time: the lock that is there serves.
        let _one = locked(&self.part);
        if !prepared.load(Ordering::Acquire) {
            let len = self.spec.meta.files[file].len;
            let path = || path_of(&self.spec, file);
            reserve(fd, len, self.spec.prealloc).map_err(|e| fail("reserve space for", path(), e))?;
            prepared.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes sure that a file has its space, and unless it was opened just now, that it still has a name and its
    /// length, before something is stored in it.
    pub(super) fn before_store(&self, place: Place, fd: &File, fresh: bool) -> Result<(), DiskError> {
        let Place::File(file) = place else { return Ok(()) };
        self.prepare(file, fd)?;
        if fresh {
            return Ok(());
        }
        let stat = fstat(fd).map_err(|e| fail("look at", self.path(place), e))?;
        if stat.st_nlink == 0 {
            return Err(removed(self.path(place)));
        }
        if (stat.st_size as u64) < self.spec.meta.files[file].len {
            return Err(fail("write", self.path(place), cut_short()));
        }
        Ok(())
    }

    /// Makes sure that the files of a piece are where they were: a piece that is right, in a file that is gone, is not
    /// had. Tells when they were last changed.
    pub(super) fn still_ours(&self, piece: u32) -> Result<i64, DiskError> {
        let (mut before, mut changed) = (None, i64::MIN);
        for run in self.runs(piece, 0, self.spec.meta.layout.piece_len(piece)) {
            let known = match run.place {
                Place::File(file) => self.id(file),
                Place::Part => *locked(&self.part),
                Place::Zeros | Place::Nowhere(_) => continue,
            };
            if before.replace(run.place) == Some(run.place) {
                continue;
            }
            let path = self.path(run.place);
            let end = match run.place {
                Place::File(file) => self.spec.meta.files[file].len,
                _ => run.offset + run.len,
            };
            match retry_on_intr(|| statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)) {
                Ok(stat) if known != Some(Id::of(&stat)) => return Err(replaced(path)),
                Ok(stat) if (stat.st_size as u64) < end => return Err(fail("write", path, cut_short())),
                Ok(stat) => changed = changed.max(mtime(&stat)),
                Err(Errno::NOENT) => return Err(removed(path)),
                Err(errno) => return Err(fail("look at", path, errno)),
            }
        }
        Ok(changed)
    }

    /// Whether a run has data, from what the file system tells without reading.
    pub(super) fn ground(&self, run: Run, fd: &File) -> Ground {
        let end = run.offset + run.len;
        match fstat(fd) {
            Ok(stat) if stat.st_size as u64 >= end => {}
            _ => return Ground::Missing,
        }
        match seek(fd, SeekFrom::Data(run.offset)) {
            Ok(data) if data >= end => Ground::Hole,
            Err(Errno::NXIO) => Ground::Hole,
            _ => Ground::Data,
        }
    }

    /// The space that is promised to it and that it has not taken yet, in bytes.
    pub(super) fn still_due(&self) -> u64 {
        assert_may_block();
        let (pieces, right) =
            (self.spec.meta.layout.pieces(), |bits: &AtomicU32| bits.load(Ordering::Acquire));
        if self.right.iter().map(|bits| right(bits).count_ones()).sum::<u32>() == pieces {
            return 0;
        }
        let due = |file: usize| {
            let len = self.spec.meta.files[file].len;
            match self.id(file) {
                None => len,
                // Reserved, or written in one go since it was made. A look at each would make the start of many
                // torrents as long as the square of their number.
                Some(_) if !self.in_memory => 0,
                Some(_) => {
                    let stat = statat(CWD, self.path(Place::File(file)), AtFlags::SYMLINK_NOFOLLOW);
                    len.saturating_sub(stat.map_or(0, |stat| (stat.st_blocks as u64).saturating_mul(512)))
                }
            }
        };
        stored(&self.spec).map(due).sum()
    }

    /// Whether its files go through windows.
    pub(super) fn is_mapped(&self) -> bool {
        self.mapped.load(Ordering::Relaxed)
    }

    /// What is known of the failures of a piece.
    pub(super) fn failed(&self, piece: u32) -> Failed {
        locked(&self.failed).get(&piece).copied().unwrap_or_default()
    }

    /// A try failed; `compare` when all of it is on disk.
    pub(super) fn set_failed(&self, piece: u32, compare: bool) {
        let mut all = locked(&self.failed);
        let failed = all.entry(piece).or_default();
        *failed = Failed { tries: failed.tries + 1, compare };
        self.fails.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a piece is known to be right.
    pub(super) fn is_right(&self, piece: u32) -> bool {
        self.right[piece as usize / 32].load(Ordering::Acquire) & 1 << (piece % 32) != 0
    }

    /// Whether this is the digest due for a piece.
    pub(super) fn is_due(&self, piece: u32, digest: &[u8; 20]) -> Result<bool, DiskError> {
        self.hashes.is(&self.spec, piece, digest)
    }

    /// Marks a piece that the record says is right.
    pub(super) fn believe(&self, piece: u32) {
        self.right[piece as usize / 32].fetch_or(1 << (piece % 32), Ordering::AcqRel);
    }

    /// A piece is right; its files were last changed at this time, or earlier.
    pub(super) fn set_right(&self, piece: u32, changed: i64) {
        self.believe(piece);
        self.soil(piece);
        let Some(journal) = &self.journal else { return };
        for run in self.runs(piece, 0, self.spec.meta.layout.piece_len(piece)) {
            self.make_known(run.place, journal);
        }
        locked(journal).add(Entry::Have(piece, changed));
    }

    /// A file in which a piece proved right is ours from then on: one that was there with data, or a new part file.
    fn make_known(&self, place: Place, journal: &Mutex<Journal>) {
        let (at, id, len) = match place {
            Place::File(file) => (file, self.id(file), self.spec.meta.files[file].len),
            Place::Part => (self.unknown.len() - 1, *locked(&self.part), 0),
            Place::Zeros | Place::Nowhere(_) => return,
        };
        if !self.unknown[at].load(Ordering::Acquire) || !self.unknown[at].swap(false, Ordering::AcqRel) {
            return;
        }
        let stat = statat(CWD, self.path(place), AtFlags::SYMLINK_NOFOLLOW).ok();
        // One that is short still gets its length, and is known from the next checkpoint on.
        let whole = |stat: &Stat| Some(Id::of(stat)) == id && stat.st_size as u64 >= len;
        if let (Some(stat), Ok(file)) = (stat.filter(whole), u32::try_from(at)) {
            let mut journal = locked(journal);
            journal.add(Entry::File(file, stat.st_ino));
            journal.add(Entry::Since(file, mtime(&stat)));
        }
    }

    /// A piece is not right, whatever was known of it.
    pub(super) fn set_wrong(&self, piece: u32) {
        let bit = 1 << (piece % 32);
        let was = self.right[piece as usize / 32].fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        let Some(journal) = &self.journal else { return };
        let mut journal = locked(journal);
        // What was begun and killed, and proved of no use, is not hashed once more.
        if was || journal.record.open.get(piece) {
            journal.add(Entry::Lost(piece));
        }
    }

    /// A piece that was right could not be read. That may pass: it is hashed again, by a later run if not by this one.
    pub(super) fn set_in_doubt(&self, piece: u32) {
        let bit = 1 << (piece % 32);
        let was = self.right[piece as usize / 32].fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if let Some(journal) = self.journal.as_ref().filter(|_| was) {
            locked(journal).doubt(piece);
        }
    }

    /// A first block of a piece is about to be stored. Gives the blocks that are there from an earlier run.
    pub(super) fn begin(&self, piece: u32) -> Option<Bitfield> {
        locked(self.journal.as_ref()?).begin(piece)
    }

    /// Something is, or was, stored now: the record covers it.
    pub(super) fn beat(&self) {
        let Some(journal) = &self.journal else { return };
        if let Some(until) = journal::beat(self.until.load(Ordering::Acquire), journal::now()) {
            self.until.store(until, Ordering::Release);
            locked(journal).add(Entry::Beat(until));
        }
    }

    /// The files of a piece have data that may not be on the medium.
    pub(super) fn soil(&self, piece: u32) {
        for run in self.runs(piece, 0, self.spec.meta.layout.piece_len(piece)) {
            let at = match run.place {
                Place::File(file) => file,
                Place::Part => self.soiled.len() - 1,
                Place::Zeros | Place::Nowhere(_) => continue,
            };
            self.soiled[at].store(true, Ordering::Release);
        }
    }

    /// Whether a checkpoint has to be asked for; it then counts as asked.
    pub(super) fn wants_sync(&self) -> bool {
        let soiled = || self.soiled.iter().any(|soiled| soiled.load(Ordering::Acquire));
        self.journal.is_some()
            && !self.sync_asked.load(Ordering::Acquire)
            && soiled()
            && !self.sync_asked.swap(true, Ordering::AcqRel)
    }

    /// Makes the data of all pieces of `have` durable. Tells whether there was any, None when it was told by `go_on`
    /// to end; pieces of a file of which the system says that data is lost are not right any more, whatever it says
    /// later, and of those that are begun no block is stored.
    pub(super) fn sync_files(
        &self,
        have: &Bitfield,
        go_on: &dyn Fn() -> bool,
    ) -> (Option<bool>, Option<Loss>) {
        assert_may_block();
        let (mut any, mut loss) = (false, None::<Loss>);
        for (at, soiled) in self.soiled.iter().enumerate() {
            if !soiled.swap(false, Ordering::AcqRel) {
                continue;
            }
            any = true;
            let place = if at + 1 == self.soiled.len() { Place::Part } else { Place::File(at) };
            let synced = self.open(place, false).and_then(|file| {
                sync_data(&file, SYNC_PART, go_on).map_err(|error| fail("write", self.path(place), error))
            });
            let error = match synced {
                Ok(true) => continue,
                Ok(false) => {
                    soiled.store(true, Ordering::Release);
                    return (None, loss);
                }
                Err(error) => error,
            };
            let pieces = self.lose(have, place);
            let loss = loss.get_or_insert_with(|| Loss { error, pieces: BTreeSet::new() });
            loss.pieces.extend(pieces);
        }
        (Some(any), loss)
    }

    /// Data in this place is lost: gives the pieces that it may be of.
    fn lose(&self, have: &Bitfield, place: Place) -> Vec<u32> {
        // Pieces may have become right while the system wrote.
        let (mut right, mut begun, mut synced) = (have.clone(), Vec::new(), None);
        if let Some(journal) = &self.journal {
            let journal = locked(journal);
            let record = &journal.record;
            record.have.iter().for_each(|piece| _ = right.set(piece));
            let stored = |piece: &u32| !right.get(*piece) && !journal.unhashed.get(*piece);
            begun.extend(record.open.iter().filter(stored));
            synced = Some(record.synced.clone());
        }
        let durable = |piece: &u32| synced.as_ref().is_some_and(|synced| synced.get(*piece));
        let mut lost = Vec::new();
        for piece in right.iter().filter(|piece| !durable(piece) && self.lies_in(*piece, place)) {
            self.set_wrong(piece);
            lost.push(piece);
        }
        for piece in begun.into_iter().filter(|piece| self.lies_in(*piece, place)) {
            self.set_failed(piece, false);
            lost.push(piece);
        }
        lost
    }

    fn lies_in(&self, piece: u32, place: Place) -> bool {
        self.runs(piece, 0, self.spec.meta.layout.piece_len(piece)).any(|run| run.place == place)
    }

    /// Has the record say how the files are now. What is said of files that are not selected stays.
    pub(super) fn renew(&self) {
        let Some(journal) = &self.journal else { return };
        // Workers add entries while the files are looked at.
        let (have, mut files) = {
            let journal = locked(journal);
            (journal.record.have.clone(), journal.record.files.clone())
        };
        self.look_again(&have, &mut files);
        let mut journal = locked(journal);
        for (old, new) in journal.record.files.iter_mut().zip(files) {
            let bound = old.map_or(i64::MIN, |old| old.bound);
            let same = |new: &Fact| old.is_some_and(|old| old.inode == new.inode);
            *old = new
                .map(|new| Fact { bound: if same(&new) { new.bound.max(bound) } else { new.bound }, ..new });
        }
    }

    fn look_again(&self, have: &Bitfield, files: &mut [Option<Fact>]) {
        let part = self.spec.meta.files.len();
        for (at, fact) in files.iter_mut().enumerate().take(part + 1) {
            let (place, id) = match at == part {
                true => (Place::Part, *locked(&self.part)),
                false => (Place::File(at), self.id(at)),
            };
            let Some(id) = id else {
                if at < part && self.spec.wanted.get(at).copied().unwrap_or(false) {
                    *fact = None;
                }
                continue;
            };
            let foreign = self.found.binary_search(&at).is_ok()
                && !self.prepared[at].load(Ordering::Acquire)
                && !self.spec.meta.layout.file_pieces(at).any(|piece| have.get(piece));
            let stat = statat(CWD, self.path(place), AtFlags::SYMLINK_NOFOLLOW).ok();
            let stat = stat.filter(|stat| Id::of(stat) == id && !foreign);
            *fact = stat.map(|stat| {
                let (size, inode, mtime) = (stat.st_size as u64, stat.st_ino, mtime(&stat));
                Fact { size, inode, mtime, bound: mtime }
            });
        }
    }

    /// Gives free what is claimed and locked.
    pub(super) fn release(&self, claims: &mut Claims) {
        self.hashes.forget(self.spec.meta.info_hash);
        self.ids.iter().filter_map(OnceLock::get).for_each(|id| claims.release(*id));
        if let Some(lock) = self.lock {
            claims.unlock(lock);
        }
    }
}

/// Gives a file this length, and its space where `prealloc` says so. It never makes a file shorter. `OPNOTSUPP`
/// (or one of its kin) when there is no preallocation here: the length is then set all the same.
pub(super) fn reserve(fd: &File, len: u64, prealloc: Prealloc) -> Result<(), Errno> {
    assert_may_block();
    if prealloc == Prealloc::Full && len > 0 {
        match retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), 0, len)) {
            Err(errno) if cannot_reserve(errno) => {}
            other => return other,
        }
    }
    if (fstat(fd)?.st_size as u64) < len {
        set_length(fd, len)?;
    }
    Ok(())
}

/// Makes a file that is not there, and tells which it is and when that was, without following a symbolic link anywhere
/// below the download folder.
pub(super) fn make_file(
    spec: &Spec,
    file: usize,
    folders: &mut Folders,
) -> Result<(File, Id, i64), DiskError> {
    let (path, entry, paths) = (|| path_of(spec, file), &spec.meta.files[file], &spec.meta.paths);
    let folder =
        folders.enter(paths.folders(file), true)?.ok_or_else(|| fail("create", path(), Errno::NOENT))?;
    let mode = Mode::from_raw_mode(if entry.executable { 0o777 } else { 0o666 });
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OPEN;
    let fd = match retry_on_intr(|| openat(folder, paths.name(file), flags, mode)) {
        Ok(fd) => File::from(fd),
        Err(Errno::EXIST) => {
            let words = "it was put there while the torrent was in use; move it away";
            return Err(say("create", path(), ErrorKind::AlreadyExists, words));
        }
        Err(errno) => return Err(fail("create", path(), errno)),
    };
    let stat = fstat(&fd).map_err(|e| fail("look at", path(), e))?;
    Ok((fd, Id::of(&stat), mtime(&stat)))
}

/// Gives a file that is shorter this length.
fn set_length(fd: &File, len: u64) -> Result<(), Errno> {
    match len {
        0 => Ok(()),
        len => retry_on_intr(|| ftruncate(fd, len)),
    }
}

/// What it is called when somebody else has a file or folder.
pub(super) fn taken(path: PathBuf, refused: &Refused) -> DiskError {
    let words = match refused {
        Refused::Torrent(name) => format!("the torrent {name} has it already"),
        Refused::Process(Some(pid)) => format!("process {pid} has it already"),
        Refused::Process(None) => "another process has it already".to_string(),
        Refused::NoLocks(errno) => errno.to_string(),
    };
    say("claim", path, ErrorKind::ResourceBusy, words)
}

/// Whether this is how a file system says that it has no preallocation.
pub(super) fn cannot_reserve(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NODEV)
}

/// Whether a file of this kind can be one of a torrent.
pub(super) fn is_regular(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::RegularFile
}

fn removed(path: PathBuf) -> DiskError {
    say("use", path, ErrorKind::NotFound, "it was removed while in use")
}

fn replaced(path: PathBuf) -> DiskError {
    say("use", path, ErrorKind::Other, "it was replaced while in use")
}
