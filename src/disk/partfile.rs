//! The part file: bytes of files that are not wanted, in pieces that a wanted file has a share in. It is
//! `.NAME.HASH.part` in the download folder (the torrent's name, its info-hash), made when the first such byte comes,
//! and sparse. The info-hash is there as a whole: a torrent with a name and a part of a hash can be made to fit another.
//!
//! A piece that more than one file has a share in has a slot of a piece's length there; slots are in the order of the
//! pieces, whatever is selected, so that the next run finds them again.

use crate::limits::NAME_MAX;
use crate::proto::metainfo::Metainfo;

/// The name of the part file of a torrent.
pub(super) fn name(meta: &Metainfo) -> String {
    let tail = format!(".{}.part", meta.info_hash);
    let room = NAME_MAX - tail.len() - 1;
    let head = (0..=room.min(meta.name.len())).rev().find_map(|end| meta.name.get(..end));
    format!(".{}{tail}", head.unwrap_or_default())
}

/// The pieces that have a slot, ascending.
pub(super) fn borders(meta: &Metainfo) -> Vec<u32> {
    let mut borders = Vec::new();
    let mut last = None;
    for (i, _) in meta.files.iter().enumerate().filter(|(_, file)| file.is_stored() && file.len > 0) {
        let pieces = meta.layout.file_pieces(i);
        if last == Some(pieces.start) && borders.last() != Some(&pieces.start) {
            borders.push(pieces.start);
        }
        last = pieces.end.checked_sub(1);
    }
    borders
}
