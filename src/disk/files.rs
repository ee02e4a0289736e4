//! The descriptors of one worker: few, the ones used last, so that a torrent of 20,000 files is no matter.

use super::folders::Folders;
use super::storage::{Made, Place, Storage};
use crate::api::{DiskError, TorrentId};
use crate::sys::descriptors::{files_of_worker, limit};
use std::fs::File;

struct Open {
    torrent: TorrentId,
    place: Place,
    file: File,
    /// Nothing was done with it since it was opened.
    fresh: bool,
}

/// Open files, the one used last at the end.
pub(super) struct Files {
    open: Vec<Open>,
    max: usize,
    /// The folders of the torrent in which a file was made last.
    folders: Option<(TorrentId, Folders)>,
}

impl Files {
    /// No files yet.
    pub(super) fn new() -> Files {
        Files { folders: None, open: Vec::new(), max: files_of_worker(limit()) }
    }

    /// The open file of a place. `write` lets the part file be made.
    pub(super) fn get(&mut self, storage: &Storage, place: Place, write: bool) -> Result<&File, DiskError> {
        self.find(storage, place, |_| storage.open(place, write)).map(|open| &open.file)
    }

    /// The open file of a place, to store in it; and whether it was opened just now.
    pub(super) fn get_to_store(
        &mut self,
        storage: &Storage,
        place: Place,
    ) -> Result<(&File, bool), DiskError> {
        let open = self.find(storage, place, |_| storage.open(place, true))?;
        let fresh = std::mem::take(&mut open.fresh);
        Ok((&open.file, fresh))
    }

    /// Makes those files of these places that are not there yet, before something is stored in any of them.
    pub(super) fn make(
        &mut self,
        storage: &Storage,
        places: impl Iterator<Item = Place>,
    ) -> Result<(), DiskError> {
        let mut made: Vec<Made> = Vec::new();
        let mut result = Ok(());
        for place in places.filter(|place| storage.is_unmade(*place)) {
            let Place::File(file) = place else { continue };
            let make = |folders: &mut Option<(TorrentId, Folders)>| {
                folders.take_if(|(torrent, _)| *torrent != storage.torrent);
                let (_, folders) = match folders {
                    Some(folders) => folders,
                    None => folders.insert((storage.torrent, Folders::of(&storage.spec)?)),
                };
                let (fd, new) = storage.make(file, folders)?;
                folders.keep_made();
                made.extend(new);
                Ok(fd)
            };
            if let Err(error) = self.find(storage, place, make) {
                // A folder may have gone, and another one be there in its place.
                self.folders = None;
                result = Err(error);
                break;
            }
        }
        storage.made(&made);
        result
    }

    fn find(
        &mut self,
        storage: &Storage,
        place: Place,
        open: impl FnOnce(&mut Option<(TorrentId, Folders)>) -> Result<File, DiskError>,
    ) -> Result<&mut Open, DiskError> {
        let at = self.open.iter().rposition(|o| o.torrent == storage.torrent && o.place == place);
        match at {
            Some(at) => self.open[at..].rotate_left(1),
            None => {
                if self.open.len() >= self.max {
                    self.open.remove(0);
                }
                let file = open(&mut self.folders)?;
                self.open.push(Open { torrent: storage.torrent, place, file, fresh: true });
            }
        }
        let last = self.open.len() - 1;
        Ok(&mut self.open[last])
    }

    /// Closes the files of a torrent.
    pub(super) fn close(&mut self, torrent: TorrentId) {
        self.open.retain(|open| open.torrent != torrent);
        self.folders.take_if(|(other, _)| *other == torrent);
    }
}
