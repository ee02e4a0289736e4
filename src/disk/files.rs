//! The descriptors of one worker: few, the ones used last, so that a torrent of 20,000 files is no matter.

use super::storage::{Place, Storage};
use crate::api::{DiskError, TorrentId};
use crate::limits::{DESCRIPTORS, LANES_MAX};
use rustix::process::{Resource, getrlimit};
use std::fs::File;

struct Open {
    torrent: TorrentId,
    place: Place,
    file: File,
}

/// Open files, the one used last at the end.
pub(super) struct Files {
    open: Vec<Open>,
    max: usize,
}

impl Files {
    /// No files yet. The workers together take a quarter of the descriptors that the process may have.
    pub(super) fn new() -> Files {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(limit / 4).unwrap_or(usize::MAX) / LANES_MAX;
        Files { open: Vec::new(), max: share.clamp(2, DESCRIPTORS) }
    }

    /// The open file of a place. `write` lets the part file be made.
    pub(super) fn get(&mut self, storage: &Storage, place: Place, write: bool) -> Result<&File, DiskError> {
        let at = self.open.iter().rposition(|o| o.torrent == storage.torrent && o.place == place);
        match at {
            Some(at) => self.open[at..].rotate_left(1),
            None => {
                if self.open.len() >= self.max {
                    self.open.remove(0);
                }
                let file = storage.open(place, write)?;
                self.open.push(Open { torrent: storage.torrent, place, file });
            }
        }
        let last = self.open.len() - 1;
        Ok(&self.open[last].file)
    }

    /// Closes the files of a torrent.
    pub(super) fn close(&mut self, torrent: TorrentId) {
        self.open.retain(|open| open.torrent != torrent);
    }
}
