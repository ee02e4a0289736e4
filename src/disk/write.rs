//! Storing blocks. They are held until there is enough of a piece for a store, then those of several pieces are hashed
//! side by side from their buffers, and neighbours go out in one call.
//!
//! After an error the worker has forgotten the piece: the `Written` of its earlier blocks are taken back by it, and those
//! that were held have the same error. Blocks of the piece that come after it begin a new try and count as usual, so that
//! whoever counts the answers in their order (clear all on an error, set one on success) knows exactly what the worker
//! knows. A block that comes twice is stored twice and what was hashed of the piece is hashed again; one of a piece that is
//! right is not stored, and the verdict is given again.

use super::digest::{WIDE, side_by_side};
use super::error::{again, fail, say};
use super::piece::{Held, Piece, runs};
use super::storage::{Place, Storage};
use super::{Hands, Worker, plain, read};
use crate::api::{DiskError, Done, TorrentId, Verdict};
use crate::base::bits::Bitfield;
use crate::base::buf::BLOCK;
use crate::limits::{HELD_MAX, READ_CHUNK, STORE_RUN};
use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A piece of a torrent.
pub(super) type Key = (TorrentId, u32);

impl Worker {
    /// Takes in a block that is to be stored.
    pub(super) fn hold(&mut self, torrent: TorrentId, held: Held) {
        let piece = held.block.piece;
        let Some(storage) = self.storage(torrent) else {
            return self.answer_all(torrent, vec![held], Some(&closed()));
        };
        let layout = &storage.spec.meta.layout;
        if storage.spec.seed_only || layout.block_index(held.block).is_none() {
            debug_assert!(false, "a block that was not asked for: {piece}");
            let path = storage.path(Place::Part);
            let error = say("write", path, ErrorKind::InvalidInput, "not a block of this torrent");
            return self.answer_all(torrent, vec![held], Some(&error));
        }
        let key = (torrent, piece);
        if self.pieces.get(&key).is_some_and(|state| state.holds(held.block.begin)) {
            self.settle(&[key]);
        }
        if !self.pieces.contains_key(&key) && storage.is_right(piece) {
            return self.answer_right(torrent, piece, vec![held]);
        }
        let state = in_hand(&mut self.pieces, &storage, piece);
        let (before, was_ripe) = (state.held_bytes(), state.is_ripe());
        state.hold(held);
        self.held_bytes += u64::from(state.held_bytes() - before);
        if state.is_ripe() && !was_ripe {
            self.ripe.push(key);
        }
        if before == 0 {
            self.holding.push(key);
        }
    }

    /// Stores what is worth it: of as many pieces as are hashed side by side best, or when too much is held.
    pub(super) fn settle_ripe(&mut self) {
        let over = self.held_bytes > HELD_MAX;
        // One that grows alone has nothing to wait for: it would only leave the cache.
        let grown =
            |key| self.pieces.get(key).is_some_and(|state: &Piece| state.held_bytes() >= 2 * STORE_RUN);
        let count =
            if over || self.ripe.iter().any(grown) { self.ripe.len() } else { self.ripe.len() / WIDE * WIDE };
        let ripe: Vec<Key> = self.ripe.drain(..count).collect();
        self.settle(&ripe);
        if self.held_bytes > HELD_MAX / 2 && over {
            self.settle_all();
        }
    }

    /// Stores all that is held.
    pub(super) fn settle_all(&mut self) {
        let keys = std::mem::take(&mut self.holding);
        self.settle(&keys);
    }

    /// Stores what is held of these pieces.
    fn settle(&mut self, keys: &[Key]) {
        for some in keys.chunks(WIDE) {
            let mut group = Vec::with_capacity(WIDE);
            for key in some {
                if let Some(state) = self.pieces.remove(key) {
                    self.held_bytes -= u64::from(state.held_bytes());
                    group.push((*key, state));
                }
            }
            // Those that a check found right meanwhile are hashed for nothing: it hardly ever happens.
            let mut streams: Vec<_> = group.iter_mut().filter_map(|(_, state)| state.ahead()).collect();
            side_by_side(&mut streams);
            drop(streams);
            for (key, state) in group {
                self.put_away(key, state);
            }
        }
        let gone = |key: &Key| self.pieces.get(key).is_none_or(|state| state.held_bytes() == 0);
        if !keys.is_empty() {
            self.ripe.retain(|key| !gone(key));
            self.holding.retain(|key| !gone(key));
        }
    }

