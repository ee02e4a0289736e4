//! Storing through mapped windows of files, few and bounded, so that resident memory does not grow with the torrent.
//!
//! The run is populated before the store: a full disk or a file cut short is then an error code. What still faults
//! meets `sigbus.rs`. Nothing is read through a mapping, and no slice into one ever exists.

use super::sigbus::Slot;
use crate::api::TorrentId;
use crate::limits::{POPULATED_MAX, WINDOW_LEN, WINDOWS};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io::IoSlice;

/// Bytes that are populated together: a window has 64 of these.
const UNIT: usize = WINDOW_LEN / 64;

/// Which file a window shows: the torrent and the number of the file in it.
pub(super) type Key = (TorrentId, usize);

/// Why a store did not happen. It is then for `pwrite`, which tells the real error if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// This time.
    Now,
    /// Mapping does not work for files of this torrent.
    Always,
}

struct Window {
    key: Key,
    /// Where it starts in the file, a multiple of its length.
    start: u64,
    base: *mut c_void,
    /// One bit a unit that is populated.
    units: u64,
    slot: Option<Slot>,
}

#[expect(unsafe_code, reason = "a pointer of our own")]
// SAFETY: the mapping is the window's own and not tied to a thread; the window is used by one at a time.
unsafe impl Send for Window {}

impl Drop for Window {
    #[expect(unsafe_code, reason = "unmapping")]
    fn drop(&mut self) {
        self.slot = None;
        // SAFETY: `base` is a mapping of WINDOW_LEN bytes made in `Window::map` that nothing else knows of; it is no
        // longer in the table of the signal handler. An error is not possible for a mapping that exists.
        let _ = unsafe { munmap(self.base, WINDOW_LEN) };
    }
}

impl Window {
    #[expect(unsafe_code, reason = "mapping a file")]
    fn map(key: Key, start: u64, file: &File) -> Result<Window, Refused> {
        let slot = Slot::take().ok_or(Refused::Always)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system picks a free address; no reference into the mapping is ever made.
        let base = unsafe { mmap(std::ptr::null_mut(), WINDOW_LEN, prot, MapFlags::SHARED, file, start) };
        let base = base.map_err(|e| if e == Errno::NOMEM { Refused::Now } else { Refused::Always })?;
        slot.guard(base as usize);
        Ok(Window { key, start, base, units: 0, slot: Some(slot) })
    }

    /// Makes the units of `at..at + len` resident and writable, as far as the file goes (`end`, in the window).
    #[expect(unsafe_code, reason = "madvise")]
    fn populate(&mut self, at: usize, len: usize, end: usize) -> Result<(), Refused> {
        let units = at / UNIT..(at + len).div_ceil(UNIT);
        for unit in units {
            if self.units & 1 << unit != 0 {
                continue;
            }
            let from = unit * UNIT;
            let len = UNIT.min(end - from);
            // SAFETY: the range is within the mapping, of which this type alone knows.
            match unsafe { madvise(self.base.byte_add(from), len, Advice::LinuxPopulateWrite) } {
                Ok(()) => self.units |= 1 << unit,
                // Linux before 5.14 does not know this advice.
                Err(Errno::INVAL) => return Err(Refused::Always),
                Err(_) => return Err(Refused::Now),
            }
        }
        Ok(())
    }

    /// Gives the memory back; what was stored stays in the page cache.
    #[expect(unsafe_code, reason = "madvise")]
    fn release(&mut self) {
        self.units = 0;
        // SAFETY: the range is the mapping of this window, shared and of a file, so that no byte is lost.
        let _ = unsafe { madvise(self.base, WINDOW_LEN, Advice::LinuxDontNeed) };
    }

    #[expect(unsafe_code, reason = "a raw copy")]
    fn copy(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= WINDOW_LEN, "a store past its window");
        // SAFETY: the target is within the mapping (asserted), which is writable and never aliased by a reference;
        // the source is a buffer of ours outside of it. A fault on the way is patched by `sigbus.rs`.
        unsafe {
            let to = self.base.cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }
}

/// The windows of one worker, the one used last at the end.
pub(super) struct Windows(Vec<Window>);

