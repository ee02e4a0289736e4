//! Where files are written: a folder on a disk, and one in memory.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::shared::guard;

pub(crate) struct Place {
    /// The file system.
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn make(parent: &Path) -> io::Result<Place> {
        Ok(Place { name: file_system(parent), dir: guard::make(parent, "ptorrent-bench-")? })
    }

    /// Where content is that was there before.
    pub(crate) fn full(&self) -> PathBuf {
        self.dir.join("full")
    }
}

/// What the file system of a path is called, of the ones that are common.
pub(crate) fn file_system(path: &Path) -> &'static str {
    match statfs(path).map_or(0, |about| about.f_type) {
        0x0102_1994 => "tmpfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x794c_7630 => "overlay",
        0xf2f5_2010 => "f2fs",
        _ => "disk",
    }
}
