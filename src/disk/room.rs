//! Whether there is space again where there was none.

use super::error::{fail, say};
use super::storage::Storage;
use crate::api::DiskError;
use crate::sys::guard::assert_may_block;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, StatVfs, fallocate, openat, statvfs};
use rustix::io::{Errno, retry_on_intr};
use std::io::ErrorKind;

/// Whether so many bytes more can be stored below the download folder. A quota is in no figure that can be asked for, so
/// where the system has files without a name, one of that size is tried.
pub(super) fn look(storage: &Storage, bytes: u64) -> Result<(), DiskError> {
    assert_may_block();
    let dir = &storage.spec.dir;
    let stat: StatVfs = statvfs(dir).map_err(|e| fail("look at", dir, e))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    // A file system that tells nothing (0 blocks in all) is believed to have room.
    if stat.f_blocks > 0 && free < bytes {
        let words = format!("{bytes} bytes are needed, {free} are free");
        return Err(say("find space in", dir, ErrorKind::StorageFull, words));
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let Ok(file) = retry_on_intr(|| openat(CWD, dir, flags, Mode::from_raw_mode(0o600))) else {
        return Ok(());
    };
    match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, bytes.max(1))) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(fail("find space in", dir, errno)),
        _ => Ok(()),
    }
}
