//! Opening a torrent: find out what is there, claim it, make what is missing. Nothing that is there is changed before
//! all of it was looked at, and what this made is taken back when it fails.

use super::Shared;
use super::claims::{Id, Refused};
use super::error::{fail, say};
use super::partfile;
use super::plain::read_exact;
use super::resume::Resume;
use super::storage::{OPEN, Storage, cannot_reserve, is_regular, locked, path_of, reserve};
use crate::api::{DiskError, DiskIo, Opened, Prealloc, Spec, TorrentId};
use crate::base::bits::Bitfield;
use crate::limits::{FOUND_LOOK, READ_CHUNK};
use crate::sys::guard::assert_may_block;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, SeekFrom, Stat, StatVfs, fallocate, fstat, fstatfs, fstatvfs,
    ftruncate, mkdirat, openat, seek, statat,
};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};
use std::sync::{Arc, Mutex};

/// What a file system in memory calls itself (statfs(2), `TMPFS_MAGIC`).
const TMPFS: i128 = 0x0102_1994;

/// What is there of one file.
#[derive(Clone)]
struct There {
    id: Id,
    size: u64,
    stat: Stat,
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
    who: Arc<str>,
    there: Vec<Option<There>>,
    ids: Vec<Option<Id>>,
    prepared: Vec<AtomicBool>,
    /// How many of `ids`, in order, are claimed.
    claimed: Vec<Id>,
    lock: Option<Id>,
    /// Files that this made.
    made: Vec<PathBuf>,
    /// Whether space can be reserved here.
    reserves: bool,
    /// The device, when that is memory: what is reserved there is taken from everybody else at once. It is made sure of
    /// by counting, and taken as it fills.
    in_memory: Option<u64>,
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
        let root = openat(CWD, dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| fail("open", dir, e))?;
        let root = File::from(root);
        let mut warnings = Vec::new();
        let resume = Resume::new(spec, &root, &mut warnings);
        let in_memory = fstatfs(&root).is_ok_and(|stat| i128::from(stat.f_type) == TMPFS);
        let in_memory = fstat(&root).ok().filter(|_| in_memory).map(|stat| stat.st_dev);
        Ok(Opening {
            shared,
            torrent,
            spec,
            folders: Folders { root, dir: dir.clone(), stack: Vec::new(), made: Vec::new() },
            who: spec.meta.name.as_str().into(),
            there: vec![None; count],
            ids: vec![None; count],
            prepared: (0..count).map(|_| AtomicBool::new(false)).collect(),
            claimed: Vec::new(),
            lock: None,
            made: Vec::new(),
            reserves: true,
            in_memory,
            found: Vec::new(),
            candidates: Bitfield::new(spec.meta.layout.pieces()),
            warnings,
            resume,
        })
    }

    fn run(&mut self) -> Result<(), DiskError> {
        let files: Vec<usize> = (0..self.spec.meta.files.len()).filter(|file| self.is_ours(*file)).collect();
        if !self.spec.meta.single {
            self.lock_folder()?;
        }
        for &file in &files {
            self.there[file] = self.look(file)?;
        }
        for &file in &files {
            if let Some(id) = self.there[file].as_ref().map(|there| there.id) {
                self.claim(file, id)?;
            }
        }
        if !self.spec.seed_only {
            self.check_space(&files)?;
        }
        for &file in &files {
            match self.there[file].take() {
                Some(there) => self.take_over(file, &there)?,
                None if !self.spec.seed_only => self.make(file)?,
                None => {}
            }
        }
        Ok(())
    }

    fn is_ours(&self, file: usize) -> bool {
        self.spec.meta.files[file].is_stored() && self.spec.wanted.get(file).copied().unwrap_or(false)
    }

    fn path(&self, file: usize) -> PathBuf {
        path_of(self.spec, file)
    }

    /// Locks the folder of a torrent of several files against other processes.
    fn lock_folder(&mut self) -> Result<(), DiskError> {
        let Some(first) = self.spec.meta.files.first() else { return Ok(()) };
        let create = !self.spec.seed_only;
        let Some(folder) = self.folders.enter(&first.path[..1], create)? else { return Ok(()) };
        let folder = folder.try_clone().map_err(|e| fail("lock", self.spec.dir.join(&*first.path[0]), e))?;
        self.lock(folder, self.spec.dir.join(&*first.path[0]))
    }

    fn lock(&mut self, fd: File, path: PathBuf) -> Result<(), DiskError> {
        let id = Id::of(&fstat(&fd).map_err(|e| fail("look at", &path, e))?);
        match locked(&self.shared.claims).lock(id, fd, !self.spec.seed_only) {
            Ok(()) => self.lock = Some(id),
            Err(Refused::NoLocks(errno)) => self.warnings.push(format!(
                "{} cannot be locked against other programs: {errno}",
                crate::proto::metainfo::printable(&path.to_string_lossy())
            )),
            Err(refused) => return Err(taken(path, &refused)),
        }
        Ok(())
    }

    fn claim(&mut self, file: usize, id: Id) -> Result<(), DiskError> {
        locked(&self.shared.claims)
            .take(id, !self.spec.seed_only, &self.who)
            .map_err(|refused| taken(self.path(file), &refused))?;
        self.claimed.push(id);
        self.ids[file] = Some(id);
        Ok(())
    }

    /// What is there of a file; an error when that cannot be this torrent's.
    fn look(&mut self, file: usize) -> Result<Option<There>, DiskError> {
        let (path, entry) = (path_of(self.spec, file), &self.spec.meta.files[file]);
        let Some((name, folders)) = entry.path.split_last() else { return Ok(None) };
        let Some(folder) = self.folders.enter(folders, false)? else { return Ok(None) };
        let stat: Stat = match retry_on_intr(|| statat(folder, &**name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fail("look at", path, errno)),
        };
        if !is_regular(stat.st_mode) {
            let words = "it exists and is not a regular file; move it away";
            return Err(say("use", path, ErrorKind::AlreadyExists, words));
        }
        let size = stat.st_size as u64;
        if size > entry.len && (self.spec.seed_only || !self.spec.overwrite) {
            let words = "it exists and is longer than in the torrent: not this torrent's file";
            let way_out = if self.spec.seed_only { "" } else { "; move it away or say --overwrite" };
            return Err(say("use", path, ErrorKind::AlreadyExists, format!("{words}{way_out}")));
        }
        let reserved = (stat.st_blocks as u64).saturating_mul(512);
        Ok(Some(There { id: Id::of(&stat), size, stat, reserved }))
    }

    /// Compares what is still needed with what is free, before anything is filled.
    fn check_space(&mut self, files: &[usize]) -> Result<(), DiskError> {
        let missing = |file: &usize| {
            let reserved = self.there[*file].as_ref().map_or(0, |there| there.reserved);
            self.spec.meta.files[*file].len.saturating_sub(reserved)
        };
        let needed: u64 = files.iter().map(missing).sum();
        let dir = &self.spec.dir;
        let stat: StatVfs = fstatvfs(&self.folders.root).map_err(|e| fail("look at", dir, e))?;
        let promised = self.in_memory.map_or(0, |device| self.shared.promised(device));
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

    /// Makes a file that is missing.
    fn make(&mut self, file: usize) -> Result<(), DiskError> {
        let (path, entry) = (path_of(self.spec, file), &self.spec.meta.files[file]);
        let Some((name, folders)) = entry.path.split_last() else { return Ok(()) };
        let Some(folder) = self.folders.enter(folders, true)? else { return Ok(()) };
        let mode = if entry.executable { 0o777 } else { 0o666 };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OPEN;
        let fd = retry_on_intr(|| openat(folder, &**name, flags, Mode::from_raw_mode(mode)))
            .map_err(|e| fail("create", &path, e))?;
        let fd = File::from(fd);
        self.made.push(path.clone());
        let id = Id::of(&fstat(&fd).map_err(|e| fail("look at", &path, e))?);
        self.claim(file, id)?;
        if self.spec.meta.single {
            self.lock(fd.try_clone().map_err(|e| fail("lock", &path, e))?, path.clone())?;
        }
        self.reserve(file, &fd)
    }

    /// Gives a file its length and space, and warns once where space cannot be had before.
    fn reserve(&mut self, file: usize, fd: &File) -> Result<(), DiskError> {
        let len = self.spec.meta.files[file].len;
        let full =
            self.spec.prealloc == Prealloc::Full && self.reserves && self.in_memory.is_none() && len > 0;
        if full && let Err(errno) = retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), 0, len)) {
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
        if self.resume.look(file, &there.stat) {
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
        self.claimed.iter().for_each(|id| claims.release(*id));
        if let Some(lock) = self.lock {
            claims.unlock(lock);
        }
        drop(claims);
        // Nothing is in them yet; what cannot be removed is in nobody's way.
        self.made.iter().for_each(|path| drop(std::fs::remove_file(path)));
        self.folders.made.iter().rev().for_each(|path| drop(std::fs::remove_dir(path)));
    }

    fn finish(mut self) -> Opened {
        let (spec, pieces) = (self.spec, self.spec.meta.layout.pieces());
        // `Auto` is `pwritev`: of neighbouring blocks together it was cheaper than windows on ext4 and tmpfs alike, by
        // 2 to 5 times in CPU time, and holds no memory.
        let mapped = !spec.seed_only && spec.disk_io == DiskIo::Mmap;
        let part = statat(&self.folders.root, partfile::name(&spec.meta), AtFlags::SYMLINK_NOFOLLOW).ok();
        let part = part.filter(|stat| is_regular(stat.st_mode));
        if let Some(stat) = &part {
            self.resume.look(spec.meta.files.len(), stat);
        }
        let mut storage = Storage {
            torrent: self.torrent,
            spec: spec.clone(),
            ids: self.ids,
            prepared: self.prepared,
            part: Mutex::new(part.map(|stat| Id::of(&stat))),
            borders: partfile::borders(&spec.meta),
            mapped: AtomicBool::new(mapped),
            due: self.shared.due.clone(),
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
            promised: self.in_memory.filter(|_| spec.prealloc == Prealloc::Full && !spec.seed_only),
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

fn taken(path: PathBuf, refused: &Refused) -> DiskError {
    let words = match refused {
        Refused::Torrent(name) => format!("the torrent {name} has it already"),
        Refused::Process(Some(pid)) => format!("process {pid} has it already"),
        Refused::Process(None) => "another process has it already".to_string(),
        Refused::NoLocks(errno) => errno.to_string(),
    };
    say("claim", path, ErrorKind::ResourceBusy, words)
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

/// The folders that lead to the file at hand, each opened from the one before and none through a symbolic link. Files
/// of one folder come together, so mostly all of them are open already.
struct Folders {
    root: File,
    dir: PathBuf,
    stack: Vec<(Arc<str>, File)>,
    /// Folders that this made.
    made: Vec<PathBuf>,
}

impl Folders {
    /// The innermost of `names`, below the download folder; None when it is missing and not to be made.
    fn enter(&mut self, names: &[Arc<str>], create: bool) -> Result<Option<&File>, DiskError> {
        let same = self.stack.iter().zip(names).take_while(|((open, _), name)| open == *name).count();
        self.stack.truncate(same);
        for name in &names[same..] {
            let parent = self.stack.last().map_or(&self.root, |(_, fd)| fd);
            let path = self.stack.iter().map(|(name, _)| &**name).chain([&**name]);
            let path = path.fold(self.dir.clone(), |path, name| path.join(name));
            let mut fd = open_folder(parent, name);
            if let (Err(Errno::NOENT), true) = (&fd, create) {
                match mkdirat(parent, &**name, Mode::from_raw_mode(0o777)) {
                    Ok(()) => self.made.push(path.clone()),
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail("make folder", path, errno)),
                }
                fd = open_folder(parent, name);
            }
            match fd {
                Ok(fd) => self.stack.push((name.clone(), fd)),
                Err(Errno::NOENT) if !create => return Ok(None),
                Err(errno) => return Err(not_a_folder(parent, name, &path, errno)),
            }
        }
        Ok(Some(self.stack.last().map_or(&self.root, |(_, fd)| fd)))
    }
}

fn open_folder(parent: impl AsFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| openat(&parent, name, flags, Mode::empty())).map(File::from)
}

fn not_a_folder(parent: impl AsFd, name: &str, path: &Path, errno: Errno) -> DiskError {
    if !matches!(errno, Errno::NOTDIR | Errno::LOOP) {
        return fail("open", path, errno);
    }
    let link = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink());
    let words = if link { "it is a symbolic link, which is not followed" } else { "it is not a folder" };
    say("open", path, ErrorKind::NotADirectory, words)
}