impl Windows {
    pub(super) fn new() -> Windows {
        Windows(Vec::new())
    }

    /// Drops the windows of a torrent.
    pub(super) fn close(&mut self, torrent: TorrentId) {
        self.0.retain(|window| window.key.0 != torrent);
    }

    /// Stores `slices` at `offset` of a file that is `len` bytes long. After a refusal some of it may be stored.
    pub(super) fn store(
        &mut self,
        key: Key,
        file: &File,
        len: u64,
        slices: &[IoSlice<'_>],
        offset: u64,
    ) -> Result<(), Refused> {
        let mut offset = offset;
        for slice in slices {
            let mut bytes: &[u8] = slice;
            while !bytes.is_empty() {
                let start = offset & !(WINDOW_LEN as u64 - 1);
                let at = (offset - start) as usize;
                let (now, rest) = bytes.split_at(bytes.len().min(WINDOW_LEN - at));
                let end = usize::try_from(len - start).unwrap_or(WINDOW_LEN).min(WINDOW_LEN);
                self.put(key, file, start, at, now, end)?;
                offset += now.len() as u64;
                bytes = rest;
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        key: Key,
        file: &File,
        start: u64,
        at: usize,
        bytes: &[u8],
        end: usize,
    ) -> Result<(), Refused> {
        let mut window = match self.0.iter().rposition(|w| w.key == key && w.start == start) {
            Some(i) => self.0.remove(i),
            None => {
                if self.0.len() >= WINDOWS {
                    self.0.remove(0);
                }
                Window::map(key, start, file)?
            }
        };
        window.populate(at, bytes.len(), end)?;
        window.copy(at, bytes);
        if window.slot.as_ref().is_some_and(Slot::is_poisoned) {
            return Err(Refused::Now);
        }
        self.0.push(window);
        self.shrink();
        Ok(())
    }

    /// Keeps what is resident below its limit, at the cost of the windows not used for longest.
    fn shrink(&mut self) {
        let bytes = |w: &Window| w.units.count_ones() as usize * UNIT;
        let mut sum: usize = self.0.iter().map(bytes).sum();
        let mut at = 0;
        while sum > POPULATED_MAX && at < self.0.len() {
            sum -= bytes(&self.0[at]);
            self.0[at].release();
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::arena::Handle;
    use std::path::Path;

    /// The second fault is the test: some handlers survive only one.
    #[test]
    fn a_file_cut_short_under_a_window_is_a_refusal_each_time() {
        let key = (TorrentId::from_bits(1), 0);
        let bytes = [IoSlice::new(&[7; 5000])];
        for parent in [&*std::env::temp_dir(), Path::new("/dev/shm")] {
            let path = parent.join(format!("ptorrent-window-{}", std::process::id()));
            let open = File::options().read(true).write(true).create(true).truncate(true).open(&path);
            let Ok(file) = open else { continue };
            let mut windows = Windows::new();
            for _ in 0..3 {
                file.set_len(1 << 20).unwrap();
                assert_eq!(windows.store(key, &file, 1 << 20, &bytes, 9000), Ok(()));
                file.set_len(0).unwrap();
                assert_eq!(windows.store(key, &file, 1 << 20, &bytes, 9000), Err(Refused::Now));
                assert_eq!(windows.store(key, &file, 1 << 20, &bytes, 9000), Err(Refused::Now));
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_resident_stays_below_its_limit() {
        let path = std::env::temp_dir().join(format!("ptorrent-windows-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let len = 3 * (WINDOWS * WINDOW_LEN) as u64;
        file.set_len(len).unwrap();
        let (mut windows, bytes) = (Windows::new(), [IoSlice::new(&[7; 100])]);
        for i in 0..3 * WINDOWS as u64 {
            let at = i * WINDOW_LEN as u64 + WINDOW_LEN as u64 - 50;
            windows.store((TorrentId::from_bits(1), 0), &file, len, &bytes, at.min(len - 100)).unwrap();
            let units: u32 = windows.0.iter().map(|w| w.units.count_ones()).sum();
            assert!(windows.0.len() <= WINDOWS && units as usize * UNIT <= POPULATED_MAX);
        }
        windows.close(TorrentId::from_bits(1));
        assert!(windows.0.is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
