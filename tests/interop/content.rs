//! What is shared: content that a seed determines, and torrents that other tools make of it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::clients::{self, Client};
use super::lab::Lab;

/// A file, or a folder of files. Nothing of it is kept: it can be written and compared any number of times.
#[derive(Clone)]
pub(crate) struct Content {
    name: &'static str,
    /// Paths below the folder of that name; a single file has none.
    files: Vec<(&'static str, u64)>,
}

impl Content {
    pub(crate) fn single(length: u64) -> Content {
        Content { name: "one file.bin", files: vec![("", length)] }
    }

    /// Nested folders, an empty file, odd sizes with piece borders inside files and files inside pieces.
    pub(crate) fn folder() -> Content {
        let files = vec![
            ("a/b/c/deep.bin", 5_000_001),
            ("a/empty", 0),
            ("a/one byte", 1),
            ("a/three pieces.bin", 3 * 262_144),
            ("b/just under a block", 16_383),
            ("b/just over a block", 16_385),
            ("b/naïve café/日本語 ファイル.bin", 1_234_567),
            ("b/with  two spaces & signs (1) [2] #3 %20 +.txt", 77_777),
            ("last.bin", 2_999_999),
        ];
        Content { name: "a folder ü", files }
    }

    /// Writes it below `dir`.
    pub(crate) fn write(&self, dir: &Path) {
        for (index, (path, length)) in self.files.iter().enumerate() {
            let path = self.path(dir, path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let mut bytes = Bytes::new(index, *length);
            while let Some(chunk) = bytes.next_chunk() {
                file.write_all(chunk).unwrap();
            }
            file.flush().unwrap();
        }
    }

    /// Every file is there, byte for byte.
    pub(crate) fn assert_in(&self, dir: &Path) {
        self.assert_where(dir, |_| true);
    }

    /// Every file that has bytes is there, byte for byte.
    pub(crate) fn assert_bytes_in(&self, dir: &Path) {
        self.assert_where(dir, |length| length > 0);
    }

    fn assert_where(&self, dir: &Path, counts: impl Fn(u64) -> bool) {
        for (index, (path, length)) in self.files.iter().enumerate().filter(|(_, (_, len))| counts(*len)) {
            let path = self.path(dir, path);
            let name = path.display();
            let file = File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(file.metadata().unwrap().len(), *length, "length of {name}");
            let mut file = BufReader::new(file);
            let mut bytes = Bytes::new(index, *length);
            let mut offset = 0;
            let mut found = Vec::new();
            while let Some(chunk) = bytes.next_chunk() {
                found.resize(chunk.len(), 0);
                file.read_exact(&mut found).unwrap();
                assert!(found == chunk, "{name} differs between {offset} and {}", offset + chunk.len());
                offset += chunk.len();
            }
        }
    }

    /// As `assert_in`, and nothing else is left in the folder.
    pub(crate) fn assert_only_in(&self, dir: &Path) {
        self.assert_in(dir);
        let mut found = Vec::new();
        let mut folders = vec![dir.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let list = if entry.file_type().unwrap().is_dir() { &mut folders } else { &mut found };
                list.push(entry.path());
            }
        }
        let mut wanted: Vec<PathBuf> = self.files.iter().map(|(path, _)| self.path(dir, path)).collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted);
    }

    fn path(&self, dir: &Path, file: &str) -> PathBuf {
        let path = dir.join(self.name);
        if file.is_empty() { path } else { path.join(file) }
    }
}

/// The bytes of one file, in chunks.
struct Bytes {
    state: u64,
    left: u64,
    chunk: Vec<u8>,
}

impl Bytes {
    fn new(file: usize, length: u64) -> Bytes {
        Bytes { state: file as u64 + 1, left: length, chunk: Vec::new() }
    }

    fn next_chunk(&mut self) -> Option<&[u8]> {
        let length = self.left.min(1 << 16) as usize;
        if length == 0 {
            return None;
        }
        self.left -= length as u64;
        self.chunk.clear();
        while self.chunk.len() < length {
            // splitmix64: no two blocks alike, so that a block in the wrong place shows.
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.chunk.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        self.chunk.truncate(length);
        Some(&self.chunk)
    }
}

/// Who makes the .torrent file. Transmission leaves empty files out.
#[derive(Clone, Copy)]
pub(crate) enum Maker {
    Libtorrent,
    Mktorrent,
    Transmission,
}

/// A .torrent file and what it is of.
pub(crate) struct Torrent {
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
    /// In hex.
    pub(crate) info_hash: String,
}

impl Torrent {
    /// Pieces are of 256 KiB. Mktorrent insists on a tracker.
    pub(crate) fn new(lab: &Lab, maker: Maker, content: Content, tracker: Option<&str>) -> Torrent {
        let data = lab.folder("torrent");
        content.write(&data);
        let target = data.join(content.name);
        let path = data.join("made.torrent");
        let mut command;
        match maker {
            Maker::Libtorrent => {
                command = Command::new(Client::Libtorrent.program().unwrap());
                command
                    .args(["-W", "ignore"])
                    .arg(clients::libtorrent_script())
                    .arg("make")
                    .arg(&path)
                    .arg(target);
                command.arg("--piece-length=262144").args(tracker.map(|url| format!("--tracker={url}")));
            }
            Maker::Mktorrent => {
                command = Command::new("mktorrent");
                command.args(["-l", "18", "-a", tracker.unwrap(), "-o"]).arg(&path).arg(target);
            }
            Maker::Transmission => {
                command = Command::new("transmission-create");
                command.args(["-s", "256"]).args(tracker.iter().flat_map(|url| ["-t", url]));
                command.arg("-o").arg(&path).arg(target);
            }
        }
        let made = command.stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

        let shown = Command::new("transmission-show").arg(&path).output().unwrap().stdout;
        let shown = String::from_utf8_lossy(&shown);
        let info_hash = shown.lines().find_map(|line| line.trim().strip_prefix("Hash: "));
        let info_hash = info_hash.unwrap_or_else(|| panic!("transmission-show: {shown}")).to_string();
        Torrent { path, content, info_hash }
    }

    /// The same for who has no file of it: its path is a magnet link, with `more` at the end.
    pub(crate) fn link(&self, more: &str) -> Torrent {
        let path = format!("magnet:?xt=urn:btih:{}{more}", self.info_hash).into();
        Torrent { path, content: self.content.clone(), info_hash: self.info_hash.clone() }
    }
}
