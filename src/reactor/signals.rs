//! SIGINT, SIGTERM and SIGHUP: the first asks the program to stop, a later one ends it at once. SIGUSR1 asks what goes
//! on, and where there is a log file, SIGHUP has it opened anew.

use crate::sys::terminal;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

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

/// What SIGHUP means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hangup {
    /// The terminal is gone: the same as SIGTERM, unless it is ignored as `nohup` has it.
    End,
    /// The log was rotated: its file is opened anew.
    Reopen,
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// The end; by which signal.
    End(i32),
    /// The log file opened anew.
    Reopen,
    /// A table of all torrents and peers.
    Status,
}

/// What the handlers know.
#[derive(Default)]
struct State {
    /// When the first signal came that asks for the end; 0: none did.
    first: AtomicU64,
    /// Which it was.
    number: AtomicI32,
    /// A SIGHUP and a SIGUSR1 are in the pipe: another one has nothing to add, and a flood of them does not fill it.
    reopen: AtomicBool,
    status: AtomicBool,
}

/// The pipe that signals come through. The handlers stay for the life of the process: after the engine has ended, too,
/// a second signal must end what hangs.
pub struct Signals {
    pipe: OwnedFd,
    state: Arc<State>,
}

impl Signals {
    /// Installs the handlers; once a process.
    pub fn install(hangup: Hangup) -> io::Result<Signals> {
        let (pipe, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (end, state) = (Arc::new(end), Arc::new(State::default()));
        let mut enders = vec![libc::SIGINT, libc::SIGTERM];
        if hangup == Hangup::End && !terminal::is_ignored(libc::SIGHUP) {
            enders.push(libc::SIGHUP);
        }
        for signal in enders {
            let (end, state) = (end.clone(), state.clone());
            Signals::register(signal, move || on_end(signal, &end, &state))?;
        }
        if hangup == Hangup::Reopen {
            let (end, state) = (end.clone(), state.clone());
            Signals::register(libc::SIGHUP, move || tell_once(libc::SIGHUP, &end, &state.reopen))?;
        }
        let asked = state.clone();
        Signals::register(libc::SIGUSR1, move || tell_once(libc::SIGUSR1, &end, &asked.status))?;
        let asked = state.clone();
        Signals::register(libc::SIGALRM, move || exit(asked.number.load(Ordering::SeqCst)))?;
        Ok(Signals { pipe, state })
    }

    #[expect(unsafe_code, reason = "a signal handler")]
    fn register(signal: i32, handler: impl Fn() + Sync + Send + 'static) -> io::Result<()> {
        // SAFETY: the handlers do nothing but atomic operations, `clock_gettime`, `write`, `_exit` and what
        // `terminal::restore` does, all async-signal-safe; they neither allocate nor free, as what they capture lives
        // for ever. The crate saves and restores errno.
        unsafe { signal_hook_registry::register(signal, handler) }.map(drop)
    }

    /// The signal that has asked for the end, if one has. It is still told by the pipe.
    pub fn ending(&self) -> Option<i32> {
        Some(self.state.number.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// What the next signal that came asks for.
    pub(super) fn next(&self) -> Option<Wish> {
        let mut number = [0; 1];
        loop {
            match rustix::io::read(&self.pipe, &mut number) {
                Ok(1..) => break,
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return None,
            }
        }
        Some(match i32::from(number[0]) {
            libc::SIGUSR1 => {
                self.state.status.store(false, Ordering::SeqCst);
                Wish::Status
            }
            // Which of its meanings is installed, that tells.
            libc::SIGHUP if self.state.reopen.swap(false, Ordering::SeqCst) => Wish::Reopen,
            signal => Wish::End(signal),
        })
    }

    /// All that a signal asked for is done. The process ends after this time at the latest, though what is left to be
    /// said cannot be written.
    #[expect(unsafe_code, reason = "alarm")]
    pub(super) fn end_within(&self, time: Duration) {
        if self.state.number.load(Ordering::SeqCst) != 0 {
            // SAFETY: its handler is installed, and nobody else here uses it.
            unsafe { libc::alarm(u32::try_from(time.as_secs()).unwrap_or(1).max(1)) };
        }
    }
}

/// What is left to do is the user's own, not ours to hurry: lifts what [`Signals::end_within`] set.
#[expect(unsafe_code, reason = "alarm")]
pub fn no_hurry() {
    // SAFETY: it has no preconditions.
    unsafe { libc::alarm(0) };
}

/// A signal that asks for the end.
fn on_end(signal: i32, pipe: &OwnedFd, state: &State) {
    let now = clock();
    let before =
        state.first.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|at| at);
    if ends(before, now) {
        exit(signal);
    }
    if before == 0 {
        state.number.store(signal, Ordering::SeqCst);
        // There is room: of each kind one is in the pipe, and the number fits a byte.
        let _ = rustix::io::write(pipe, &[signal as u8]);
    }
}

/// A signal that asks for something that is done once for all who ask for it before it is done.
fn tell_once(signal: i32, pipe: &OwnedFd, told: &AtomicBool) {
    if !told.swap(true, Ordering::SeqCst) {
        let _ = rustix::io::write(pipe, &[signal as u8]);
    }
}

/// Ends the process in a handler.
#[expect(unsafe_code, reason = "_exit")]
fn exit(signal: i32) {
    terminal::restore();
    // SAFETY: `_exit` may be called from a handler, and touches no memory of ours.
    unsafe { libc::_exit(128 + signal) };
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

    fn wait(signals: &Signals) {
        let mut fds = [rustix::event::PollFd::new(signals, rustix::event::PollFlags::IN)];
        while rustix::event::poll(&mut fds, None).is_err() {}
    }

    /// Runs a test below in a process of its own; gives its exit status.
    fn run(test: &str) -> Option<i32> {
        let test = format!("reactor::signals::tests::{test}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--ignored", "--exact", &test]).output().unwrap();
        assert_eq!(output.status.signal(), None, "{output:?}");
        output.status.code()
    }

    #[test]
    #[ignore = "ends the process by a signal"]
    fn signalled_child() {
        let signals = Signals::install(Hangup::End).unwrap();
        assert_eq!((signals.next(), signals.ending()), (None, None));
        send("-INT", std::process::id());
        wait(&signals);
        assert_eq!(signals.ending(), Some(libc::SIGINT));
        assert_eq!((signals.next(), signals.next()), (Some(Wish::End(libc::SIGINT)), None));
        loop {
            std::thread::sleep(Duration::from_millis(SAME_WISH));
            send("-TERM", std::process::id());
        }
    }

    #[test]
    #[ignore = "ends the process by a signal"]
    fn hanging_child() {
        let signals = Signals::install(Hangup::End).unwrap();
        // Without a signal there is nothing to hurry for.
        signals.end_within(Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(1500));
        // Not SIGHUP: a process that inherits it as ignored, as under nohup, leaves it so.
        send("-TERM", std::process::id());
        wait(&signals);
        assert_eq!(signals.next(), Some(Wish::End(libc::SIGTERM)));
        signals.end_within(Duration::from_secs(1));
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    #[test]
    #[ignore = "takes signals"]
    fn asking_child() {
        let signals = Signals::install(Hangup::Reopen).unwrap();
        let mut before = None;
        for round in 0..3 {
            for (signal, wish) in [("-HUP", Wish::Reopen), ("-USR1", Wish::Status)] {
                (0..=round).for_each(|_| send(signal, std::process::id()));
                // The last of those before may be late, and stands for itself.
                let told = loop {
                    wait(&signals);
                    match signals.next() {
                        Some(told) if Some(told) != before => break told,
                        _ => {}
                    }
                };
                assert_eq!(told, wish);
                // One that came since stands for itself.
                while let Some(again) = signals.next() {
                    assert_eq!(again, wish);
                }
                before = Some(told);
            }
        }
    }

    #[test]
    fn signals_close_together_are_one_wish() {
        assert!(!ends(0, 1) && !ends(7000, 7000) && !ends(7000, 7000 + SAME_WISH - 1));
        assert!(ends(7000, 7000 + SAME_WISH));
    }

    #[test]
    fn the_first_signal_is_told_and_the_second_ends_the_process() {
        assert_eq!(run("signalled_child"), Some(128 + libc::SIGTERM));
    }

    #[test]
    fn what_hangs_after_a_signal_is_ended() {
        assert_eq!(run("hanging_child"), Some(128 + libc::SIGTERM));
    }

    #[test]
    fn signals_that_ask_for_something_are_told_however_many_they_are() {
        assert_eq!(run("asking_child"), Some(0));
    }
}