    /// Stores what is held of a piece, which is hashed, and answers for each block.
    fn put_away(&mut self, (torrent, piece): Key, mut state: Piece) {
        let held = state.take_held();
        if held.is_empty() {
            self.pieces.insert((torrent, piece), state);
            return;
        }
        let Some(storage) = self.storage(torrent) else {
            return self.answer_all(torrent, held, Some(&closed()));
        };
        if storage.is_right(piece) {
            return self.answer_right(torrent, piece, held);
        }
        if state.before.compare {
            compare(&mut self.hands, &storage, &mut state, &held);
        }
        storage.beat();
        let stored = runs(&held).try_for_each(|run| store(&mut self.hands, &storage, run));
        storage.beat();
        if let Err(error) = stored {
            storage.set_failed(piece, false);
            return self.answer_all(torrent, held, Some(&error));
        }
        state.stored(&held);
        self.answer_all(torrent, held, None);
        self.follow(&storage, piece, state);
    }

    fn answer_all(&self, torrent: TorrentId, held: Vec<Held>, error: Option<&DiskError>) {
        for Held { block, buf } in held {
            let result = error.map_or(Ok(()), |error| Err(again(error)));
            self.answer(Done::Written { torrent, block, buf, result });
        }
    }

    /// Answers for blocks of a piece that is right: who had it fetched believes that it is not.
    fn answer_right(&self, torrent: TorrentId, piece: u32, held: Vec<Held>) {
        self.answer_all(torrent, held, None);
        let verdict = Verdict::Good { differed: Vec::new() };
        self.answer(Done::Piece { torrent, piece, verdict });
    }

    /// Hashes what is stored past a gap that closed, and judges the piece when it is whole.
    fn follow(&mut self, storage: &Arc<Storage>, piece: u32, mut state: Piece) {
        let caught_up = catch_up(&mut self.hands, storage, &mut state, piece);
        if !state.is_whole() {
            // What could not be read now is tried again when the piece is whole.
            self.pieces.insert((storage.torrent, piece), state);
            return;
        }
        let right = caught_up.and_then(|()| storage.is_due(piece, &state.digest()));
        let right = right.and_then(|right| Ok((right, storage.still_ours(piece)?)));
        let verdict = match right {
            Ok((true, changed)) => {
                storage.set_right(piece, changed);
                Verdict::Good { differed: state.differed }
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
            // What is held is of no try yet, like what stands in the queue.
            let held = state.take_held();
            *state = new();
            held.into_iter().for_each(|held| state.hold(held));
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
fn compare(hands: &mut Hands, storage: &Storage, state: &mut Piece, all: &[Held]) {
    for held in all {
        let (block, index) = (held.block, held.block.begin / BLOCK);
        let old = &mut hands.chunk[..block.len as usize];
        if !state.has(index)
            && read(&mut hands.files, storage, block.piece, block.begin, old).is_ok()
            && old != held.bytes()
        {
            state.differed.push(index);
        }
    }
}

/// Puts neighbouring blocks of one piece where they belong.
fn store(hands: &mut Hands, storage: &Storage, run: &[Held]) -> Result<(), DiskError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let (begin, len) = (first.block.begin, last.block.begin + last.block.len - first.block.begin);
    let mut blocks = run.iter().map(Held::bytes);
    let mut bytes: &[u8] = &[];
    hands.files.make(storage, storage.runs(first.block.piece, begin, len).map(|run| run.place))?;
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
    let (fd, fresh) = hands.files.get_to_store(storage, place)?;
    storage.before_store(place, fd, fresh)?;
    if let Place::File(file) = place
        && storage.is_mapped()
    {
        let (key, len) = ((storage.torrent, file), storage.spec.meta.files[file].len);
        match hands.windows.store(key, fd, len, slices, offset) {
            Ok(()) => return Ok(()),
            Err(super::window::Refused::Now) => storage.before_store(place, fd, false)?,
            Err(super::window::Refused::Always) => storage.mapped.store(false, Ordering::Relaxed),
        }
    }
    plain::write_all(fd, slices, offset).map_err(|e| fail("write", storage.path(place), e))
}
