//! Folders and files that are for their owner only: their names tell which torrents there are, and what is in them whom
//! we met.

use super::guard::assert_may_block;
use rustix::fs::{Mode, fchmod, fstat};
use rustix::process::geteuid;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the state folder has in it, and what drafts of it are called.
const CONTENTS: [&str; 3] = ["resume", "torrents", "dht"];

/// Makes the state folder and those that lead to it, as far as they are missing, for their owner only. One that is there
/// loses what others may do with it; not if there is something else in it, as in a home folder that the user names.
///
/// # Errors
/// What the system says to making it. One that is not ours stays as it is.
pub fn make_state_folder(state: &Path) -> io::Result<()> {
    let there = make(state)?;
    if is_open_to_others(&there) && holds_only_state(state) {
        close_to_others(state);
    }
    Ok(())
}

/// Makes a folder in the state folder, for its owner only, and gives its path. One that is there loses what others may
/// do with it.
///
/// # Errors
/// What the system says to making it. One that is not ours stays as it is.
pub fn make_folder(state: &Path, name: &str) -> io::Result<PathBuf> {
    make_state_folder(state)?;
    let path = state.join(name);
    let there = make(&path)?;
    if is_open_to_others(&there) {
        close_to_others(&path);
    }
    Ok(path)
}

/// Takes from others what they may do with a file of ours that is open.
pub fn tighten(file: &File) {
    let Ok(stat) = fstat(file) else { return };
    let mode = Mode::from_raw_mode(stat.st_mode);
    if stat.st_uid == geteuid().as_raw() && mode.intersects(Mode::RWXG | Mode::RWXO) {
        // Where the file system has no modes, there is nothing to take.
        let _ = fchmod(file, Mode::from_raw_mode(0o600));
    }
}

fn make(path: &Path) -> io::Result<Metadata> {
    assert_may_block();
    match fs::metadata(path) {
        Ok(there) => Ok(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            // The umask may have taken away what we need.
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
            fs::metadata(path)
        }
        Err(error) => Err(error),
    }
}

fn is_open_to_others(there: &Metadata) -> bool {
    there.is_dir() && there.uid() == geteuid().as_raw() && there.mode() & 0o077 != 0
}

fn holds_only_state(state: &Path) -> bool {
    let is_ours = |name: &OsStr| {
        let name = name.to_string_lossy();
        CONTENTS.contains(&name.split('.').next().unwrap_or_default())
    };
    fs::read_dir(state).is_ok_and(|mut all| all.all(|entry| entry.is_ok_and(|e| is_ours(&e.file_name()))))
}

fn close_to_others(folder: &Path) {
    if let Err(error) = fs::set_permissions(folder, Permissions::from_mode(0o700)) {
        log::info!("{} stays open to others: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn open_up(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn state_folders_are_made_and_tightened_for_their_owner() {
        let temp = std::env::temp_dir().join(format!("ptorrent-private-{}", std::process::id()));
        let _ = fs::remove_dir_all(&temp);
        let state = temp.join("a/state");
        let folder = make_folder(&state, "resume").unwrap();
        assert_eq!([&temp, &state, &folder].map(|path| mode(path)), [0o700; 3]);
        open_up(&state, 0o755);
        open_up(&folder, 0o777);
        fs::write(state.join("dht.0123.part"), "").unwrap();
        make_folder(&state, "resume").unwrap();
        assert_eq!([&state, &folder].map(|path| mode(path)), [0o700; 2]);
        // A folder of the user's that holds other things keeps its mode; what is ours in it does not.
        fs::write(state.join("public_html"), "").unwrap();
        open_up(&state, 0o755);
        open_up(&folder, 0o755);
        make_folder(&state, "resume").unwrap();
        assert_eq!([&state, &folder].map(|path| mode(path)), [0o755, 0o700]);
        fs::remove_dir_all(temp).unwrap();
    }

    #[test]
    fn file_that_others_may_read_is_tightened() {
        let path = std::env::temp_dir().join(format!("ptorrent-private-file-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        open_up(&path, 0o664);
        tighten(&File::open(&path).unwrap());
        assert_eq!(mode(&path), 0o600);
        fs::remove_file(path).unwrap();
    }
}
