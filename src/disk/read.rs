//! Reading: blocks that peers ask for, many in one call where they lie side by side, and whatever else is read of a piece.

use super::error::fail;
use super::files::Files;
use super::plain;
use super::storage::{Place, Storage};
use crate::api::DiskError;
use crate::base::buf::Buf;
use crate::proto::layout::Block;
use std::io::{Error, ErrorKind, IoSliceMut};

/// Reads blocks of verified pieces, in order. Tells which one could not be read, by its place, and why; its piece then
/// counts as in doubt, and what comes after it was not tried.
pub(super) fn blocks(
    files: &mut Files,
    storage: &Storage,
    blocks: &mut [(Block, Buf)],
) -> Option<(usize, DiskError)> {
    let mut at = 0;
    while at < blocks.len() {
        let row = &mut blocks[at..];
        let count = in_a_row(row);
        if count < 2 || !row_at_once(files, storage, &mut row[..count]) {
            // One by one: that tells which of them is at fault.
            for (n, (block, buf)) in row[..count].iter_mut().enumerate() {
                if let Err(error) = one_block(files, storage, *block, buf) {
                    storage.set_in_doubt(block.piece);
                    return Some((at + n, error));
                }
            }
        }
        at += count;
    }
    None
}

/// How many blocks at the front follow each other in one piece.
fn in_a_row(blocks: &[(Block, Buf)]) -> usize {
    let follows = |pair: &[(Block, Buf)]| {
        let [(a, _), (b, _)] = pair else { return false };
        a.piece == b.piece && u64::from(a.begin) + u64::from(a.len) == u64::from(b.begin)
    };
    1 + blocks.windows(2).take_while(|pair| follows(pair)).count()
}

/// Reads blocks that follow each other, if all of them lie in one file; false when that was not to be.
fn row_at_once(files: &mut Files, storage: &Storage, row: &mut [(Block, Buf)]) -> bool {
    let ([(first, _), ..], [.., (last, _)]) = (&*row, &*row) else { return false };
    if !storage.spec.meta.layout.contains(*first) || !storage.spec.meta.layout.contains(*last) {
        return false;
    }
    let len = last.begin - first.begin + last.len;
    let Some(run) = storage.runs(first.piece, first.begin, len).next() else { return false };
    if run.len != u64::from(len) || !matches!(run.place, Place::File(_) | Place::Part) {
        return false;
    }
    let Ok(fd) = files.get(storage, run.place, false) else { return false };
    let mut slices: Vec<_> =
        row.iter_mut().map(|(block, buf)| IoSliceMut::new(&mut buf.space()[..block.len as usize])).collect();
    plain::read_all(fd, &mut slices, run.offset).is_ok()
}

fn one_block(files: &mut Files, storage: &Storage, block: Block, buf: &mut Buf) -> Result<(), DiskError> {
    if !storage.spec.meta.layout.contains(block) {
        let source = Error::new(ErrorKind::InvalidInput, "not a block of this torrent");
        return Err(fail("read", storage.path(Place::Part), source));
    }
    read(files, storage, block.piece, block.begin, &mut buf.space()[..block.len as usize])
}

/// Reads bytes of a piece, across files. A file that ends too early is an error.
pub(super) fn read(
    files: &mut Files,
    storage: &Storage,
    piece: u32,
    begin: u32,
    buf: &mut [u8],
) -> Result<(), DiskError> {
    let mut rest = buf;
    for run in storage.runs(piece, begin, rest.len() as u32) {
        let (now, later) = rest.split_at_mut(run.len as usize);
        match run.place {
            Place::Zeros => now.fill(0),
            Place::Nowhere(_) => {
                let source = Error::new(ErrorKind::NotFound, "the file is not selected");
                return Err(fail("read", storage.path(run.place), source));
            }
            Place::File(_) | Place::Part => {
                let fd = files.get(storage, run.place, false)?;
                plain::read_exact(fd, now, run.offset)
                    .map_err(|e| fail("read", storage.path(run.place), e))?;
            }
        }
        rest = later;
    }
    debug_assert!(rest.is_empty(), "a read past the end of the torrent");
    Ok(())
}
