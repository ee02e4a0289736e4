//! Opening a torrent: find out what is there, claim it, make what is missing. Nothing that is there is changed before
//! all of it was looked at, and what this made is taken back when it fails.

use super::Shared;
use super::claims::{Id, Refused};
use super::error::{fail, say};
use super::folders::Folders;
use super::partfile;
use super::plain::read_exact;
use super::resume::{Resume, mtime};
use super::storage::{
    OPEN, Storage, cannot_reserve, is_regular, locked, make_file, path_of, reserve, stored, taken,
};
use crate::api::{DiskError, DiskIo, Opened, Prealloc, Spec, TorrentId};
use crate::base::bits::Bitfield;
use crate::limits::{FOUND_LOOK, READ_CHUNK, RESERVED_EARLY};
use crate::sys::guard::assert_may_block;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, SeekFrom, Stat, StatVfs, fallocate, fstat, fstatfs, fstatvfs,
    ftruncate, openat, seek, statat,
};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Mutex, OnceLock};

/// What a file system in memory calls itself (statfs(2), `TMPFS_MAGIC`).
const TMPFS: i128 = 0x0102_1994;

/// What is there of one file.
struct There {
    id: Id,
    size: u64,
    mtime: i64,
    /// Bytes that are reserved for it.
    reserved: u64,
}

/// Opens a torrent for all workers.
pub(super) fn open(shared: &Shared, torrent: TorrentId, spec: &Arc<Spec>) -> Result<Opened, DiskError> {
    assert_may_block();
    let mut opening = Opening::new(shared, torrent, spec)?;
    match opening.run() {
        Ok(()) => Ok(opening.finish()),
        Err(error) => {
            opening.take_back();
            Err(error)
        }
    }
}

/// A torrent that is being opened.
struct Opening<'a> {
    shared: &'a Shared,
    torrent: TorrentId,
    spec: &'a Arc<Spec>,
    folders: Folders,
    /// The folder of a torrent of several files.
    folder: Option<Id>,
    who: Arc<str>,
    /// What is there, in the order of the files.
    there: Vec<(usize, There)>,
    ids: Vec<OnceLock<Id>>,
    prepared: Vec<AtomicBool>,
    lock: Option<Id>,
    /// Files that this made.
    made: Vec<(usize, Id)>,
    /// Whether space can be reserved here.
    reserves: bool,
    /// Whether files are in memory: what is reserved there is taken from everybody else at once. It is made sure of by
    /// counting, and taken as it fills.
    in_memory: bool,
    device: Option<u64>,
    found: Vec<usize>,
    candidates: Bitfield,
    warnings: Vec<String>,
    resume: Resume,
}

