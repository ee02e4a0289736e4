//! Reading: blocks that peers ask for, many in one call where they lie side by side, and whatever else is read of a piece.

use super::error::fail;
use super::files::Files;
use super::plain;
use super::storage::{Place, Storage};
use crate::api::DiskError;
use crate::base::buf::Buf;
use crate::limits::READ_AHEAD;
use crate::proto::layout::{Block, Layout};
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
        let count = in_a_row(&storage.spec.meta.layout, row);
        read_ahead(files, storage, &row[..count]);
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

/// How many blocks at the front follow each other in the torrent.
fn in_a_row(layout: &Layout, blocks: &[(Block, Buf)]) -> usize {
    let follows = |pair: &[(Block, Buf)]| {
        let [(a, _), (b, _)] = pair else { return false };
        layout.contains(*a)
            && layout.contains(*b)
            && layout.offset(*a) + u64::from(a.len) == layout.offset(*b)
    };
    1 + blocks.windows(2).take_while(|pair| follows(pair)).count()
}

/// Where a peer begins with a stretch of a piece, it will ask for the rest of it: the disk, if it has to read at all, reads
/// the stretch at one go. That costs nothing where a row is all of it.
fn read_ahead(files: &mut Files, storage: &Storage, row: &[(Block, Buf)]) {
    let layout = &storage.spec.meta.layout;
    let first = |(block, _): &&(Block, Buf)| layout.contains(*block) && block.begin % READ_AHEAD == 0;
    let Some((block, _)) = row.iter().rev().find(first) else { return };
    let stretch = (layout.piece_len(block.piece) - block.begin).min(READ_AHEAD);
    let asked =
        row.iter().rev().take_while(|(other, _)| other.piece == block.piece && other.begin >= block.begin);
    if asked.map(|(block, _)| block.len).sum::<u32>() >= stretch {
        return;
    }
    // The first file of the stretch is most often all of it.
    let run = storage.runs(block.piece, block.begin, stretch).next();
    if let Some(run) = run.filter(|run| matches!(run.place, Place::File(_)))
        && let Ok(fd) = files.get(storage, run.place, false)
    {
        plain::will_read(fd, run.offset, run.len);
    }
}

/// Reads blocks that follow each other, if all of them lie in one file; false when that could not be.
fn row_at_once(files: &mut Files, storage: &Storage, row: &mut [(Block, Buf)]) -> bool {
    let ([(first, _), ..], [.., (last, _)]) = (&*row, &*row) else { return false };
    let len = row.iter().map(|(block, _)| block.len).sum();
    let Some(run) = storage.runs(first.piece, first.begin, len).next() else { return false };
    let there = match run.place {
        Place::File(_) => true,
        Place::Part => first.piece == last.piece,
        Place::Zeros | Place::Nowhere(_) => false,
    };
    if !there || run.len != u64::from(len) {
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
