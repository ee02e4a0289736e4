//! What becomes of a seeder whose files others get at.

use super::leecher::Leecher;
use crate::common::{Folder, noise};
use crate::{PIECE, Running, create, info_hash};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// A seeder of one file of 16 pieces.
struct Served {
    _folder: Folder,
    file: PathBuf,
    data: Vec<u8>,
    hash: [u8; 20],
    addr: String,
    _seeder: Running,
}

impl Served {
    fn new(name: &str) -> Served {
        let folder = Folder::new(name);
        let data = noise(16 * PIECE, 61);
        folder.file("there/file", &data);
        let file = folder.0.join("there/file");
        let torrent = create(&folder, "file");
        fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        fs::set_permissions(folder.0.join("there"), Permissions::from_mode(0o555)).unwrap();
        let mut seeder = Running::start(&folder, &["--seed", "-d", "there", &torrent]);
        let addr = seeder.addr();
        seeder.line_with(&[r#""state":"seeding""#]);
        let hash = info_hash(&folder, &torrent);
        fs::set_permissions(folder.0.join("there"), Permissions::from_mode(0o755)).unwrap();
        Served { _folder: folder, file, data, hash, addr, _seeder: seeder }
    }

    fn leecher(&self) -> Leecher {
        Leecher::new(&self.addr, self.hash, self.data.len(), PIECE)
    }

    /// Gets pieces and compares them.
    fn assert_serves(&self, pieces: &[usize]) {
        for (piece, bytes) in self.leecher().get(pieces, Duration::ZERO).unwrap() {
            assert!(bytes == self.data[piece * PIECE..][..PIECE], "piece {piece}");
        }
    }
}

#[test]
fn a_file_cut_short_under_the_seeder_costs_the_pieces_that_are_gone() {
    let served = Served::new("served-cut");
    served.assert_serves(&(0..16).collect::<Vec<_>>());
    fs::set_permissions(&served.file, Permissions::from_mode(0o644)).unwrap();
    File::options().write(true).open(&served.file).unwrap().set_len(12 * PIECE as u64).unwrap();
    // Nobody knows until it is asked for.
    let mut unlucky = served.leecher();
    thread::spawn(move || unlucky.get(&[13], Duration::ZERO));
    let start = Instant::now();
    while served.leecher().pieces().contains(&13) {
        assert!(start.elapsed() < Duration::from_secs(120), "it still claims what is gone");
        thread::sleep(Duration::from_millis(20));
    }
    served.assert_serves(&(0..12).collect::<Vec<_>>());
}