impl<'a> Opening<'a> {
    fn new(shared: &'a Shared, torrent: TorrentId, spec: &'a Arc<Spec>) -> Result<Opening<'a>, DiskError> {
        let (dir, count) = (&spec.dir, spec.meta.files.len());
        if !spec.seed_only {
            std::fs::create_dir_all(dir).map_err(|e| fail("make folder", dir, e))?;
        }
        let folders = Folders::of(spec)?;
        let root = &folders.root;
        let mut warnings = Vec::new();
        let resume = Resume::new(spec, root, &mut warnings);
        let in_memory = fstatfs(root).is_ok_and(|stat| i128::from(stat.f_type) == TMPFS);
        let device = fstat(root).ok().map(|stat| stat.st_dev);
        Ok(Opening {
            shared,
            torrent,
            spec,
            folders,
            folder: None,
            who: spec.meta.name.as_str().into(),
            there: Vec::new(),
            ids: (0..count).map(|_| OnceLock::new()).collect(),
            prepared: (0..count).map(|_| AtomicBool::new(false)).collect(),
            lock: None,
            made: Vec::new(),
            reserves: true,
            in_memory,
            device,
            found: Vec::new(),
            candidates: Bitfield::new(spec.meta.layout.pieces()),
            warnings,
            resume,
        })
    }

    fn run(&mut self) -> Result<(), DiskError> {
        let spec = self.spec;
        if !spec.meta.single {
            self.lock_folder()?;
        }
        if let Some(folder) = self.folder
            && let Some((name, file)) = self.shared.rival(folder, spec)
        {
            return Err(taken(self.path(file), &Refused::Torrent(name.into())));
        }
        // Nothing is in a folder that was made just now.
        if !self.folders.has_made() {
            for file in stored(spec) {
                if let Some(there) = self.look(file)? {
                    self.there.push((file, there));
                }
            }
        }
        for at in 0..self.there.len() {
            let (file, id) = (self.there[at].0, self.there[at].1.id);
            self.claim(file, id)?;
        }
        if !spec.seed_only {
            self.check_space()?;
        }
        for (file, there) in std::mem::take(&mut self.there) {
            self.take_over(file, &there)?;
        }
        if !spec.seed_only {
            for file in stored(spec) {
                if self.ids[file].get().is_none() {
                    self.make(file)?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, file: usize) -> PathBuf {
        path_of(self.spec, file)
    }

    /// Locks the folder of a torrent of several files against other processes.
    fn lock_folder(&mut self) -> Result<(), DiskError> {
        let name = self.spec.meta.name.as_str();
        let create = !self.spec.seed_only;
        let Some(folder) = self.folders.enter(std::iter::once(name), create)? else { return Ok(()) };
        let path = self.spec.dir.join(name);
        let folder = folder.try_clone().map_err(|e| fail("lock", &path, e))?;
        self.folder = Some(self.lock(folder, path)?);
        Ok(())
    }

    fn lock(&mut self, fd: File, path: PathBuf) -> Result<Id, DiskError> {
        let id = Id::of(&fstat(&fd).map_err(|e| fail("look at", &path, e))?);
        match locked(&self.shared.claims).lock(id, fd, !self.spec.seed_only) {
            Ok(()) => self.lock = Some(id),
            Err(Refused::NoLocks(errno)) => self.warnings.push(format!(
                "{} cannot be locked against other programs: {errno}",
                crate::proto::metainfo::printable(&path.to_string_lossy())
            )),
            Err(refused) => return Err(taken(path, &refused)),
        }
        Ok(id)
    }

    fn claim(&mut self, file: usize, id: Id) -> Result<(), DiskError> {
        locked(&self.shared.claims)
            .take(id, !self.spec.seed_only, &self.who)
            .map_err(|refused| taken(self.path(file), &refused))?;
        self.ids[file] = id.into();
        Ok(())
    }

    /// What is there of a file; an error when that cannot be this torrent's.
    fn look(&mut self, file: usize) -> Result<Option<There>, DiskError> {
        let (path, entry) = (|| path_of(self.spec, file), &self.spec.meta.files[file]);
        let paths = &self.spec.meta.paths;
        let Some(folder) = self.folders.enter(paths.folders(file), false)? else { return Ok(None) };
        let stat: Stat = match retry_on_intr(|| statat(folder, paths.name(file), AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fail("look at", path(), errno)),
        };
        if !is_regular(stat.st_mode) {
            let words = "it exists and is not a regular file; move it away";
            return Err(say("use", path(), ErrorKind::AlreadyExists, words));
        }
        let size = stat.st_size as u64;
        if size > entry.len && (self.spec.seed_only || !self.spec.overwrite) {
            let words = "it exists and is longer than in the torrent: not this torrent's file";
            let way_out = if self.spec.seed_only { "" } else { "; move it away or say --overwrite" };
            return Err(say("use", path(), ErrorKind::AlreadyExists, format!("{words}{way_out}")));
        }
        let reserved = (stat.st_blocks as u64).saturating_mul(512);
        Ok(Some(There { id: Id::of(&stat), size, mtime: mtime(&stat), reserved }))
    }

    /// Compares what is still needed with what is free, before anything is filled.
    fn check_space(&mut self) -> Result<(), DiskError> {
        let len = |file: usize| self.spec.meta.files[file].len;
        let taken: u64 = self.there.iter().map(|(file, there)| there.reserved.min(len(*file))).sum();
        let needed = stored(self.spec).map(len).sum::<u64>().saturating_sub(taken);
        let dir = &self.spec.dir;
        let stat: StatVfs = fstatvfs(&self.folders.root).map_err(|e| fail("look at", dir, e))?;
        let promised = self.device.map_or(0, |device| self.shared.promised(device));
        let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(promised);
        // A file system that tells nothing (0 blocks in all) is believed to have room.
        if stat.f_blocks == 0 || needed <= free {
            return Ok(());
        }
        let words = format!("{} needs {needed} bytes, {free} are free", self.who);
        match self.spec.prealloc {
            Prealloc::Full => Err(say("reserve space in", dir, ErrorKind::StorageFull, words)),
            Prealloc::Sparse => {
                let dir = crate::proto::metainfo::printable(&dir.to_string_lossy());
                self.warnings.push(format!("space is short in {dir}: {words}"));
                Ok(())
            }
        }
    }

    /// Makes a file that is missing, if that is not left to who stores in it: one that has a lock or that nothing will be
    /// stored in, and one of a size of which space is worth being reserved before the start.
    fn make(&mut self, file: usize) -> Result<(), DiskError> {
        let (single, len) = (self.spec.meta.single, self.spec.meta.files[file].len);
        if !single && len > 0 && (len < RESERVED_EARLY || !self.reserves()) {
            return Ok(());
        }
        let (fd, id, _) = make_file(self.spec, file, &mut self.folders)?;
        let path = self.path(file);
        self.made.push((file, id));
        self.claim(file, id)?;
        if single {
            self.lock(fd.try_clone().map_err(|e| fail("lock", &path, e))?, path)?;
        }
        self.reserve(file, &fd)
    }

    fn reserves(&self) -> bool {
        self.spec.prealloc == Prealloc::Full && self.reserves && !self.in_memory
    }

    /// Gives a file its length and space, and warns once where space cannot be had before.
    fn reserve(&mut self, file: usize, fd: &File) -> Result<(), DiskError> {
        let len = self.spec.meta.files[file].len;
        if self.reserves()
            && len > 0
            && let Err(errno) = retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), 0, len))
        {
            if !cannot_reserve(errno) {
                return Err(fail("reserve space for", self.path(file), errno));
            }
            self.reserves = false;
            let words = "this file system cannot reserve space: files grow as they fill, and it may run out";
            self.warnings.push(words.to_string());
        }
        reserve(fd, len, Prealloc::Sparse).map_err(|e| fail("create", self.path(file), e))?;
        self.prepared[file] = AtomicBool::new(true);
        Ok(())
    }

    /// Looks into a file that was there.
    fn take_over(&mut self, file: usize, there: &There) -> Result<(), DiskError> {
        let (path, len) = (self.path(file), self.spec.meta.files[file].len);
        let access = if self.spec.seed_only { OFlags::RDONLY } else { OFlags::RDWR };
        let fd = retry_on_intr(|| openat(CWD, &path, access | OPEN, Mode::empty()))
            .map_err(|e| fail("open", &path, e))?;
        let fd = File::from(fd);
        if Id::of(&fstat(&fd).map_err(|e| fail("look at", &path, e))?) != there.id {
            return Err(say("use", path, ErrorKind::Other, "it was replaced while it was opened"));
        }
        if self.spec.meta.single {
            self.lock(fd.try_clone().map_err(|e| fail("lock", &path, e))?, path.clone())?;
        }
        if self.resume.look(file, there.id.inode(), there.size, there.mtime) {
            if !self.resume.tells_all(file) {
                self.mark(file, &fd, there.size);
            }
            return Ok(());
        }
        if there.size > len {
            ftruncate(&fd, len).map_err(|e| fail("cut", &path, e))?;
        }
        if has_data(&fd, there.size.min(len)).map_err(|e| fail("read", &path, e))? {
            self.found.push(file);
            self.mark(file, &fd, there.size.min(len));
        } else if !self.spec.seed_only {
            self.reserve(file, &fd)?;
        } else {
            self.mark(file, &fd, 0);
        }
        Ok(())
    }

    /// Marks the pieces that lie under data of a file. To seed a file, all of it counts: holes are zeros too.
    fn mark(&mut self, file: usize, fd: &File, size: u64) {
        let layout = &self.spec.meta.layout;
        if self.spec.seed_only {
            for piece in layout.file_pieces(file) {
                self.candidates.set(piece);
            }
            return;
        }
        let (start, piece_length) = (layout.file_offset(file), u64::from(layout.piece_length()));
        let mut at = 0;
        while at < size {
            let data = match seek(fd, SeekFrom::Data(at)) {
                Ok(data) if data < size => data,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let hole = seek(fd, SeekFrom::Hole(data)).map_or(size, |hole| hole.clamp(data + 1, size));
            let first = (start + data) / piece_length;
            let last = (start + hole - 1) / piece_length;
            for piece in first..=last {
                self.candidates.set(piece as u32);
            }
            // What is left of the last piece says nothing new.
            at = hole.max(((last + 1) * piece_length).saturating_sub(start));
        }
    }

    /// Undoes what was done: files and folders that this made, claims and locks.
    fn take_back(&mut self) {
        let mut claims = locked(&self.shared.claims);
        self.ids.iter().filter_map(OnceLock::get).for_each(|id| claims.release(*id));
        if let Some(lock) = self.lock {
            claims.unlock(lock);
        }
        drop(claims);
        // Nothing is in them yet.
        let paths = &self.spec.meta.paths;
        for (file, id) in &self.made {
            self.folders.remove_file(paths.folders(*file), paths.name(*file), *id);
        }
        self.folders.remove_made();
    }

    fn finish(mut self) -> Opened {
        let (spec, pieces) = (self.spec, self.spec.meta.layout.pieces());
        // `Auto` is `pwritev`: of neighbouring blocks together it was cheaper than windows on ext4 and tmpfs alike, by
        // 2 to 5 times in CPU time, and holds no memory.
        let mapped = !spec.seed_only && spec.disk_io == DiskIo::Mmap;
        let part = statat(&self.folders.root, partfile::name(&spec.meta), AtFlags::SYMLINK_NOFOLLOW).ok();
        let part = part.filter(|stat| is_regular(stat.st_mode));
        if let Some(stat) = &part {
            self.resume.look(spec.meta.files.len(), stat.st_ino, stat.st_size as u64, mtime(stat));
        }
        let mut storage = Storage {
            torrent: self.torrent,
            spec: spec.clone(),
            ids: self.ids,
            folder: self.folder,
            making: Default::default(),
            claims: self.shared.claims.clone(),
            prepared: self.prepared,
            part: Mutex::new(part.map(|stat| Id::of(&stat))),
            borders: partfile::borders(&spec.meta),
            mapped: AtomicBool::new(mapped),
            hashes: self.shared.hashes.clone(),
            failed: Mutex::default(),
            fails: AtomicU32::new(0),
            right: (0..pieces.div_ceil(32)).map(|_| AtomicU32::new(0)).collect(),
            closed: AtomicU32::new(0),
            lock: self.lock,
            found: self.found.clone(),
            journal: None,
            until: AtomicI64::new(i64::MIN),
            soiled: (0..=spec.meta.files.len()).map(|_| AtomicBool::new(false)).collect(),
            unknown: (0..=spec.meta.files.len()).map(|_| AtomicBool::new(false)).collect(),
            sync_asked: AtomicBool::new(false),
            promised: self.device.filter(|_| spec.prealloc == Prealloc::Full && !spec.seed_only),
            in_memory: self.in_memory,
        };
        let (candidates, found, warnings) = (self.candidates, self.found, self.warnings);
        let mut opened = Opened { candidates, found, warnings, ..Opened::default() };
        self.resume.settle(&storage, &mut opened);
        opened.have.iter().for_each(|piece| storage.believe(piece));
        self.resume.begin(&mut storage, &opened.candidates, mapped);
        self.shared.add(storage);
        opened
    }
}

/// Whether a file has anything but zeros and holes in it, so far as a short look tells: what goes on in zeros past
/// the look counts as data.
fn has_data(fd: &File, size: u64) -> Result<bool, std::io::Error> {
    let mut chunk = vec![0; READ_CHUNK];
    let (mut at, mut looked) = (0, 0);
    while at < size {
        at = match seek(fd, SeekFrom::Data(at)) {
            Ok(data) if data < size => data,
            Ok(_) | Err(Errno::NXIO) => return Ok(false),
            Err(_) => at,
        };
        if looked >= FOUND_LOOK {
            return Ok(true);
        }
        let len = (size - at).min(READ_CHUNK as u64);
        let part = &mut chunk[..len as usize];
        read_exact(fd, part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        at += len;
        looked += len;
    }
    Ok(false)
}
