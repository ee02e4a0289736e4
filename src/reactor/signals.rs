//! SIGINT and SIGTERM: the first asks the program to stop, the second ends it at once.

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The pipe that signals come through. The handlers stay for the life of the process: after the engine has ended, too,
/// a second signal must end what hangs.
pub struct Signals {
    pipe: OwnedFd,
}

impl Signals {
    /// Installs the handlers; once a process.
    pub fn install() -> io::Result<Signals> {
        let (pipe, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (end, stopping) = (Arc::new(end), Arc::new(AtomicBool::new(false)));
        for signal in [libc::SIGINT, libc::SIGTERM] {
            Signals::register(signal, end.clone(), stopping.clone())?;
        }
        Ok(Signals { pipe })
    }

    #[expect(unsafe_code, reason = "a signal handler")]
    fn register(signal: i32, end: Arc<OwnedFd>, stopping: Arc<AtomicBool>) -> io::Result<()> {
        let handler = move || {
            if stopping.swap(true, Ordering::SeqCst) {
                // SAFETY: `_exit` may be called from a handler, and touches no memory of ours.
                unsafe { libc::_exit(128 + signal) };
            }
            // A full pipe has a signal in it already; the number fits a byte.
            let _ = rustix::io::write(&*end, &[signal as u8]);
        };
        // SAFETY: the handler does nothing but an atomic swap, `write` and `_exit`, all async-signal-safe; it neither
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
        send("-TERM", std::process::id());
        loop {
            std::thread::park();
        }
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
