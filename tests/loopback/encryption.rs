//! `--encryption`, from one process to another.

use crate::common::{Folder, noise};
use crate::{PIECE, Running, assert_same, create, errors, scripted};
use rustix::process::Signal;
use std::fs;

/// A download with these two settings; gives the log of both sides.
#[track_caller]
fn between(seeds: &str, leeches: &str) -> String {
    let folder = Folder::new(&format!("crypt-{seeds}-{leeches}"));
    folder.file("there/file", &noise(20 * PIECE + 777, 8));
    let torrent = create(&folder, "file");
    let mut seeder =
        Running::start(&folder, &["-vv", "--seed", "-d", "there", "--encryption", seeds, &torrent]);
    let addr = seeder.addr();
    let args = ["-vv", "-x", "-d", "here", "--encryption", leeches, "--peer", &addr, &torrent];
    assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
    assert_same(&folder.0.join("there"), &folder.0.join("here"));
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end(), Some(0));
    errors(&folder)
}

#[test]
fn two_that_require_it_speak_rc4() {
    let log = between("required", "required");
    assert_eq!(log.matches("encrypted, payload: Rc4").count(), 2, "{log}");
    let log = between("enabled", "required");
    assert_eq!(log.matches("encrypted, payload: Rc4").count(), 2, "{log}");
    let log = between("required", "enabled");
    assert_eq!(log.matches("encrypted, payload: Rc4").count(), 2, "{log}");
}

#[test]
fn two_that_may_choose_hide_the_handshake_only() {
    let log = between("enabled", "enabled");
    assert_eq!(log.matches("encrypted, payload: Plain").count(), 2, "{log}");
}

#[test]
fn who_has_it_disabled_is_called_in_the_clear() {
    let log = between("disabled", "enabled");
    assert!(log.contains("is called again, in the clear"), "{log}");
    assert!(!log.contains("encrypted, payload"), "{log}");
    let log = between("enabled", "disabled");
    assert!(!log.contains("encrypted, payload"), "{log}");
}

/// The one that does not get what it requires says so, at either end.
#[test]
fn who_requires_it_refuses_the_clear_and_says_so() {
    for (seeds, leeches, due) in [
        ("required", "disabled", "is not encrypted and --encryption is required: refused"),
        ("disabled", "required", "no encrypted handshake, and --encryption is required: "),
    ] {
        let folder = Folder::new(&format!("refuse-{seeds}"));
        folder.file("there/file", &noise(PIECE, 8));
        let torrent = create(&folder, "file");
        let verbose = |wanted: &str| if wanted == "required" { "-v" } else { "-q" };
        let args = [verbose(seeds), "--seed", "-d", "there", "--encryption", seeds, &torrent];
        let mut seeder = Running::start(&folder, &args);
        let addr = seeder.addr();
        let args = [verbose(leeches), "-d", "here", "--encryption", leeches, "--peer", &addr, &torrent];
        let leech = Running::start(&folder, &args);
        while !errors(&folder).contains(due) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        leech.signal(Signal::INT);
        let (status, lines) = leech.end_with_lines();
        assert_eq!(status, Some(130));
        assert!(!lines.iter().any(|line| line.contains(r#""event":"complete""#)), "{lines:?}");
    }
}

/// A peer that takes an encrypted handshake for nonsense, and hangs up, gets one in the clear: also by default.
#[test]
fn a_foreign_seeder_without_encryption_is_called_again() {
    let (folder, data, seeder) = scripted("crypt-foreign");
    seeder.allow(crate::ALL);
    let peer = seeder.addr.to_string();
    let args = ["-vv", "-x", "-d", "here", "--encryption", "enabled", "--peer", &peer, "file.torrent"];
    assert_eq!(Running::start(&folder, &args).end(), Some(0), "{}", errors(&folder));
    assert!(fs::read(folder.0.join("here/file")).unwrap() == data);
    assert_eq!(errors(&folder).matches("is called again, in the clear").count(), 1);
}
