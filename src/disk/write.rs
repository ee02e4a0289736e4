//! Storing blocks: neighbours together in one call, each hashed from its buffer while it is warm.
//!
//! After an error the worker has forgotten the piece: the `Written` of its earlier blocks are taken back by it. Blocks
//! of the piece that stand in the queue behind begin a new try and count as usual, so that whoever counts the answers
//! in their order (clear all on an error, set one on success) knows exactly what the worker knows. A block that comes
//! twice is stored twice and what was hashed of the piece is hashed again; one of a piece that is right is not stored, and the
//! verdict is given again.

use super::error::{again, fail, say};
use super::piece::Piece;
use super::storage::{Place, Storage};
use super::{Hands, Worker, plain, read};
use crate::api::{DiskError, Done, TorrentId, Verdict};
use crate::base::bits::Bitfield;
use crate::base::buf::Buf;
use crate::limits::READ_CHUNK;
use crate::proto::layout::Block;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A block to be stored.
pub(super) struct Write {
    pub(super) torrent: TorrentId,
    pub(super) block: Block,
    pub(super) buf: Buf,
}

impl Worker {
    /// Stores blocks that came in a row from the queue.
    pub(super) fn write(&mut self, mut batch: Vec<Write>) {
        batch.sort_by_key(|w| (w.torrent, w.block));
        let mut rest = batch.into_iter().peekable();
        while let Some(first) = rest.next() {
            let (torrent, piece) = (first.torrent, first.block.piece);
            let mut end = u64::from(first.block.begin) + u64::from(first.block.len);
            let mut run = vec![first];
            let follows = |w: &Write, end: u64| {
                w.torrent == torrent && w.block.piece == piece && u64::from(w.block.begin) == end
            };
            while let Some(next) = rest.next_if(|w| follows(w, end)) {
                end += u64::from(next.block.len);
                run.push(next);
            }
            self.write_run(torrent, piece, run);
        }
    }

    /// Stores neighbouring blocks of one piece, and answers for each.
    fn write_run(&mut self, torrent: TorrentId, piece: u32, run: Vec<Write>) {
        let storage = match self.storage(torrent) {
            Some(storage) => storage,
            None => return self.answer_all(run, Some(&closed())),
        };
        let layout = &storage.spec.meta.layout;
        if storage.spec.seed_only || run.iter().any(|w| layout.block_index(w.block).is_none()) {
            debug_assert!(false, "a block that was not asked for: {piece}");
            let path = storage.path(Place::Part);
            let error = say("write", path, ErrorKind::InvalidInput, "not a block of this torrent");
            return self.answer_all(run, Some(&error));
        }
        if storage.is_right(piece) {
            self.answer_all(run, None);
            // Who had this fetched believes that it is not.
            let verdict = Verdict::Good { differed: Vec::new() };
            return self.answer(Done::Piece { torrent, piece, verdict });
        }
        let state = in_hand(&mut self.pieces, &storage, piece);
        if state.before.compare {
            compare(&mut self.hands, &storage, state, &run);
        }
        storage.beat();
        let stored = store(&mut self.hands, &storage, &run);
        storage.beat();
        if let Err(error) = stored {
            self.pieces.remove(&(torrent, piece));
            storage.set_failed(piece, false);
            return self.answer_all(run, Some(&error));
        }
        for write in &run {
            let bytes = write.buf.filled(write.block.len);
            state.stored(write.block.begin / crate::base::buf::BLOCK, write.block, bytes);
        }
        self.answer_all(run, None);
        self.follow(&storage, piece);
    }

    fn answer_all(&self, run: Vec<Write>, error: Option<&DiskError>) {
        for Write { torrent, block, buf } in run {
            let result = error.map_or(Ok(()), |error| Err(again(error)));
            self.answer(Done::Written { torrent, block, buf, result });
        }
    }

    /// Hashes what is stored past a gap that closed, and judges the piece when it is whole.
    fn follow(&mut self, storage: &Arc<Storage>, piece: u32) {
        let key = (storage.torrent, piece);
        let Some(state) = self.pieces.get_mut(&key) else { return };
        let caught_up = catch_up(&mut self.hands, storage, state, piece);
        if !state.is_whole() {
            // What could not be read now is tried again when the piece is whole.
            return;
        }
        let right = caught_up.and_then(|()| storage.is_due(piece, &state.digest()));
        let differed = std::mem::take(&mut state.differed);
        self.pieces.remove(&key);
        let right = right.and_then(|right| Ok((right, storage.still_ours(piece)?)));
        let verdict = match right {
            Ok((true, changed)) => {
                storage.set_right(piece, changed);
                Verdict::Good { differed }
            }
            Ok((false, _)) => {
                storage.set_failed(piece, true);
                Verdict::Bad
            }
            Err(error) => {
                storage.set_failed(piece, false);
                Verdict::Failed(error)
            }
        };
        self.answer(Done::Piece { torrent: storage.torrent, piece, verdict });
        self.ask_sync(storage);
    }
}

