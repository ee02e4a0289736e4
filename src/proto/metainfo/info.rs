//! The info dictionary: names, sizes and hashes.

use super::{Error, File, Metainfo, Paths, Rare, Renamed, names, places, typed};
use crate::limits::{FILES_MAX, NAME_MAX, PATH_DEPTH, PATH_MAX, TORRENT_FILE_MAX};
use crate::proto::bencode::{Dict, List, Value};
use crate::proto::id::InfoHash;
use crate::proto::layout::{self, Layout};
use crate::proto::tracker::unusable::UnusableUrls;
use std::borrow::Cow;

// What `Paths` counts on: a name that is made safe has at most four bytes for one, its slash included.
const _: () =
    assert!(TORRENT_FILE_MAX * 4 < u32::MAX as u64 && PATH_DEPTH * (NAME_MAX + 1) < u16::MAX as usize);

/// What old programs call padding, which have no `attr`.
const OLD_PADDING: &str = "_____padding_file_";

/// Reads an info dictionary. A torrent that is both of version 1 and 2 is read as version 1.
pub(super) fn read(info: Value<'_>) -> Result<Metainfo, Error> {
    let dict = typed(info, "info", "a dictionary", Value::as_dict)?;
    let [version, tree, pieces, piece_length] =
        dict.fields(["meta version", "file tree", "pieces", "piece length"])?;
    let [private, files, name, name_utf8] = dict.fields(["private", "files", "name", "name.utf-8"])?;
    let Some(pieces) = pieces else {
        return Err(match (version.and_then(Value::as_int), tree) {
            (Some(version @ 2..), _) => Error::Version(version),
            (_, Some(_)) => Error::Version(2),
            _ => Error::Missing("pieces"),
        });
    };
    let info_hash = InfoHash::of(info.raw());
    let hashes = typed(pieces, "pieces", "a string", Value::as_bytes)?;
    let mut renamed = Vec::new();
    let name = torrent_name([name_utf8, name], info_hash, &mut renamed)?;
    let (files, paths) = match files {
        Some(files) => many(typed(files, "files", "a list", Value::as_list)?, &name, &mut renamed)?,
        None => one(dict, &name)?,
    };
    let layout =
        Layout::new(length(piece_length)?, files.iter().map(|file| file.len)).map_err(Error::Layout)?;
    if hashes.len() as u64 != u64::from(layout.pieces()) * 20 {
        return Err(Error::Hashes { have: hashes.len(), pieces: layout.pieces() });
    }
    Ok(Metainfo {
        info_hash,
        info: info.raw().into(),
        // No file that is read is longer.
        info_len: u32::try_from(info.raw().len()).unwrap_or(u32::MAX),
        name,
        single: files.len() == 1 && paths.folder(0).is_empty(),
        layout,
        hashes: hashes.into(),
        files,
        paths,
        private: private.and_then(Value::as_int) == Some(1),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        nodes: Vec::new(),
        comment: None,
        created_by: None,
        encoding: None,
        creation_date: None,
        unusable: UnusableUrls::default(),
        renamed,
    })
}

/// The piece length, which must fit its limit before it fits 32 bits.
fn length(value: Option<Value<'_>>) -> Result<u32, Error> {
    let value = value.ok_or(Error::Missing("piece length"))?;
    let wide = typed(value, "piece length", "a positive integer", |v| u64::try_from(v.as_int()?).ok())?;
    u32::try_from(wide).map_err(|_| Error::Layout(layout::Error::PieceLength(wide)))
}

/// The first of the names that is there, made safe; the info-hash where there is none.
fn torrent_name(
    [utf8, plain]: [Option<Value<'_>>; 2],
    info_hash: InfoHash,
    renamed: &mut Vec<Renamed>,
) -> Result<String, Error> {
    let plain = match plain {
        Some(value) => typed(value, "name", "a string", Value::as_bytes)?,
        None => &[],
    };
    let name = match utf8.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => name.as_bytes(),
        None => plain,
    };
    if name.is_empty() {
        return Ok(info_hash.to_string());
    }
    let safe = names::safe(&names::text(name));
    if safe.as_bytes() != name {
        renamed.push(Renamed { file: None, from: names::printable(&names::text(name)) });
    }
    Ok(safe)
}

fn size(value: Option<Value<'_>>) -> Result<u64, Error> {
    let value = value.ok_or(Error::Missing("length"))?;
    typed(value, "length", "an integer from 0", |value| u64::try_from(value.as_int()?).ok())
}

/// The file of a torrent that is one file.
fn one(dict: Dict<'_>, name: &str) -> Result<(Vec<File>, Paths), Error> {
    let [len, attr, md5sum] = dict.fields(["length", "attr", "md5sum"])?;
    let attr = attr.and_then(Value::as_bytes).unwrap_or_default();
    let mut paths = Paths::with_capacity(1);
    paths.push("", name);
    let file = File {
        len: size(len)?,
        pad: false,
        executable: attr.contains(&b'x'),
        hidden: attr.contains(&b'h'),
        rare: rare(None, md5sum),
    };
    Ok((vec![file], paths))
}

