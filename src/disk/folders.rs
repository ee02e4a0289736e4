//! The folders that lead to the files of a torrent.

use super::claims::Id;
use super::error::{fail, say};
use crate::api::{DiskError, Spec};
use crate::sys::guard::assert_may_block;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The folders that lead to the file at hand, each opened from the one before and none through a symbolic link. Files
/// of one folder come together, so mostly all of them are open already.
pub(super) struct Folders {
    pub(super) root: File,
    dir: PathBuf,
    stack: Vec<(Box<str>, File)>,
    /// A folder that is not there, as a path below the download folder: nothing in it need be looked for.
    missing: Option<String>,
    /// Folders that this made, as paths below the download folder.
    made: Vec<String>,
}

impl Folders {
    /// Those below the download folder, which has to be there.
    pub(super) fn of(spec: &Spec) -> Result<Folders, DiskError> {
        assert_may_block();
        let dir = spec.dir.clone();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            retry_on_intr(|| openat(CWD, &dir, flags, Mode::empty())).map_err(|e| fail("open", &dir, e))?;
        Ok(Folders { root: File::from(root), dir, stack: Vec::new(), missing: None, made: Vec::new() })
    }

    /// The innermost of `names`, below the download folder; None when it is missing and not to be made.
    pub(super) fn enter<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
        create: bool,
    ) -> Result<Option<&File>, DiskError> {
        let same =
            self.stack.iter().zip(names.clone()).take_while(|((open, _), name)| **open == **name).count();
        self.stack.truncate(same);
        for name in names.skip(same) {
            let path = self.below(name);
            if !create && self.missing.as_ref() == Some(&path) {
                return Ok(None);
            }
            let parent = self.stack.last().map_or(&self.root, |(_, fd)| fd);
            let mut fd = open_folder(parent, name);
            if let (Err(Errno::NOENT), true) = (&fd, create) {
                self.missing = None;
                match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) => self.made.push(path.clone()),
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail("make folder", self.dir.join(path), errno)),
                }
                fd = open_folder(parent, name);
            }
            match fd {
                Ok(fd) => self.stack.push((name.into(), fd)),
                Err(Errno::NOENT) if !create => {
                    self.missing = Some(path);
                    return Ok(None);
                }
                Err(errno) => return Err(not_a_folder(parent, name, &self.dir.join(path), errno)),
            }
        }
        Ok(Some(self.stack.last().map_or(&self.root, |(_, fd)| fd)))
    }

    /// Whether this made a folder.
    pub(super) fn has_made(&self) -> bool {
        !self.made.is_empty()
    }

    /// The folders that this made stay.
    pub(super) fn keep_made(&mut self) {
        self.made.clear();
    }

    /// Removes the folders that this made, as far as nothing is in them. What cannot be removed is in nobody's way.
    pub(super) fn remove_made(&mut self) {
        for path in std::mem::take(&mut self.made).iter().rev() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if let Ok(Some(folder)) = self.enter(parent.split('/').filter(|name| !name.is_empty()), false) {
                let _ = unlinkat(folder, name, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Removes a file from the innermost of `names`, if it is still this one: somebody else may have put another file, or
    /// another folder, in its place. What cannot be removed is in nobody's way.
    pub(super) fn remove_file<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
        name: &str,
        id: Id,
    ) {
        let Ok(Some(folder)) = self.enter(names, false) else { return };
        if statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| Id::of(&stat) == id) {
            let _ = unlinkat(folder, name, AtFlags::empty());
        }
    }

    /// The path of a folder in the innermost one.
    fn below(&self, name: &str) -> String {
        let mut path = String::new();
        for (folder, _) in &self.stack {
            path.push_str(folder);
            path.push('/');
        }
        path + name
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
