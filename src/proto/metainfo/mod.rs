//! Metainfo: what a .torrent file says (BEP 3, 5, 12, 19, 27, 47). The info dictionary is kept as it came, for its
//! hash and for peers that ask for it; of its names only safe ones get out.

pub mod build;
mod info;
mod names;
mod paths;
mod places;
mod sources;
mod uri;

pub use build::{Content, Plan, build, piece_length_for};
pub use names::{is_foul, printable, safe, text};
pub use paths::Paths;
pub use uri::percent_encode;

use super::bencode::{self, Value, decode};
use super::http::is_gzip;
use super::id::InfoHash;
use super::layout::{self, Layout};
use super::tracker::unusable::UnusableUrls;
use crate::limits::{PATH_DEPTH, PATH_MAX, TORRENT_FILE_MAX};
use std::fmt;
use std::ops::Range;

/// A torrent. Every text in it is safe to print.
#[derive(Clone, Debug)]
pub struct Metainfo {
    /// The torrent's name on the network: SHA-1 of `info`.
    pub info_hash: InfoHash,
    /// The info dictionary, byte for byte as it came; empty after [`Metainfo::let_go`].
    pub info: Box<[u8]>,
    /// The bytes of the info dictionary, wherever it is; 0 while it is not known.
    pub info_len: u32,
    /// The safe name: of the only file, or of the folder that holds all files.
    pub name: String,
    /// Whether the torrent is one file without a folder.
    pub single: bool,
    /// Where pieces, blocks and files lie.
    pub layout: Layout,
    /// The SHA-1 digests of the pieces, 20 bytes each, one for every piece of `layout`; empty after
    /// [`Metainfo::let_go`].
    pub hashes: Box<[u8]>,
    /// The files, in the order of `layout`.
    pub files: Vec<File>,
    /// Where they lie below the download folder.
    pub paths: Paths,
    /// Peers come only from the trackers (BEP 27).
    pub private: bool,
    /// Announce URLs in tiers (BEP 12): `announce-list`, and `announce` where that does not have it.
    pub trackers: Vec<Vec<String>>,
    /// URLs of `url-list` (BEP 19).
    pub web_seeds: Vec<String>,
    /// Hosts and ports of DHT nodes (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// Free text of whoever made the torrent.
    pub comment: Option<String>,
    /// The program that made the torrent.
    pub created_by: Option<String>,
    /// The encoding that its maker names; the names themselves are read as UTF-8.
    pub encoding: Option<String>,
    /// When it was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// Trackers and web seeds that were left out.
    pub unusable: UnusableUrls,
    /// The names that are not those of the torrent, in the order of the files.
    pub renamed: Vec<Renamed>,
}

/// A file of a torrent, but for where it lies: see [`Paths`].
#[derive(Clone, Debug)]
pub struct File {
    /// Its length in bytes.
    pub len: u64,
    /// Padding (BEP 47): zeros that are in the pieces and never in a file.
    pub pad: bool,
    /// Meant to be executable (BEP 47).
    pub executable: bool,
    /// Meant to be hidden (BEP 47).
    pub hidden: bool,
    /// What few files have.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Rare {
    symlink: Option<Box<str>>,
    md5sum: Option<Box<str>>,
}

impl File {
    /// Whether it exists on the disk: padding and symbolic links do not.
    pub fn is_stored(&self) -> bool {
        !self.pad && self.symlink().is_none()
    }

    /// The target of a symbolic link (BEP 47), to be printed. Links are never created: one that points out of the
    /// folder, or is put where a later file goes, would lead our writes there.
    pub fn symlink(&self) -> Option<&str> {
        self.rare.as_ref()?.symlink.as_deref()
    }

    /// The MD5 digest, 32 hex digits; a remark of the torrent's maker.
    pub fn md5sum(&self) -> Option<&str> {
        self.rare.as_ref()?.md5sum.as_deref()
    }
}

/// A name that was changed, since it was not safe or another file had it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renamed {
    /// Which file; None for the torrent's own name.
    pub file: Option<usize>,
    /// What the torrent calls it, to be printed; for a file, the path below the torrent's folder.
    pub from: String,
}

