//! `ptorrent verify`: is what is on disk what the .torrent says?

use super::Error;
use super::console::{Console, shown};
use super::hash::{Row, counted, hash};
use super::torrent::{Sources, find};
use crate::api::Reason;
use crate::engine::Client;
use crate::proto::metainfo::Metainfo;
use crate::sys::socket::Route;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is wrong with a file before anything is hashed.
enum Trouble {
    Missing,
    NoFile,
    Short(u64),
    Long(u64),
    Unreadable(io::Error),
}

/// Hashes the files of `torrent` below `dir` and prints a line for each that is not as it should be. The answer is 0
/// only when all are.
pub(crate) fn run(torrent: &OsStr, dir: &Path, console: &mut Console<'_>) -> Result<u8, Error> {
    let state = console.state_dir();
    let sources = Sources {
        client: Client::new(Route::default(), console.roots()),
        state: state.as_deref(),
        signals: None,
    };
    let meta = find(torrent, &sources, console)?.meta;
    if !meta.is_known() {
        let why = format!("{}: what belongs to it is not known here; see 'ptorrent show --help'", meta.name);
        return Err(Error::Failed(Reason::Metainfo, why));
    }
    let dir = console.resolve(dir);
    let paths: Vec<Option<PathBuf>> = (0..meta.files.len())
        .map(|i| meta.files[i].is_stored().then(|| dir.join(meta.paths.display(i))))
        .collect();
    let mut troubles: Vec<Option<Trouble>> =
        meta.files.iter().zip(&paths).map(|(file, path)| look(path.as_deref()?, file.len)).collect();
    let readable: Vec<bool> =
        (0..meta.layout.pieces()).map(|piece| is_readable(&meta, piece, &troubles)).collect();
    let (mut good, mut judged) = (vec![false; readable.len()], readable.clone());
    let row = Row { layout: &meta.layout, files: &paths, readable: &readable };
    hash(&row, &meta.name, console, |piece, outcome| {
        match outcome {
            Ok(digest) => good[piece as usize] = meta.hash(piece) == Some(&digest),
            Err(unreadable) => {
                judged[piece as usize] = false;
                troubles[unreadable.file].get_or_insert(Trouble::Unreadable(unreadable.error));
            }
        }
        Ok(())
    })?;
    let (text, bad) = report(&meta, &paths, &troubles, &judged, &good);
    console.print(&text)?;
    Ok(u8::from(bad))
}

fn look(path: &Path, len: u64) -> Option<Trouble> {
    match fs::metadata(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Some(Trouble::Missing)
        }
        Err(e) => Some(Trouble::Unreadable(e)),
        Ok(metadata) if !metadata.is_file() => Some(Trouble::NoFile),
        Ok(metadata) if metadata.len() < len => Some(Trouble::Short(metadata.len())),
        Ok(metadata) if metadata.len() > len => Some(Trouble::Long(metadata.len())),
        Ok(_) => None,
    }
}

/// Whether every byte of a piece is there to be read.
fn is_readable(meta: &Metainfo, piece: u32, troubles: &[Option<Trouble>]) -> bool {
    let layout = &meta.layout;
    layout.spans(layout.piece_offset(piece), layout.piece_len(piece).into()).all(|span| {
        match &troubles[span.file] {
            None | Some(Trouble::Long(_)) => true,
            Some(Trouble::Short(len)) => span.offset + span.len <= *len,
            Some(Trouble::Missing | Trouble::NoFile | Trouble::Unreadable(_)) => false,
        }
    })
}

/// The lines, and whether anything is wrong.
fn report(
    meta: &Metainfo,
    paths: &[Option<PathBuf>],
    troubles: &[Option<Trouble>],
    judged: &[bool],
    good: &[bool],
) -> (String, bool) {
    let (mut text, mut wrong, mut unjudged, mut stored) = (String::new(), 0, 0, 0);
    for (number, path) in paths.iter().enumerate() {
        let Some(path) = path else { continue };
        stored += 1;
        let len = meta.layout.file_len(number);
        let pieces = meta.layout.file_pieces(number).map(|piece| piece as usize);
        let bad = pieces.clone().filter(|piece| judged[*piece] && !good[*piece]).count();
        let name = shown(path);
        let line = match &troubles[number] {
            Some(Trouble::Missing) => format!("missing: {name}"),
            Some(Trouble::NoFile) => format!("not a file: {name}"),
            Some(Trouble::Short(is)) => format!("too short: {name} ({is} of {len} bytes)"),
            Some(Trouble::Long(is)) => format!("too long: {name} ({is} in place of {len} bytes)"),
            Some(Trouble::Unreadable(error)) => format!("unreadable: {name} ({error})"),
            None if bad > 0 => format!("bad: {name} ({bad} of {})", counted(pieces.len(), "piece")),
            None => {
                unjudged += usize::from(pieces.clone().any(|piece| !judged[piece]));
                continue;
            }
        };
        wrong += 1;
        text += &format!("{line}\n");
    }
    let files = counted(stored, "file");
    text += &match (wrong, unjudged) {
        (0, _) => format!("{}: complete, {files}\n", meta.name),
        (_, 0) => format!("{}: {wrong} of {files} not as they should be\n", meta.name),
        _ => format!(
            "{}: {wrong} of {files} not as they should be; {unjudged} more share pieces with those\n",
            meta.name
        ),
    };
    (text, wrong > 0)
}
