//! A place of its own for each file: no two files of a torrent on one path, none where another needs a folder.
//!
//! Names that differ only in case, or in dots and spaces at the end, count as one: on a FAT disk one file would
//! overwrite the other. Folders keep their spelling and are never renamed; of the files that want one place the first
//! keeps its name, and a file loses to a folder. The cost is a look-up a component: the number in a new name is the
//! file's own, so only a name that the torrent itself has can be in the way, and each of those once.

use super::{File, Paths, names};
use std::collections::btree_map::{BTreeMap, Entry};

/// The number of the torrent's own folder, and what stands for a file: no place lies in a file.
const ROOT: u32 = 0;

/// Places that are taken, by the number of their folder and their folded name: the number of the folder there.
type Places = BTreeMap<(u32, Box<str>), u32>;

fn folder(places: &mut Places, parent: u32, name: &str) -> u32 {
    let next = u32::try_from(places.len() + 1).unwrap_or(u32::MAX);
    *places.entry((parent, names::fold(name).into())).or_insert(next)
}

/// Whether the place was free, and is a file's now.
fn take(places: &mut Places, parent: u32, name: &str) -> bool {
    match places.entry((parent, names::fold(name).into())) {
        Entry::Vacant(place) => {
            place.insert(ROOT);
            true
        }
        Entry::Occupied(_) => false,
    }
}

/// Renames files (of safe names, in the torrent's folder) until each has its own place. Gives the indexes of the renamed
/// ones, ascending, with the path below that folder that each had. Padding and links take no place: they are never created.
pub(super) fn settle(files: &[File], paths: &mut Paths) -> Vec<(usize, String)> {
    let mut places = Places::new();
    let mut parents: Vec<u32> = Vec::with_capacity(files.len());
    for (i, file) in files.iter().enumerate() {
        // Files of one folder come together, mostly.
        let parent = match parents.last() {
            _ if !file.is_stored() => ROOT,
            Some(last) if files[i - 1].is_stored() && paths.folder(i) == paths.folder(i - 1) => *last,
            _ => paths.folders(i).fold(ROOT, |parent, name| folder(&mut places, parent, name)),
        };
        parents.push(parent);
    }
    // All names that need no change come first, so that a made-up name takes none of them.
    let mut late = Vec::new();
    for (i, (file, parent)) in files.iter().zip(&parents).enumerate() {
        if file.is_stored() && !take(&mut places, *parent, paths.name(i)) {
            late.push(i);
        }
    }
    let mut renamed = Vec::with_capacity(late.len());
    for i in late {
        let from = paths.names(i).skip(1).collect::<Vec<_>>().join("/");
        let mut attempts = (0..).map(|attempt| names::numbered(paths.name(i), i + 1, attempt));
        if let Some(free) = attempts.find(|other| take(&mut places, parents[i], other)) {
            paths.rename(i, &free);
            renamed.push((i, from));
        }
    }
    renamed
}
