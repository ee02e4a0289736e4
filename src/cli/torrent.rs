//! From a TORRENT of the command line to what it says.

use super::console::{Console, shown};
use super::{Error, failed};
use crate::api::Reason;
use crate::limits::TORRENT_FILE_MAX;
use crate::proto::metainfo::{Metainfo, printable};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;

/// Reads a TORRENT.
pub(crate) fn load(torrent: &OsStr, console: &mut Console<'_>) -> Result<Metainfo, Error> {
    let path = console.resolve(Path::new(torrent));
    if let Some(kind) = foreign(torrent)
        && !path.exists()
    {
        let text = printable(&torrent.to_string_lossy());
        return Err(Error::Failed(Reason::Metainfo, format!("{text}: {kind} is not supported yet")));
    }
    let name = shown(Path::new(torrent));
    let bytes = read(&path).map_err(|e| failed(format_args!("cannot read {name}"), &e))?;
    let meta =
        Metainfo::parse(&bytes).map_err(|e| Error::Failed(Reason::Metainfo, format!("{name}: {e}")))?;
    if !meta.renamed.is_empty() {
        let count = meta.renamed.len();
        let first = &meta.renamed[0].from;
        console.warn(&format!("{name}: changed {count} unsafe or clashing names, the first '{first}'"));
    }
    Ok(meta)
}

/// What a TORRENT is that is no path.
fn foreign(torrent: &OsStr) -> Option<&'static str> {
    let text = torrent.to_str()?;
    let starts = |scheme: &str| text.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    if starts("magnet:") {
        Some("a magnet URI")
    } else if starts("http://") || starts("https://") {
        Some("a URL")
    } else if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Some("an info-hash")
    } else {
        None
    }
}

/// The whole file; one byte past the limit is enough for the reader to refuse it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TORRENT_FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which files are wanted: those that `--select` names, or all.
pub(crate) fn wanted(meta: &Metainfo, select: Option<&[RangeInclusive<usize>]>) -> Result<Vec<bool>, Error> {
    let count = meta.files.len();
    let Some(ranges) = select else { return Ok(vec![true; count]) };
    let mut wanted = vec![false; count];
    for range in ranges {
        let (first, last) = (*range.start(), *range.end());
        let Some(files) = wanted.get_mut(first - 1..last) else {
            let part = if first == last { format!("{first}") } else { format!("{first}-{last}") };
            let files = if count == 1 { "1 file".into() } else { format!("files 1 to {count}") };
            return Err(Error::Usage(format!("--select '{part}': {} has {files}", meta.name)));
        };
        files.fill(true);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::metainfo::{Content, Plan, build};

    #[test]
    fn what_is_no_path_is_told_apart() {
        let of = |text: &str| foreign(OsStr::new(text));
        assert_eq!(of("MAGNET:?xt=x"), Some("a magnet URI"));
        assert_eq!(of("https://x/y.torrent"), Some("a URL"));
        assert_eq!(of(&"aB".repeat(20)), Some("an info-hash"));
        assert_eq!((of("x.torrent"), of("http:/x"), of(&"ab".repeat(21))), (None, None, None));
    }

    #[test]
    fn selection_is_by_number_and_bounded() {
        let files: Vec<_> = ["a", "b", "c"].map(|name| (vec![name.to_string()], 0)).into();
        let bytes = build(&Plan::bare("t", Content::Many(&files), 16384, &[]));
        let meta = Metainfo::parse(&bytes).unwrap();
        let of = |ranges: &[RangeInclusive<usize>]| wanted(&meta, Some(ranges));
        assert_eq!(of(&[1..=1, 3..=3]).unwrap(), [true, false, true]);
        assert_eq!(of(&[1..=3]).unwrap(), wanted(&meta, None).unwrap());
        for (ranges, text) in [(4..=4, "'4'"), (2..=9, "'2-9'")] {
            let Err(Error::Usage(why)) = of(&[ranges]) else { panic!("accepted") };
            assert!(why.contains(text) && why.ends_with("t has files 1 to 3"), "{why}");
        }
    }
}
