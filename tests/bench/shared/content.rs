//! What is downloaded: random bytes, as one file or as many small ones, and the torrents of it.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ptorrent::proto::metainfo::{self, Metainfo, Plan, build};
use sha1::{Digest, Sha1};

use super::guard::at;

/// Data of a torrent, and how it is cut.
pub(crate) struct Content {
    pub(crate) name: &'static str,
    pub(crate) piece_length: usize,
    /// One torrent may have less of it than another.
    all: Arc<Vec<u8>>,
    length: usize,
    /// Paths below a folder of this name, with their lengths; none for one file of this name.
    files: Vec<(Vec<String>, u64)>,
    hashes: Vec<u8>,
    pub(crate) info_hash: [u8; 20],
}

impl Content {
    /// The first `length` bytes of `all` as one file.
    pub(crate) fn one(name: &'static str, all: &Arc<Vec<u8>>, length: usize, piece_length: usize) -> Content {
        Content::new(name, all, length, piece_length, Vec::new())
    }

    /// `count` files of half a KiB to 20 KiB, a hundred in a folder, in pieces of 256 KiB.
    pub(crate) fn many(name: &'static str, all: &Arc<Vec<u8>>, count: usize) -> Content {
        let mut files = Vec::new();
        let mut length = 0;
        for number in 0..count {
            let len = 512 + number * 7919 % 20_000;
            let path = vec![format!("folder-{:03}", number / 100), format!("file-{number:05}.dat")];
            files.push((path, len as u64));
            length += len;
        }
        Content::new(name, all, length, 256 << 10, files)
    }

    /// `part`, which is whole pieces, `count` times: larger than memory.
    pub(crate) fn repeated(
        name: &'static str,
        part: &Arc<Vec<u8>>,
        count: usize,
        piece_length: usize,
    ) -> Content {
        let hashes = hash(part, piece_length).repeat(count);
        Content::cut(name, part, part.len() * count, piece_length, Vec::new(), hashes)
    }

    fn new(
        name: &'static str,
        all: &Arc<Vec<u8>>,
        length: usize,
        piece_length: usize,
        files: Vec<(Vec<String>, u64)>,
    ) -> Content {
        let hashes = hash(&all[..length], piece_length);
        Content::cut(name, all, length, piece_length, files, hashes)
    }

    fn cut(
        name: &'static str,
        all: &Arc<Vec<u8>>,
        length: usize,
        piece_length: usize,
        files: Vec<(Vec<String>, u64)>,
        hashes: Vec<u8>,
    ) -> Content {
        let mut content =
            Content { name, piece_length, all: Arc::clone(all), length, files, hashes, info_hash: [0; 20] };
        let torrent = Metainfo::parse(&content.torrent(None));
        content.info_hash = torrent.map_or([0; 20], |torrent| torrent.info_hash.0);
        content
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.all[..self.length]
    }

    /// These bytes of it, all in one piece; None past its end.
    pub(crate) fn block(&self, piece: usize, begin: usize, length: usize) -> Option<&[u8]> {
        let start = piece * self.piece_length + begin;
        if begin + length > self.piece_length || start + length > self.length {
            return None;
        }
        let start = start % self.all.len();
        self.all.get(start..start + length)
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// How many files it has.
    pub(crate) fn count(&self) -> usize {
        self.files.len().max(1)
    }

    pub(crate) fn pieces(&self) -> usize {
        self.length.div_ceil(self.piece_length)
    }

    fn torrent(&self, announce: Option<&str>) -> Vec<u8> {
        let content = match &self.files[..] {
            [] => metainfo::Content::Single(self.length as u64),
            files => metainfo::Content::Many(files),
        };
        let trackers: Vec<Vec<String>> = announce.iter().map(|url| vec![url.to_string()]).collect();
        let plan = Plan::bare(self.name, content, self.piece_length as u32, &self.hashes);
        build(&Plan { trackers: &trackers, ..plan })
    }

    /// Writes the .torrent, with a tracker or without.
    pub(crate) fn save(&self, path: &Path, announce: Option<&str>) -> io::Result<()> {
        fs::write(path, self.torrent(announce)).map_err(at(path))
    }

    /// The files below `dir`, each with its bytes.
    pub(crate) fn files(&self, dir: &Path) -> impl Iterator<Item = (PathBuf, &[u8])> {
        let root = dir.join(self.name);
        let one = self.files.is_empty().then(|| (root.clone(), self.data()));
        let mut rest = self.data();
        let many = self.files.iter().map(move |(path, len)| {
            let (now, later) = rest.split_at(*len as usize);
            rest = later;
            (root.join(path.join("/")), now)
        });
        one.into_iter().chain(many)
    }

    /// Writes what a seed has.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        for (path, bytes) in self.files(dir) {
            let folder = path.parent().unwrap_or(dir);
            fs::create_dir_all(folder).map_err(at(folder))?;
            fs::write(&path, bytes).map_err(at(&path))?;
        }
        Ok(())
    }

    /// A client that is fast because it leaves bytes out is not fast. Reading also brings all into the page cache.
    pub(crate) fn verify(&self, dir: &Path) -> Result<(), Box<dyn Error>> {
        let mut found = vec![0; 1 << 20];
        for (path, bytes) in self.files(dir) {
            let mut file = File::open(&path).map_err(at(&path))?;
            if file.metadata()?.len() != bytes.len() as u64 {
                return Err(format!("{} has another length", path.display()).into());
            }
            for wanted in bytes.chunks(found.len()) {
                let found = &mut found[..wanted.len()];
                file.read_exact(found).map_err(at(&path))?;
                if found != wanted {
                    return Err(format!("what it wrote differs, in {}", path.display()).into());
                }
            }
        }
        Ok(())
    }
}

/// Bytes without repetition.
pub(crate) fn random(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    let mut state: u64 = 1;
    for word in data.chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        word.copy_from_slice(&(state ^ (state >> 29)).to_le_bytes()[..word.len()]);
    }
    data
}

/// The hashes of all pieces, on two cores.
fn hash(data: &[u8], piece_length: usize) -> Vec<u8> {
    let half = data.len() / 2 / piece_length * piece_length;
    let hash = |part: &[u8]| part.chunks(piece_length).flat_map(Sha1::digest).collect::<Vec<u8>>();
    thread::scope(|scope| {
        let first = scope.spawn(|| hash(&data[..half]));
        let second = hash(&data[half..]);
        [first.join().unwrap_or_default(), second].concat()
    })
}