/// The piece as this worker has it, a new one if it has none or if a try failed since, here or at another worker.
fn in_hand<'a>(
    pieces: &'a mut BTreeMap<(TorrentId, u32), Piece>,
    storage: &Storage,
    piece: u32,
) -> &'a mut Piece {
    let layout = &storage.spec.meta.layout;
    let fails = storage.fails.load(Ordering::Acquire);
    let new = || {
        let before = storage.failed(piece);
        let there = storage.begin(piece).unwrap_or_else(|| Bitfield::new(layout.blocks(piece)));
        Piece::new(there, layout.piece_len(piece), before, fails)
    };
    let state = pieces.entry((storage.torrent, piece)).or_insert_with(new);
    if state.fails != fails {
        if storage.failed(piece).tries != state.before.tries {
            *state = new();
        }
        state.fails = fails;
    }
    state
}

/// What a job of a torrent gets that is not open.
pub(super) fn closed() -> DiskError {
    say("use", PathBuf::new(), ErrorKind::NotFound, "the torrent is closed")
}

/// Hashes from disk what is stored and not hashed.
fn catch_up(hands: &mut Hands, storage: &Storage, state: &mut Piece, piece: u32) -> Result<(), DiskError> {
    while let Some((begin, len)) = state.behind() {
        let chunk = &mut hands.chunk[..(len as usize).min(READ_CHUNK)];
        read(&mut hands.files, storage, piece, begin, chunk)?;
        state.hash(chunk);
    }
    Ok(())
}

/// Compares blocks with those of the try that failed, before they are stored over them.
fn compare(hands: &mut Hands, storage: &Storage, state: &mut Piece, run: &[Write]) {
    for write in run {
        let (block, index) = (write.block, write.block.begin / crate::base::buf::BLOCK);
        let old = &mut hands.chunk[..block.len as usize];
        if !state.has(index)
            && read(&mut hands.files, storage, block.piece, block.begin, old).is_ok()
            && old != write.buf.filled(block.len)
        {
            state.differed.push(index);
        }
    }
}

/// Puts neighbouring blocks of one piece where they belong.
fn store(hands: &mut Hands, storage: &Storage, run: &[Write]) -> Result<(), DiskError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let (begin, len) = (first.block.begin, last.block.begin + last.block.len - first.block.begin);
    let mut blocks = run.iter().map(|w| w.buf.filled(w.block.len));
    let mut bytes: &[u8] = &[];
    for part in storage.runs(first.block.piece, begin, len) {
        let mut slices = Vec::with_capacity(run.len());
        let mut left = part.len as usize;
        while left > 0 {
            if bytes.is_empty() {
                let Some(next) = blocks.next() else { break };
                bytes = next;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(left));
            slices.push(IoSlice::new(now));
            left -= now.len();
            bytes = rest;
        }
        match part.place {
            Place::Zeros => {}
            Place::Nowhere(_) => {
                let words = "the file is not selected";
                return Err(say("write", storage.path(part.place), ErrorKind::InvalidInput, words));
            }
            Place::File(_) | Place::Part => put(hands, storage, part.place, &mut slices, part.offset)?,
        }
    }
    Ok(())
}

/// Stores bytes in one file, through a window or by `pwritev`.
fn put(
    hands: &mut Hands,
    storage: &Storage,
    place: Place,
    slices: &mut [IoSlice<'_>],
    offset: u64,
) -> Result<(), DiskError> {
    let fd = hands.files.get(storage, place, true)?;
    storage.before_store(place, fd)?;
    if let Place::File(file) = place
        && storage.is_mapped()
    {
        let (key, len) = ((storage.torrent, file), storage.spec.meta.files[file].len);
        match hands.windows.store(key, fd, len, slices, offset) {
            Ok(()) => return Ok(()),
            Err(super::window::Refused::Now) => storage.before_store(place, fd)?,
            Err(super::window::Refused::Always) => storage.mapped.store(false, Ordering::Relaxed),
        }
    }
    plain::write_all(fd, slices, offset).map_err(|e| fail("write", storage.path(place), e))
}
