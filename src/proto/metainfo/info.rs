//! The info dictionary: names, sizes and hashes.

use super::{Error, File, Metainfo, Renamed, names, places, typed};
use crate::limits::{FILES_MAX, PATH_DEPTH, PATH_MAX};
use crate::proto::bencode::{Dict, List, Value};
use crate::proto::id::InfoHash;
use crate::proto::layout::{self, Layout};
use std::borrow::Cow;
use std::sync::Arc;

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
    let files = match files {
        Some(files) => many(typed(files, "files", "a list", Value::as_list)?, &name, &mut renamed)?,
        None => vec![one(dict, &name)?],
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
        name: name.to_string(),
        single: files.len() == 1 && files[0].path.len() == 1,
        layout,
        hashes: hashes.into(),
        files,
        private: private.and_then(Value::as_int) == Some(1),
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        nodes: Vec::new(),
        comment: None,
        created_by: None,
        encoding: None,
        creation_date: None,
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
) -> Result<Arc<str>, Error> {
    let plain = match plain {
        Some(value) => typed(value, "name", "a string", Value::as_bytes)?,
        None => &[],
    };
    let name = match utf8.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        Some(name) => name.as_bytes(),
        None => plain,
    };
    if name.is_empty() {
        return Ok(info_hash.to_string().into());
    }
    let safe = names::safe(&names::text(name));
    if safe.as_bytes() != name {
        renamed.push(Renamed { file: None, from: names::printable(&names::text(name)) });
    }
    Ok(safe.into())
}

fn size(value: Option<Value<'_>>) -> Result<u64, Error> {
    let value = value.ok_or(Error::Missing("length"))?;
    typed(value, "length", "an integer from 0", |value| u64::try_from(value.as_int()?).ok())
}

/// The file of a torrent that is one file.
fn one(dict: Dict<'_>, name: &Arc<str>) -> Result<File, Error> {
    let [len, attr, md5sum] = dict.fields(["length", "attr", "md5sum"])?;
    let attr = attr.and_then(Value::as_bytes).unwrap_or_default();
    Ok(File {
        path: vec![name.clone()],
        len: size(len)?,
        pad: false,
        executable: attr.contains(&b'x'),
        hidden: attr.contains(&b'h'),
        symlink: None,
        md5sum: md5sum.and_then(digest),
    })
}

fn digest(value: Value<'_>) -> Option<Box<str>> {
    let text = value.as_str()?;
    (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.into())
}

/// The files of a torrent of many, each in a place of its own.
fn many(list: List<'_>, name: &Arc<str>, renamed: &mut Vec<Renamed>) -> Result<Vec<File>, Error> {
    let count = list.clone().take(FILES_MAX + 1).count();
    if count > FILES_MAX {
        return Err(Error::Layout(layout::Error::Files));
    }
    let mut files: Vec<File> = Vec::with_capacity(count);
    for (i, value) in list.enumerate() {
        let last = files.last().map_or(&[][..], |file| &file.path);
        let (file, from) = entry(value, i, name, last)?;
        renamed.extend(from.map(|from| Renamed { file: Some(i), from }));
        files.push(file);
    }
    if files.is_empty() {
        return Err(Error::Missing("files"));
    }
    for (i, from) in places::settle(&mut files) {
        if renamed.binary_search_by_key(&Some(i), |renamed| renamed.file).is_err() {
            renamed.push(Renamed { file: Some(i), from });
        }
    }
    renamed.sort_unstable_by_key(|renamed| renamed.file);
    for (i, file) in files.iter().enumerate() {
        let len = file.path.iter().map(|name| name.len() + 1).sum::<usize>() - 1;
        if len > PATH_MAX {
            return Err(Error::Path { file: i + 1, len });
        }
    }
    Ok(files)
}

/// One file of many, and what the torrent calls it when that is not its path. `last` is the path before this one.
fn entry(
    value: Value<'_>,
    i: usize,
    name: &Arc<str>,
    last: &[Arc<str>],
) -> Result<(File, Option<String>), Error> {
    let dict = typed(value, "files", "a list of dictionaries", Value::as_dict)?;
    let [len, attr, md5sum] = dict.fields(["length", "attr", "md5sum"])?;
    let [path, path_utf8, target] = dict.fields(["path", "path.utf-8", "symlink path"])?;
    let attr = attr.and_then(Value::as_bytes).unwrap_or_default();
    let link = attr.contains(&b'l') && len.and_then(Value::as_int).unwrap_or(0) == 0;
    let len = if link { 0 } else { size(len)? };
    let mut pad = attr.contains(&b'p') && !link;
    let (path, from) = match path_utf8.filter(is_text).or(path) {
        Some(path) => safe_path(typed(path, "path", "a list of strings", Value::as_list)?, i, name, last)?,
        None if pad => (vec![name.clone(), ".pad".into(), len.to_string().into()], None),
        None => return Err(Error::Missing("path")),
    };
    pad |= !link && path.last().is_some_and(|name| name.starts_with(OLD_PADDING));
    let file = File {
        path,
        len,
        pad,
        executable: attr.contains(&b'x'),
        hidden: attr.contains(&b'h'),
        symlink: link.then(|| link_target(target)),
        md5sum: md5sum.and_then(digest),
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

/// The path of file `i` in safe names, the torrent's own first, and the torrent's path when that differs. Names that
/// the path before has at the same depth are shared with it.
fn safe_path(
    list: List<'_>,
    i: usize,
    name: &Arc<str>,
    last: &[Arc<str>],
) -> Result<(Vec<Arc<str>>, Option<String>), Error> {
    let count = list.clone().take(PATH_DEPTH).count() + 1;
    if count > PATH_DEPTH {
        return Err(Error::Depth { file: i + 1 });
    }
    let mut path = Vec::with_capacity(count);
    path.push(name.clone());
    let mut same = true;
    for value in list.clone() {
        let bytes = typed(value, "path", "a list of strings", Value::as_bytes)?;
        let safe = names::safe(&names::text(bytes));
        same &= safe.as_bytes() == bytes;
        let shared = last.get(path.len()).filter(|shared| ***shared == *safe);
        path.push(shared.cloned().unwrap_or_else(|| safe.into()));
    }
    if path.len() == 1 {
        return Err(Error::Missing("path"));
    }
    let from = || {
        let names: Vec<Cow<'_, str>> = list.filter_map(Value::as_bytes).map(names::text).collect();
        names::printable(&names.join("/"))
    };
    Ok((path, (!same).then(from)))
}
