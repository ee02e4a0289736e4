//! Where files are written: a folder on a disk, and one in memory.

use std::path::{Path, PathBuf};

use rustix::fs::statfs;

pub(crate) struct Place {
    /// The file system.
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
}

impl Place {
    pub(crate) fn new(parent: &Path) -> Place {
        Place { name: file_system(parent), dir: parent.join("ptorrent-bench") }
    }

    /// Where content is that was there before.
    pub(crate) fn full(&self) -> PathBuf {
        self.dir.join("full")
    }
}

/// What a file system is called, of the ones that are common.
fn file_system(path: &Path) -> &'static str {
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
