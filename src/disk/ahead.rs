//! Reading a lot once, without taking the memory of others: what is read ahead for a check and was not in the page cache
//! before leaves it again, and what was there stays.

use super::files::Files;
use super::plain::{self, Cached};
use super::storage::{Place, Run, Storage};
use crate::limits::{CHECK_STAYS, READ_AHEAD};

/// A stretch that was read ahead and was not in memory before.
pub(super) struct Fetched {
    run: Run,
    /// Where it ends in its piece.
    pub(super) end: u32,
}

/// Has the system read `len` bytes of a piece, from `begin`, some time soon. Adds to `fetched` what was not in memory
/// and shall leave it.
pub(super) fn fetch(
    files: &mut Files,
    storage: &Storage,
    (piece, begin, len): (u32, u32, u32),
    fetched: &mut Vec<Fetched>,
) {
    let leaves = storage.spec.meta.layout.total() > CHECK_STAYS;
    let mut within = begin;
    for run in storage.runs(piece, begin, len) {
        within += run.len as u32;
        if matches!(run.place, Place::Zeros | Place::Nowhere(_)) {
            continue;
        }
        // What cannot be opened is found out when it is read.
        let Ok(fd) = files.get(storage, run.place, false) else { continue };
        let end = run.offset + run.len;
        let mut at = run.offset;
        while at < end {
            // One look tells for a stretch that is read at one go.
            let len = (end - at).min(READ_AHEAD.into());
            let cached = plain::is_cached(fd, at);
            if cached != Cached::Yes {
                plain::will_read(fd, at, len);
            }
            if cached == Cached::No && leaves {
                // No run is longer than its piece.
                let end = within - (end - at - len) as u32;
                fetched.push(Fetched { run: Run { place: run.place, offset: at, len }, end });
            }
            at += len;
        }
    }
}

/// Has what was fetched leave the page cache. Neighbours go together: what the system read at one go, it forgets only as a
/// whole.
pub(super) fn let_go(files: &mut Files, storage: &Storage, fetched: &[Fetched]) {
    let follows =
        |a: &Fetched, b: &Fetched| a.run.place == b.run.place && a.run.offset + a.run.len == b.run.offset;
    for row in fetched.chunk_by(follows) {
        let (Some(first), Some(last)) = (row.first(), row.last()) else { continue };
        // A file that is gone has no pages.
        if let Ok(fd) = files.get(storage, first.run.place, false) {
            plain::will_not_read(fd, first.run.offset, last.run.offset + last.run.len - first.run.offset);
        }
    }
}
