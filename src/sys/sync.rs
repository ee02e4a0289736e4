//! Making a file durable a part at a time: one `fdatasync` of gigabytes holds its thread until the medium has them all,
//! and not even the end of the process ends it.

use super::guard::assert_may_block;
use rustix::fs::{fdatasync, fstat};
use rustix::io::retry_on_intr;
use std::fs::File;
use std::io;

/// Makes the data of a file durable, `part` bytes at a time. `go_on` is asked before each; false: it was told to end,
/// and nothing is said of the file.
///
/// # Errors
/// What the system says, once for each loss of data.
pub fn sync_data(file: &File, part: u64, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    assert_may_block();
    let (len, mut at) = (fstat(file)?.st_size as u64, 0);
    while at < len {
        if !go_on() {
            return Ok(false);
        }
        let now = part.max(1).min(len - at);
        if !write_out(file, at, now)? {
            break;
        }
        at += now;
    }
    // What is left is the metadata and the medium's own cache.
    if !go_on() {
        return Ok(false);
    }
    retry_on_intr(|| fdatasync(file))?;
    Ok(true)
}

/// Has a range of a file written and waits for that; false where the system cannot do a part.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
fn write_out(file: &File, at: u64, len: u64) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return Ok(false) };
    // SAFETY: the descriptor is open while `file` is borrowed; the call has no pointers.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), at, len, flags) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR | libc::EINVAL | libc::ENOSYS | libc::ESPIPE | libc::EOPNOTSUPP | libc::EPERM) => {
            Ok(false)
        }
        _ => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn write_out(_: &File, _: u64, _: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn it_goes_by_parts_and_ends_when_told() {
        let path = std::env::temp_dir().join(format!("ptorrent-sync-{}", std::process::id()));
        std::fs::write(&path, vec![1; 10_000]).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let asked = Cell::new(0);
        let ask = |most: u32| {
            asked.set(0);
            let go_on = || {
                asked.set(asked.get() + 1);
                asked.get() <= most
            };
            sync_data(&file, 4096, &go_on).unwrap()
        };
        assert!(ask(u32::MAX));
        let all = asked.get();
        assert!(!ask(0) && asked.get() == 1);
        assert!(!ask(all - 1) && asked.get() == all, "the end of it can be stopped, too");
    }
}