/// Why bytes are not a torrent that this program can use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// More bytes than a .torrent file may have.
    Size(usize),
    /// Compressed with gzip.
    Gzip,
    /// Not bencode, or a key twice.
    Bencode(bencode::Error),
    /// A key is missing that a torrent must have.
    Missing(&'static str),
    /// The value of `key` is not what it has to be.
    Value {
        /// The key in the torrent.
        key: &'static str,
        /// What belongs there.
        want: &'static str,
        /// Offset of the value, in bytes.
        at: usize,
    },
    /// A torrent of version 2 only, or of a later one: the number of its version.
    Version(i64),
    /// Over a limit of sizes and counts.
    Layout(layout::Error),
    /// The piece hashes are `have` bytes, where `pieces` pieces need 20 each.
    Hashes {
        /// Bytes there are.
        have: usize,
        /// Pieces there are by the sizes.
        pieces: u32,
    },
    /// The path of a file nests too deep. Files count from 1.
    Depth {
        /// Which file.
        file: usize,
    },
    /// The path of a file is too long. Files count from 1.
    Path {
        /// Which file.
        file: usize,
        /// Its length in bytes.
        len: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Size(len) => {
                write!(f, "the .torrent file has {len} bytes; the limit is {TORRENT_FILE_MAX}")
            }
            Error::Gzip => f.write_str(
                "the .torrent is compressed with gzip, which cannot be read yet; decompress it first (gunzip)",
            ),
            Error::Bencode(error) => write!(f, "not a valid torrent: {error}"),
            Error::Missing(key) => write!(f, "not a valid torrent: it has no \"{key}\""),
            Error::Value { key, want, at } => {
                write!(f, "not a valid torrent: \"{key}\" at byte {at} is not {want}")
            }
            Error::Version(version) => {
                let bep = if *version == 2 { " (BEP 52)" } else { "" };
                write!(f, "version {version} torrents{bep} are not supported")
            }
            Error::Layout(error) => write!(f, "the torrent is too large: {error}"),
            Error::Hashes { have, pieces } => {
                write!(
                    f,
                    "not a valid torrent: its sizes make {pieces} pieces of 20 bytes of hash, \"pieces\" has {have} bytes"
                )
            }
            Error::Depth { file } => {
                write!(f, "the path of file {file} nests deeper than {PATH_DEPTH}, the limit")
            }
            Error::Path { file, len } => {
                write!(f, "the path of file {file} has {len} bytes; the limit is {PATH_MAX}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<bencode::Error> for Error {
    fn from(error: bencode::Error) -> Error {
        Error::Bencode(error)
    }
}

/// The value of a key as one type, or the error that names the key.
fn typed<'a, T>(
    value: Value<'a>,
    key: &'static str,
    want: &'static str,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Result<T, Error> {
    read(value).ok_or(Error::Value { key, want, at: value.at() })
}

impl Metainfo {
    /// Reads a .torrent file. What is optional and of the wrong type is left out; what is needed and wrong is an
    /// error, so is a key of ours that comes twice.
    pub fn parse(bytes: &[u8]) -> Result<Metainfo, Error> {
        if bytes.len() as u64 > TORRENT_FILE_MAX {
            return Err(Error::Size(bytes.len()));
        }
        if is_gzip(bytes) {
            return Err(Error::Gzip);
        }
        let root = typed(decode(bytes)?, "torrent", "a dictionary", Value::as_dict)?;
        let [info] = root.fields(["info"])?;
        let mut torrent = info::read(info.ok_or(Error::Missing("info"))?)?;
        sources::read(root, &mut torrent)?;
        Ok(torrent)
    }

    /// Reads an info dictionary alone, as peers send it (BEP 9). Its hash is for the caller to compare.
    pub fn from_info(info: &[u8]) -> Result<Metainfo, Error> {
        info::read(decode(info)?)
    }

    /// A torrent of which nothing is known yet but its info-hash, and what somebody calls it.
    pub fn unknown(info_hash: InfoHash, name: &str) -> Metainfo {
        Metainfo {
            info_hash,
            info: Box::default(),
            info_len: 0,
            name: safe(name),
            single: false,
            layout: Layout::empty(),
            hashes: Box::default(),
            files: Vec::new(),
            paths: Paths::default(),
            private: false,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            encoding: None,
            creation_date: None,
            unusable: UnusableUrls::default(),
            renamed: Vec::new(),
        }
    }

    /// Whether the info dictionary was read: every one has a file.
    pub fn is_known(&self) -> bool {
        !self.files.is_empty()
    }

    /// The SHA-1 digest due for a piece; None when there is no such piece, or after [`Metainfo::let_go`].
    pub fn hash(&self, piece: u32) -> Option<&[u8; 20]> {
        self.hashes.as_chunks().0.get(piece as usize)
    }

    /// Drops what is most of a torrent in memory, the info dictionary and the hashes: a copy is elsewhere.
    pub fn let_go(&mut self) {
        self.info = Box::default();
        self.hashes = Box::default();
    }

    /// Whether the hashes are in memory.
    pub fn holds_hashes(&self) -> bool {
        self.hashes.len() as u64 == u64::from(self.layout.pieces()) * 20
    }
}

/// A .torrent file of an info dictionary and nothing else.
pub fn wrap(info: &[u8]) -> Vec<u8> {
    bencode::encode(|torrent| {
        torrent.dict(|torrent| torrent.entry("info").raw(info));
    })
}

/// Where the piece hashes lie in a .torrent file, if its info dictionary is the one of that hash. Nothing else of it
/// is looked at.
pub fn find_hashes(torrent: &[u8], info_hash: InfoHash) -> Option<Range<usize>> {
    let [pieces] = info_of(torrent, info_hash)?.as_dict()?.fields(["pieces"]).ok()?;
    let (pieces, hashes) = (pieces?, pieces?.as_bytes()?);
    let end = pieces.at() + pieces.raw().len();
    Some(end - hashes.len()..end)
}

/// Where the info dictionary lies in a .torrent file, if it is the one of that hash.
pub fn find_info(torrent: &[u8], info_hash: InfoHash) -> Option<Range<usize>> {
    let info = info_of(torrent, info_hash)?;
    Some(info.at()..info.at() + info.raw().len())
}

fn info_of(torrent: &[u8], info_hash: InfoHash) -> Option<Value<'_>> {
    let [info] = decode(torrent).ok()?.as_dict()?.fields(["info"]).ok()?;
    info.filter(|info| InfoHash::of(info.raw()) == info_hash)
}

/// Fuzz entry: reads `data` as a .torrent file and asserts that what comes out is consistent and safe.
#[doc(hidden)]
#[expect(clippy::expect_used, reason = "a fuzz entry: a wrong answer is to end it")]
pub fn fuzz_metainfo(data: &[u8]) {
    let Ok(torrent) = Metainfo::parse(data) else { return };
    assert_consistent(&torrent);
    let info = torrent.info.clone();
    drop(torrent);
    assert_consistent(&Metainfo::from_info(&info).expect("the info dictionary reads alone"));
}

#[expect(clippy::expect_used, reason = "a fuzz entry: a wrong answer is to end it")]
fn assert_consistent(torrent: &Metainfo) {
    let (layout, files) = (&torrent.layout, &torrent.files);
    assert_eq!(torrent.info_hash, InfoHash::of(&torrent.info));
    assert_eq!(torrent.hashes.len(), layout.pieces() as usize * 20);
    let copy = wrap(&torrent.info);
    let at = find_hashes(&copy, torrent.info_hash).expect("the hashes are found again");
    assert_eq!(copy[at], *torrent.hashes);
    let at = find_info(&copy, torrent.info_hash).expect("the info dictionary is found again");
    assert_eq!((&copy[at], torrent.info_len as usize), (&*torrent.info, torrent.info.len()));
    assert!(find_hashes(&copy, InfoHash([0; 20])).is_none());
    assert!(files.len() == layout.files() && !files.is_empty());
    assert!(names::is_safe(&torrent.name));
    assert_files(torrent);
    let spans: u64 = layout.spans(0, layout.total()).map(|span| span.len).sum();
    assert_eq!(spans, layout.total());
    let urls = torrent.trackers.iter().flatten().chain(&torrent.web_seeds);
    assert!(urls.flat_map(|url| url.chars()).all(|c| !is_foul(c) && !c.is_whitespace()));
}

/// Asserts that a torrent's files have safe names and places of their own.
fn assert_files(torrent: &Metainfo) {
    let mut places = Vec::with_capacity(torrent.files.len());
    for (i, file) in torrent.files.iter().enumerate() {
        assert_eq!(file.len, torrent.layout.file_len(i));
        let path = torrent.paths.names(i);
        assert!(path.clone().all(names::is_safe), "{:?}", torrent.paths.display(i));
        assert_eq!(path.clone().next(), Some(&*torrent.name));
        assert_eq!(torrent.single, path.clone().count() == 1);
        assert!(file.symlink().is_none() || file.len == 0);
        if file.is_stored() {
            places.push(path.skip(1).map(|name| names::fold(name) + "/").collect::<String>());
        }
    }
    // Sorted, a path comes right before those that it is a folder or a double of.
    places.sort_unstable();
    assert!(places.is_sorted_by(|a, b| !b.starts_with(a)), "two files in one place");
}

#[cfg(test)]
mod tests;
