//! Reading and storing by `pread` and `pwritev`: works everywhere, and every failure is an error code.

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv, preadv2, pwritev, retry_on_intr};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;

/// The system forgets whole pages only; where they are larger, some stay.
const PAGE: u64 = 4096;

/// Fills `buf` from `offset` of a file. A file that ends before that is `UnexpectedEof`.
pub(super) fn read_exact(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    crate::sys::guard::assert_may_block();
    let mut at = 0;
    while at < buf.len() {
        let rest = &mut buf[at..];
        match retry_on_intr(|| pread(file, &mut *rest, offset + at as u64))? {
            0 => return Err(cut_short()),
            n => at += n,
        }
    }
    Ok(())
}

/// Fills all of `slices` from `offset` of a file, one after the other. A file that ends before that is `UnexpectedEof`.
pub(super) fn read_all(file: &File, mut slices: &mut [IoSliceMut<'_>], mut offset: u64) -> io::Result<()> {
    crate::sys::guard::assert_may_block();
    IoSliceMut::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let n = retry_on_intr(|| preadv(file, slices, offset))?;
        if n == 0 {
            return Err(cut_short());
        }
        offset += n as u64;
        IoSliceMut::advance_slices(&mut slices, n);
    }
    Ok(())
}

/// Has the system read a range of a file some time soon, if it is not in memory. It may wait for the disk.
pub(super) fn will_read(file: &File, offset: u64, len: u64) {
    crate::sys::guard::assert_may_block();
    // Who cannot do that loses nothing but time.
    let _ = fadvise(file, offset, NonZeroU64::new(len), Advice::WillNeed);
}

/// Whether something is in the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cached {
    Yes,
    No,
    /// This file system does not tell, or all that it has is in memory.
    Unknown,
}

/// Whether the byte at `offset` of a file is in the page cache.
pub(super) fn is_cached(file: &File, offset: u64) -> Cached {
    crate::sys::guard::assert_may_block();
    let mut byte = [0];
    match retry_on_intr(|| preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT)) {
        Ok(_) => Cached::Yes,
        Err(Errno::AGAIN) => Cached::No,
        Err(_) => Cached::Unknown,
    }
}

/// Has the system forget what it read of a range of a file, which stays on the disk. The page that the range begins in
/// goes with it.
pub(super) fn will_not_read(file: &File, offset: u64, len: u64) {
    crate::sys::guard::assert_may_block();
    let start = offset - offset % PAGE;
    // Who cannot do that keeps it, as ever.
    let _ = fadvise(file, start, NonZeroU64::new(offset + len - start), Advice::DontNeed);
}

/// Stores all of `slices` at `offset` of a file, one after the other.
pub(super) fn write_all(file: &File, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    crate::sys::guard::assert_may_block();
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let n = retry_on_intr(|| pwritev(file, slices, offset))?;
        if n == 0 {
            return Err(Errno::NOSPC.into());
        }
        offset += n as u64;
        IoSlice::advance_slices(&mut slices, n);
    }
    Ok(())
}

/// What a file is that ends before the bytes that we stored in it.
pub(super) fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short")
}
