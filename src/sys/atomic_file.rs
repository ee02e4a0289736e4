//! Files that are written in one step: a reader, and a start after a loss of power, finds the old file or the new one,
//! never a part of one.

use super::guard::assert_may_block;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, fsync, linkat, openat, renameat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a file's name that the name of its draft starts with: the rest of it has to fit, too.
const HEAD: usize = 200;

/// Puts a file in the place of what has its name, for its owner only, and makes it durable.
///
/// # Errors
/// What the system says. The old file is then still there, unless only the folder could not be made durable.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::open(path, 0o600)?;
    // The umask can only have taken bits away.
    fchmod(&draft.file, Mode::from_raw_mode(0o600))?;
    draft.fill(bytes)?;
    draft.rename()
}

/// Puts a file where there is none, readable as the umask allows, and makes it durable.
///
/// # Errors
/// What the system says; `AlreadyExists` when the name is taken.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = Draft::open(path, 0o666)?;
    draft.fill(bytes)?;
    // Unlike a rename, a link fails where the name is taken meanwhile. FAT has no links.
    match linkat(&draft.folder, &draft.name, &draft.folder, draft.target, AtFlags::empty()) {
        Ok(()) => draft.sync_folder(),
        Err(errno) if errno == Errno::EXIST || path.symlink_metadata().is_ok() => Err(errno.into()),
        Err(_) => draft.rename(),
    }
}

/// The file under another name, beside the place where it belongs. It is removed when this is dropped.
struct Draft<'a> {
    /// Everything is done below this descriptor: the path may lead elsewhere meanwhile.
    folder: File,
    target: &'a OsStr,
    name: OsString,
    file: File,
}

impl Draft<'_> {
    fn open(path: &Path, mode: u32) -> io::Result<Draft<'_>> {
        assert_may_block();
        let target = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = File::from(retry_on_intr(|| openat(CWD, folder, flags, Mode::empty()))?);
        // Another process may write the same file, and one that was killed may have left its draft.
        let mut random = [0; 8];
        getrandom(&mut random[..], GetRandomFlags::empty())?;
        let head = &target.as_bytes()[..target.len().min(HEAD)];
        let mut name = OsStr::from_bytes(head).to_os_string();
        name.push(format!(".{:016x}.part", u64::from_le_bytes(random)));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = retry_on_intr(|| openat(&folder, &name, flags, Mode::from_raw_mode(mode)))?;
        Ok(Draft { folder, target, name, file: File::from(file) })
    }

    fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)?;
        self.file.sync_all()
    }

    fn rename(&self) -> io::Result<()> {
        renameat(&self.folder, &self.name, &self.folder, self.target)?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> io::Result<()> {
        match retry_on_intr(|| fsync(&self.folder)) {
            // Some file systems have nothing to sync in a folder.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After a rename it is gone. One that cannot be removed is in nobody's way.
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// An empty folder.
    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ptorrent-atomic-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaced_file_is_whole_and_for_its_owner_only() {
        let folder = folder("replace");
        let path = folder.join("x");
        fs::write(&path, "the old one").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&folder), ["x"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn failed_write_leaves_the_old_file_and_no_draft() {
        let folder = folder("fails");
        // A folder is in the place of the file, so that the rename fails.
        fs::create_dir_all(folder.join("x/y")).unwrap();
        replace(&folder.join("x"), b"new").unwrap_err();
        fs::write(folder.join("z"), "old").unwrap();
        let taken = create(&folder.join("z"), b"new").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(folder.join("z")).unwrap(), b"old");
        let mut left = names(&folder);
        left.sort();
        assert_eq!(left, ["x", "z"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn longest_name_can_be_written() {
        let folder = folder("long");
        let name = "n".repeat(255);
        create(&folder.join(&name), b"new").unwrap();
        replace(&folder.join(&name), b"newer").unwrap();
        assert_eq!(names(&folder), [name]);
        fs::remove_dir_all(folder).unwrap();
    }
}
