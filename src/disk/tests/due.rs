//! Piece hashes that are not in memory.

use super::*;
use crate::api::BadInfo;
use crate::disk::due::{keep, kept as kept_by};
use crate::disk::info::digest;
use crate::limits::DUE_HELD;
use crate::proto::extended::metadata::PIECE;
use crate::proto::id::InfoHash;
use crate::proto::metainfo::wrap;

/// A torrent whose hashes lie in the state folder.
fn kept(temp: &Temp, seed: u8) -> (Spec, Vec<u8>) {
    let (meta, bytes) = torrent(&[("", 5 * 16384 + 7, false)], 16384, seed);
    let mut spec = spec(&temp.0.join(seed.to_string()), &meta);
    keep(&mut spec.meta, &temp.0).unwrap();
    assert!(spec.meta.info.is_empty() && !spec.meta.holds_hashes());
    spec.state_dir = Some(temp.0.clone());
    (spec, bytes)
}

fn copy(temp: &Temp, spec: &Spec) -> PathBuf {
    temp.0.join("torrents").join(format!("{}.torrent", spec.meta.info_hash))
}

fn check(rig: &Rig, torrent: TorrentId, count: u32) -> Result<u32, String> {
    rig.lanes[0].1.send(Job::Check { torrent, first: 0, count }).unwrap();
    match rig.hear() {
        Done::Checked { result, .. } => result.map(|right| right.count()).map_err(|e| e.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hashes_are_read_when_needed_and_the_copy_is_a_torrent_of_its_own() {
    let temp = Temp::new();
    let (spec, bytes) = kept(&temp, 1);
    fs::create_dir_all(&spec.dir).unwrap();
    fs::write(spec.dir.join("top"), &bytes).unwrap();
    let again = Metainfo::parse(&fs::read(copy(&temp, &spec)).unwrap()).unwrap();
    assert_eq!(again.info_hash, spec.meta.info_hash);
    let mut rig = Rig::new(1);
    let (torrent, opened) = rig.open(spec).unwrap();
    assert_eq!(opened.candidates.count(), 6);
    assert_eq!(check(&rig, torrent, 6), Ok(6));
}

#[test]
fn a_copy_that_is_gone_or_changed_is_an_error_that_names_it() {
    for text in [None, Some("d4:infod6:pieces20:aaaaaaaaaaaaaaaaaaaaee"), Some("x")] {
        let temp = Temp::new();
        let (spec, bytes) = kept(&temp, 2);
        fs::create_dir_all(&spec.dir).unwrap();
        fs::write(spec.dir.join("top"), &bytes).unwrap();
        let path = copy(&temp, &spec);
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let mut rig = Rig::new(1);
        let (torrent, _) = rig.open(spec).unwrap();
        let error = check(&rig, torrent, 6).unwrap_err();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_copy_is_written_once_and_mended() {
    let temp = Temp::new();
    let (spec, _) = kept(&temp, 3);
    let path = copy(&temp, &spec);
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let (right, written) = (fs::read(&path).unwrap(), inode());
    kept(&temp, 3);
    assert_eq!(inode(), written);
    fs::write(&path, vec![b'x'; right.len()]).unwrap();
    kept(&temp, 3);
    assert_eq!(fs::read(&path).unwrap(), right);
    assert_eq!(fs::read_dir(temp.0.join("torrents")).unwrap().count(), 1, "no draft is left");
}

#[test]
fn without_a_copy_the_hashes_stay_in_memory() {
    let temp = Temp::new();
    let (mut meta, _) = torrent(&[("", 20_000, false)], 16384, 4);
    fs::write(temp.0.join("torrents"), "in the way").unwrap();
    keep(&mut meta, &temp.0).unwrap_err();
    assert!(meta.holds_hashes());
}

#[test]
fn metadata_from_peers_is_hashed_read_kept_and_served() {
    let temp = Temp::new();
    let (meta, _) = torrent(&[("", 3000 * 16384, false)], 16384, 5);
    let mut link = spec(&temp.0.join("here"), &meta);
    link.meta = Metainfo::unknown(meta.info_hash, "link");
    link.state_dir = Some(temp.0.clone());
    let pieces: Vec<Box<[u8]>> = meta.info.chunks(PIECE as usize).map(Box::from).collect();
    assert!(pieces.len() > 3);
    let mut wrong = pieces.clone();
    wrong[1][5] ^= 1;
    assert_eq!(digest(&link, wrong).unwrap_err(), BadInfo::Hash);
    assert!(kept_by(meta.info_hash, &temp.0).is_none());
    let got = digest(&link, pieces.clone()).unwrap();
    assert!(got.info.is_empty() && got.info_len as usize == meta.info.len() && !got.holds_hashes());
    let again = kept_by(meta.info_hash, &temp.0).unwrap();
    assert_eq!((&again.info, &again.hashes), (&meta.info, &meta.hashes));
    // Others are served from the copy, or from memory.
    link.meta = *got;
    for of in [&link, &spec(&temp.0, &meta)] {
        let due = Due::default();
        for (n, piece) in (0..).zip(&pieces) {
            assert_eq!(due.piece(of, n).unwrap(), *piece);
        }
        assert!(due.piece(of, pieces.len() as u32).unwrap().is_empty());
    }
    // It hashes right, and is no torrent.
    let info = b"d4:name1:xe";
    link.meta = Metainfo::unknown(InfoHash::of(info), "link");
    let refused = digest(&link, vec![info[..].into()]).unwrap_err();
    assert!(matches!(refused, BadInfo::Refused(why) if why.contains("\"pieces\"")));
    // A copy that was changed is none.
    fs::write(temp.0.join("torrents").join(format!("{}.torrent", meta.info_hash)), wrap(b"de")).unwrap();
    assert!(kept_by(meta.info_hash, &temp.0).is_none());
}

#[test]
fn few_hashes_are_held_at_a_time() {
    let temp = Temp::new();
    let due = Due::default();
    let pieces = 1 << 17;
    for seed in 0..6 {
        let hashes = vec![seed; pieces * 20];
        let plan = Plan::bare("top", Content::Single(pieces as u64 * 16384), 16384, &hashes);
        let mut spec = spec(&temp.0, &Metainfo::parse(&build(&plan)).unwrap());
        keep(&mut spec.meta, &temp.0).unwrap();
        spec.state_dir = Some(temp.0.clone());
        assert!(due.is(&spec, 17, &[seed; 20]).unwrap() && !due.is(&spec, 17, &[99; 20]).unwrap());
        assert!(!due.is(&spec, pieces as u32, &[seed; 20]).unwrap(), "there is no such piece");
        assert!(due.bytes() <= DUE_HELD);
        if seed == 5 {
            let held = due.bytes();
            due.forget(spec.meta.info_hash);
            assert!(due.bytes() < held);
        }
    }
}

/// Makes a copy as old as one that nobody has asked for since long ago.
fn age(path: &Path) {
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
}

#[test]
fn a_copy_goes_with_its_torrent_unless_another_process_has_it() {
    let temp = Temp::new();
    let (spec, _) = kept(&temp, 7);
    let path = copy(&temp, &spec);
    // Another folder, and workers that share nothing.
    let elsewhere = Spec { dir: temp.0.join("other"), ..self::spec(&temp.0, &spec.meta) };
    let elsewhere = Spec { state_dir: spec.state_dir.clone(), ..elsewhere };
    let (mut rig, mut other) = (Rig::new(1), Rig::new(1));
    let (theirs, _) = other.open(elsewhere).unwrap();
    let forget = |rig: &mut Rig| {
        let (torrent, _) = rig.open(spec_again(&spec)).unwrap();
        rig.close(torrent);
        rig.send(0, Job::Forget { torrent, spec: Arc::new(spec_again(&spec)) });
        // It has no answer: the next job has.
        rig.send(0, Job::Room { torrent, bytes: 0 });
        assert!(matches!(rig.hear(), Done::Room { .. }));
    };
    forget(&mut rig);
    assert!(path.exists());
    other.close(theirs);
    drop(other);
    forget(&mut rig);
    assert!(!path.exists());
    // Again: there is nothing to be removed.
    forget(&mut rig);
}

fn spec_again(spec: &Spec) -> Spec {
    Spec { state_dir: spec.state_dir.clone(), ..self::spec(&spec.dir, &spec.meta) }
}

#[test]
fn copies_that_nobody_asks_for_go_after_a_while() {
    let temp = Temp::new();
    let (used, old, new, again) = (kept(&temp, 1).0, kept(&temp, 2).0, kept(&temp, 3).0, kept(&temp, 4).0);
    let draft = temp.0.join("torrents").join(format!("{}.77", old.meta.info_hash));
    fs::write(&draft, b"d").unwrap();
    fs::write(temp.0.join("torrents/notes"), b"of the user").unwrap();
    let mut rig = Rig::new(1);
    let _open = rig.open(spec_again(&used)).unwrap();
    for spec in [&used, &old, &again] {
        age(&copy(&temp, spec));
    }
    age(&draft);
    age(&temp.0.join("torrents/notes"));
    // A start asks for this one.
    drop(kept(&temp, 4));
    sweep(&temp.0);
    let there = [&used, &old, &new, &again].map(|spec| copy(&temp, spec).exists());
    assert_eq!(there, [true, false, true, true]);
    assert!(!draft.exists() && temp.0.join("torrents/notes").exists());
}
