//! What is taken back after a failure, where somebody has changed the folders meanwhile.

use super::*;
use crate::disk::claims::Id;
use crate::disk::folders::Folders;
use crate::disk::partfile;
use crate::disk::storage::make_file;
use crate::proto::id::InfoHash;
use std::os::unix::fs::symlink;

/// A download folder in which `top/sub/a` was made, and a folder of somebody else with the same names in it.
fn made(temp: &Temp) -> (Spec, Folders, Id) {
    let (meta, _) = torrent(&[("sub/a", 20_000, false), ("b", 10, false)], BLOCK, 1);
    let spec = spec(&temp.0.join("here"), &meta);
    fs::create_dir_all(&spec.dir).unwrap();
    fs::create_dir_all(temp.0.join("theirs/sub")).unwrap();
    fs::create_dir_all(temp.0.join("theirs/empty")).unwrap();
    fs::write(temp.0.join("theirs/sub/a"), "of somebody else").unwrap();
    let mut folders = Folders::of(&spec).unwrap();
    let (_, id, _) = make_file(&spec, 0, &mut folders).unwrap();
    (spec, folders, id)
}

#[test]
fn what_was_made_is_removed_with_its_folders() {
    let temp = Temp::new();
    let (spec, mut folders, id) = made(&temp);
    folders.remove_file(spec.meta.paths.folders(0), spec.meta.paths.name(0), id);
    assert!(spec.dir.join("top/sub").is_dir() && !spec.dir.join("top/sub/a").exists());
    folders.remove_made();
    assert_eq!(fs::read_dir(&spec.dir).unwrap().count(), 0);
}

#[test]
fn removal_does_not_follow_a_folder_that_was_swapped() {
    for entered in [true, false] {
        let temp = Temp::new();
        let (spec, mut folders, id) = made(&temp);
        if !entered {
            // The folders that lead to the file are not open any more.
            folders.enter(std::iter::empty(), false).unwrap();
        }
        fs::rename(spec.dir.join("top"), spec.dir.join("moved")).unwrap();
        symlink(temp.0.join("theirs"), spec.dir.join("top")).unwrap();
        fs::remove_file(spec.dir.join("moved/sub/a")).unwrap();
        fs::remove_file(temp.0.join("theirs/sub/a")).unwrap();
        folders.remove_made();
        assert!(temp.0.join("theirs/sub").is_dir(), "an empty folder of somebody else's");
        fs::write(temp.0.join("theirs/sub/a"), "of somebody else").unwrap();
        folders.remove_file(spec.meta.paths.folders(0), spec.meta.paths.name(0), id);
        assert!(temp.0.join("theirs/sub/a").exists());
    }
}

#[test]
fn file_that_was_replaced_is_not_removed() {
    let temp = Temp::new();
    let (spec, mut folders, id) = made(&temp);
    let path = spec.dir.join("top/sub/a");
    fs::rename(temp.0.join("theirs/sub/a"), &path).unwrap();
    folders.remove_file(spec.meta.paths.folders(0), spec.meta.paths.name(0), id);
    assert_eq!(fs::read(&path).unwrap(), b"of somebody else");
}

#[test]
fn part_files_of_two_torrents_never_share_a_name() {
    let (mut meta, _) = torrent(&[("a", 10, false)], BLOCK, 1);
    for name in ["top".to_owned(), "n".repeat(255)] {
        meta.name = name;
        let mut hash = meta.info_hash.0;
        let one = partfile::name(&meta);
        hash[19] ^= 1;
        let other = partfile::name(&Metainfo { info_hash: InfoHash(hash), ..meta.clone() });
        assert!(one != other && one.len() <= 255, "{one} {other}");
    }
}
