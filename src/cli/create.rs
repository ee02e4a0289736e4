//! `ptorrent create`: a .torrent of a file or folder.

use super::console::{Console, shown};
use super::hash::{Row, hash};
use super::options::Create;
use super::{Error, failed};
use crate::api::Reason;
use crate::limits::{FILES_MAX, PATH_DEPTH};
use crate::proto::layout::Layout;
use crate::proto::metainfo::{Content, Metainfo, Plan, build, piece_length_for, safe};
use crate::sys::atomic_file;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that becomes part of the torrent.
struct Found {
    path: PathBuf,
    /// The names below the torrent's folder.
    names: Vec<String>,
    len: u64,
    modified: Option<SystemTime>,
}

impl Found {
    fn new(path: PathBuf, names: Vec<String>, metadata: &Metadata) -> Found {
        Found { path, names, len: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// Makes the .torrent and prints its magnet URI.
pub(crate) fn run(options: &Create, console: &mut Console<'_>) -> Result<u8, Error> {
    let path = console.resolve(&options.path);
    let metadata = metadata_of(&path)?;
    let name = match &options.name {
        Some(name) => name.clone(),
        None => own_name(&path)?,
    };
    let out = match &options.out {
        Some(out) => console.resolve(out),
        None => console.resolve(Path::new(&format!("{name}.torrent"))),
    };
    if out.symlink_metadata().is_ok() {
        return Err(refused(&out, "exists already"));
    }
    let mut found = Vec::new();
    if metadata.is_dir() {
        walk(&path, &mut Vec::new(), &mut found, console)?;
    } else if metadata.is_file() {
        found.push(Found::new(path.clone(), Vec::new(), &metadata));
    } else {
        return Err(refused(&path, "is neither a file nor a folder"));
    }
    let bytes = plan(options, &name, metadata.is_dir(), &path, &found, console)?;
    let meta = Metainfo::parse(&bytes).map_err(|e| refused(&path, &e.to_string()))?;
    if let Some(renamed) = meta.renamed.first() {
        let from = &renamed.from;
        console.warn(&format!("names such as '{from}' are stored under others where case does not count"));
    }
    write_new(&out, &bytes)?;
    console.print(&format!("{}\n", meta.magnet_uri()))?;
    Ok(0)
}

fn refused(path: &Path, why: &str) -> Error {
    Error::Failed(Reason::Io, format!("{} {why}", shown(path)))
}

fn metadata_of(path: &Path) -> Result<Metadata, Error> {
    fs::metadata(path).map_err(|e| failed(format_args!("cannot read {}", shown(path)), &e))
}

/// The file name of PATH, also of `.` and `dir/..`.
fn own_name(path: &Path) -> Result<String, Error> {
    let whole =
        fs::canonicalize(path).map_err(|e| failed(format_args!("cannot read {}", shown(path)), &e))?;
    let name = path.file_name().or_else(|| whole.file_name());
    let name = name.ok_or_else(|| refused(path, "has no name: give one with -n"))?;
    checked(name.to_str(), path)
}

/// A name that every client can use as it is.
fn checked(name: Option<&str>, path: &Path) -> Result<String, Error> {
    match name {
        None => Err(refused(path, "has a name that is not UTF-8; rename it")),
        Some(name) if safe(name) != name => {
            Err(refused(path, "has a name that other systems cannot use; rename it"))
        }
        Some(name) => Ok(name.into()),
    }
}

/// Collects the files below a folder, sorted by name at every level. Links and special files are left out.
fn walk(
    folder: &Path,
    names: &mut Vec<String>,
    found: &mut Vec<Found>,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    if names.len() >= PATH_DEPTH {
        return Err(refused(folder, &format!("nests deeper than {PATH_DEPTH} folders, the limit")));
    }
    let unreadable = |e: io::Error| failed(format_args!("cannot read {}", shown(folder)), &e);
    let entries: io::Result<Vec<_>> = fs::read_dir(folder).map_err(unreadable)?.collect();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(unreadable)?;
        if !kind.is_dir() && !kind.is_file() {
            let what = if kind.is_symlink() { "a symbolic link" } else { "a special file" };
            console.warn(&format!("left out {}: {what}", shown(&path)));
            continue;
        }
        names.push(checked(entry.file_name().to_str(), &path)?);
        if kind.is_dir() {
            walk(&path, names, found, console)?;
        } else {
            found.push(Found::new(path.clone(), names.clone(), &metadata_of(&path)?));
        }
        names.pop();
        if found.len() > FILES_MAX {
            return Err(refused(folder, &format!("has more than {FILES_MAX} files, the limit")));
        }
    }
    Ok(())
}

/// Hashes the files and gives the bytes of the .torrent.
fn plan(
    options: &Create,
    name: &str,
    folder: bool,
    path: &Path,
    found: &[Found],
    console: &mut Console<'_>,
) -> Result<Vec<u8>, Error> {
    let total = found.iter().map(|file| file.len).fold(0, u64::saturating_add);
    if total == 0 {
        return Err(refused(path, "has no data"));
    }
    let piece_length = options.piece_length.unwrap_or_else(|| piece_length_for(total));
    let layout = Layout::new(piece_length, found.iter().map(|file| file.len))
        .map_err(|e| refused(path, &format!("does not fit a torrent: {e}")))?;
    let hashes = hash_all(&layout, found, name, console)?;
    let files: Vec<_> = found.iter().map(|file| (file.names.clone(), file.len)).collect();
    Ok(build(&Plan {
        name,
        content: if folder { Content::Many(&files) } else { Content::Single(total) },
        piece_length,
        hashes: &hashes,
        private: options.private,
        trackers: &options.trackers,
        web_seeds: &options.web_seeds,
        comment: options.comment.as_deref(),
        created_by: Some(concat!("ptorrent/", env!("CARGO_PKG_VERSION"))),
        creation_date: Some(today()),
    }))
}

#[expect(clippy::disallowed_methods, reason = "a .torrent file bears its date")]
fn today() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn hash_all(
    layout: &Layout,
    found: &[Found],
    name: &str,
    console: &mut Console<'_>,
) -> Result<Vec<u8>, Error> {
    let paths: Vec<_> = found.iter().map(|file| Some(file.path.clone())).collect();
    let readable = vec![true; layout.pieces() as usize];
    let mut hashes = vec![0; layout.pieces() as usize * 20];
    let row = Row { layout, files: &paths, readable: &readable };
    hash(&row, name, console, |piece, outcome| match outcome {
        Ok(digest) => {
            hashes[piece as usize * 20..][..20].copy_from_slice(&digest);
            Ok(())
        }
        Err(unreadable) => Err(match unreadable.error.kind() {
            io::ErrorKind::UnexpectedEof => changed(&found[unreadable.file]),
            _ => {
                failed(format_args!("cannot read {}", shown(&found[unreadable.file].path)), &unreadable.error)
            }
        }),
    })?;
    for file in found {
        let metadata = metadata_of(&file.path)?;
        if metadata.len() != file.len || metadata.modified().ok() != file.modified {
            return Err(changed(file));
        }
    }
    Ok(hashes)
}

fn changed(file: &Found) -> Error {
    refused(&file.path, "changed while it was read")
}

/// Writes a file that is not there yet: whole or not at all, and never over another one.
fn write_new(out: &Path, bytes: &[u8]) -> Result<(), Error> {
    atomic_file::create(out, bytes).map_err(|e| failed(format_args!("cannot write {}", shown(out)), &e))
}
