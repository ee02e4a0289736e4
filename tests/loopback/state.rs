//! What the program leaves in its state folder is for its owner only.

use crate::{ALL, PTORRENT, Running, errors, scripted};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Each folder below `path` that has another mode than 0700, and each file that has another than 0600.
fn open_to_others(path: &Path) -> Vec<String> {
    let metadata = fs::metadata(path).unwrap();
    let (mode, due) = (metadata.permissions().mode() & 0o777, if metadata.is_dir() { 0o700 } else { 0o600 });
    let mut wrong = Vec::new();
    if mode != due {
        wrong.push(format!("{} is {mode:o}", path.display()));
    }
    if metadata.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| wrong.extend(open_to_others(&entry.unwrap().path())));
    }
    wrong
}

fn open_up(path: &Path) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_up(&entry.unwrap().path()));
    }
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn state_is_for_its_owner_only_whatever_the_umask() {
    let (folder, _, seeder) = scripted("private");
    seeder.allow(ALL);
    let peer = seeder.addr.to_string();
    let state = folder.0.join("state");
    let run = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 0; exec \"$0\" \"$@\"", PTORRENT]);
        let args = ["-b", "127.0.0.1", "-x", "-d", "here", "--peer", &peer, "file.torrent"];
        assert_eq!(Running::by(shell, &folder, &args).end(), Some(0), "{}", errors(&folder));
    };
    run();
    assert!(state.join("resume").is_dir() && state.join("torrents").is_dir());
    assert_eq!(open_to_others(&state), [""; 0]);
    // What an earlier version left open is closed.
    open_up(&state);
    run();
    assert_eq!(open_to_others(&state), [""; 0]);
    // A download is the user's, as the umask has it.
    let mode = fs::metadata(folder.0.join("here/file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
}
