//! Piece hashes that are not in memory.

use super::*;
use crate::api::BadInfo;
use crate::disk::due::{keep, kept as kept_by};
use crate::disk::info::digest;
use crate::disk::piece_hashes::PieceHashes;
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
        let hashes = PieceHashes::default();
        for (n, piece) in (0..).zip(&pieces) {
            assert_eq!(hashes.piece(of, n).unwrap(), *piece);
        }
        assert!(hashes.piece(of, pieces.len() as u32).unwrap().is_empty());
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
    let hashes = PieceHashes::default();
    let pieces = 1 << 17;
    for seed in 0..6 {
        let spec = large(&temp, pieces, seed);
        assert!(hashes.is(&spec, 17, &[seed; 20]).unwrap() && !hashes.is(&spec, 17, &[99; 20]).unwrap());
        assert!(!hashes.is(&spec, pieces as u32, &[seed; 20]).unwrap(), "there is no such piece");
        assert!(hashes.effort().0 <= DUE_HELD);
        if seed == 5 {
            let held = hashes.effort().0;
            hashes.forget(spec.meta.info_hash);
            assert!(hashes.effort().0 < held);
        }
    }
}

/// A torrent of so many pieces whose hashes, all of this byte, lie in the state folder.
fn large(temp: &Temp, pieces: usize, seed: u8) -> Spec {
    let bytes = vec![seed; pieces * 20];
    let plan = Plan::bare("top", Content::Single(pieces as u64 * 16384), 16384, &bytes);
    let mut spec = spec(&temp.0, &Metainfo::parse(&build(&plan)).unwrap());
    keep(&mut spec.meta, &temp.0).unwrap();
    spec.state_dir = Some(temp.0.clone());
    spec
}

#[test]
fn requests_for_metadata_hash_each_copy_once_and_read_slices_from_then_on() {
    let temp = Temp::new();
    let hashes = PieceHashes::default();
    // Each is more than half of what is held.
    let specs = [large(&temp, 250_000, 1), large(&temp, 250_000, 2)];
    for round in 0..20 {
        for spec in &specs {
            let piece = hashes.piece(spec, round).unwrap();
            assert_eq!(piece.len(), PIECE as usize);
        }
    }
    assert_eq!(hashes.effort(), (0, 2), "bytes held, copies hashed");
}

#[test]
fn pieces_of_two_large_torrents_by_turns_hash_each_copy_once() {
    let temp = Temp::new();
    let hashes = PieceHashes::default();
    let specs = [large(&temp, 250_000, 1), large(&temp, 250_000, 2)];
    for piece in 0..20 {
        for (spec, seed) in specs.iter().zip(1..) {
            assert!(hashes.is(spec, piece, &[seed; 20]).unwrap());
            assert!(!hashes.is(spec, piece, &[9; 20]).unwrap());
        }
    }
    assert_eq!(hashes.effort().1, 2);
    assert!(hashes.effort().0 <= DUE_HELD);
    // One that only peers asked for before is held as soon as its pieces come.
    let hashes = PieceHashes::default();
    hashes.piece(&specs[0], 0).unwrap();
    (0..20).for_each(|piece| assert!(hashes.is(&specs[0], piece, &[1; 20]).unwrap()));
    assert_eq!(hashes.effort().1, 2);
    assert!(hashes.effort().0 > 20 * 250_000);
}

#[test]
fn a_copy_that_has_changed_is_hashed_again_and_a_wrong_one_once() {
    let temp = Temp::new();
    let hashes = PieceHashes::default();
    let spec = large(&temp, 1000, 1);
    let path = copy(&temp, &spec);
    let right = fs::read(&path).unwrap();
    hashes.piece(&spec, 0).unwrap();
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    fs::write(&path, &wrong).unwrap();
    age(&path);
    for _ in 0..5 {
        hashes.piece(&spec, 0).unwrap_err();
        hashes.is(&spec, 0, &[1; 20]).unwrap_err();
    }
    assert_eq!(hashes.effort(), (0, 2));
    fs::write(&path, &right).unwrap();
    assert_eq!(*hashes.piece(&spec, 0).unwrap(), spec_info(&right)[..PIECE as usize]);
    assert_eq!(hashes.effort().1, 3);
}

fn spec_info(torrent: &[u8]) -> Vec<u8> {
    Metainfo::parse(torrent).unwrap().info.to_vec()
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
