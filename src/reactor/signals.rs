//! SIGINT and SIGTERM: the first asks the program to stop, a later one ends it at once.

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A signal that follows the first one sooner than this, in milliseconds, is the same wish: `timeout` signals a program
/// and then its group, and a key repeats.
const SAME_WISH: u64 = 500;

/// Whether a signal at `now` ends the process at once, the first having come at `first` (0: this is the first).
fn ends(first: u64, now: u64) -> bool {
    first != 0 && now.saturating_sub(first) >= SAME_WISH
}

/// Milliseconds since some start, never 0.
fn clock() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1000).saturating_add(now.tv_nsec as u64 / 1_000_000).max(1)
}

/// The pipe that signals come through. The handlers stay for the life of the process: after the engine has ended, too,
/// a second signal must end what hangs.
pub struct Signals {
    pipe: OwnedFd,
}

impl Signals {
    /// Installs the handlers; once a process.
    pub fn install() -> io::Result<Signals> {
        let (pipe, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (end, first) = (Arc::new(end), Arc::new(AtomicU64::new(0)));
        for signal in [libc::SIGINT, libc::SIGTERM] {
            Signals::register(signal, end.clone(), first.clone())?;
        }
        Ok(Signals { pipe })
    }

    #[expect(unsafe_code, reason = "a signal handler")]
    fn register(signal: i32, end: Arc<OwnedFd>, first: Arc<AtomicU64>) -> io::Result<()> {
        let handler = move || {
            let now = clock();
            let before =
                first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|at| at);
            if ends(before, now) {
                // SAFETY: `_exit` may be called from a handler, and touches no memory of ours.
                unsafe { libc::_exit(128 + signal) };
            }
            if before == 0 {
                // The pipe is empty, and the number fits a byte.
                let _ = rustix::io::write(&*end, &[signal as u8]);
            }
        };
        // SAFETY: the handler does nothing but atomic operations, `clock_gettime`, `write` and `_exit`, all async-signal-safe; it neither
        // allocates nor frees, as what it captures lives for ever. The crate saves and restores errno.
        unsafe { signal_hook_registry::register(signal, handler) }.map(drop)
    }

    /// The number of the next signal that came.
    pub(super) fn next(&self) -> Option<i32> {
        let mut number = [0; 1];
        loop {
            match rustix::io::read(&self.pipe, &mut number) {
                Ok(1..) => return Some(i32::from(number[0])),
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    fn send(signal: &str, pid: u32) {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    }

    /// Run by the test below in a process of its own.
    #[test]
    #[ignore = "ends the process by a signal"]
    fn signalled_child() {
        let signals = Signals::install().unwrap();
        assert_eq!(signals.next(), None);
        send("-INT", std::process::id());
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut fds, None).is_err() {}
        assert_eq!((signals.next(), signals.next()), (Some(libc::SIGINT), None));
        loop {
            std::thread::sleep(std::time::Duration::from_millis(SAME_WISH));
            send("-TERM", std::process::id());
        }
    }

    #[test]
    fn signals_close_together_are_one_wish() {
        assert!(!ends(0, 1) && !ends(7000, 7000) && !ends(7000, 7000 + SAME_WISH - 1));
        assert!(ends(7000, 7000 + SAME_WISH));
    }

    #[test]
    fn the_first_signal_is_told_and_the_second_ends_the_process() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "reactor::signals::tests::signalled_child"])
            .output()
            .unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (Some(128 + libc::SIGTERM), None));
    }
}