fn rare(symlink: Option<Box<str>>, md5sum: Option<Value<'_>>) -> Option<Box<Rare>> {
    let rare = Rare { symlink, md5sum: md5sum.and_then(digest) };
    (rare != Rare::default()).then(|| Box::new(rare))
}

fn digest(value: Value<'_>) -> Option<Box<str>> {
    let text = value.as_str()?;
    (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.into())
}

/// The files of a torrent of many, each in a place of its own.
fn many(list: List<'_>, name: &str, renamed: &mut Vec<Renamed>) -> Result<(Vec<File>, Paths), Error> {
    let count = list.clone().take(FILES_MAX + 1).count();
    if count > FILES_MAX {
        return Err(Error::Layout(layout::Error::Files));
    }
    let (mut files, mut paths) = (Vec::with_capacity(count), Paths::with_capacity(count));
    let mut folder = String::new();
    for (i, value) in list.enumerate() {
        folder.clear();
        folder.push_str(name);
        let (file, from) = entry(value, i, &mut folder, &mut paths)?;
        renamed.extend(from.map(|from| Renamed { file: Some(i), from }));
        files.push(file);
    }
    if files.is_empty() {
        return Err(Error::Missing("files"));
    }
    for (i, from) in places::settle(&files, &mut paths) {
        if renamed.binary_search_by_key(&Some(i), |renamed| renamed.file).is_err() {
            renamed.push(Renamed { file: Some(i), from });
        }
    }
    renamed.sort_unstable_by_key(|renamed| renamed.file);
    let long = (0..count).map(|i| (i, paths.len(i))).find(|(_, len)| *len > PATH_MAX);
    if let Some((i, len)) = long {
        return Err(Error::Path { file: i + 1, len });
    }
    paths.shrink();
    Ok((files, paths))
}

/// One file of many, and what the torrent calls it when that is not its path, which goes to `paths`. `folder` is the
/// torrent's own.
fn entry(
    value: Value<'_>,
    i: usize,
    folder: &mut String,
    paths: &mut Paths,
) -> Result<(File, Option<String>), Error> {
    let dict = typed(value, "files", "a list of dictionaries", Value::as_dict)?;
    let [len, attr, md5sum] = dict.fields(["length", "attr", "md5sum"])?;
    let [path, path_utf8, target] = dict.fields(["path", "path.utf-8", "symlink path"])?;
    let attr = attr.and_then(Value::as_bytes).unwrap_or_default();
    let link = attr.contains(&b'l') && len.and_then(Value::as_int).unwrap_or(0) == 0;
    let len = if link { 0 } else { size(len)? };
    let mut pad = attr.contains(&b'p') && !link;
    let (name, from) = match path_utf8.filter(is_text).or(path) {
        Some(path) => safe_path(typed(path, "path", "a list of strings", Value::as_list)?, i, folder)?,
        None if pad => {
            folder.push_str("/.pad");
            (len.to_string(), None)
        }
        None => return Err(Error::Missing("path")),
    };
    paths.push(folder, &name);
    pad |= !link && name.starts_with(OLD_PADDING);
    let file = File {
        len,
        pad,
        executable: attr.contains(&b'x'),
        hidden: attr.contains(&b'h'),
        rare: rare(link.then(|| link_target(target)), md5sum),
    };
    let from = from.filter(|_| file.is_stored());
    Ok((file, from))
}

/// Whether this is a path in UTF-8.
fn is_text(path: &Value<'_>) -> bool {
    path.as_list()
        .is_some_and(|mut names| names.clone().next().is_some() && names.all(|name| name.as_str().is_some()))
}

/// Where a link points, to be printed.
fn link_target(target: Option<Value<'_>>) -> Box<str> {
    let names = target.and_then(Value::as_list).into_iter().flatten().take(PATH_DEPTH);
    let names: Vec<Cow<'_, str>> = names.filter_map(Value::as_bytes).map(names::text).collect();
    names::printable(&names.join("/")).into()
}

/// The name of file `i`, and the torrent's path when ours differs; the folders that it lies in are added to `folder`.
fn safe_path(list: List<'_>, i: usize, folder: &mut String) -> Result<(String, Option<String>), Error> {
    if list.clone().take(PATH_DEPTH).count() + 1 > PATH_DEPTH {
        return Err(Error::Depth { file: i + 1 });
    }
    let (mut name, mut same) = (None::<String>, true);
    for value in list.clone() {
        let bytes = typed(value, "path", "a list of strings", Value::as_bytes)?;
        let safe = names::safe(&names::text(bytes));
        same &= safe.as_bytes() == bytes;
        if let Some(above) = name.replace(safe) {
            folder.push('/');
            folder.push_str(&above);
        }
    }
    let name = name.ok_or(Error::Missing("path"))?;
    let from = || {
        let names: Vec<Cow<'_, str>> = list.filter_map(Value::as_bytes).map(names::text).collect();
        names::printable(&names.join("/"))
    };
    Ok((name, (!same).then(from)))
}
