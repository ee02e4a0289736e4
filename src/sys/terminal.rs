//! The terminal as far as this process changes it: keys come one by one and are not echoed. Whatever ends or stops the
//! process, the terminal is put back first; of what no process can catch (SIGKILL, SIGSTOP), nothing is.
//!
//! All that a signal handler calls here keeps to system calls and atomic numbers.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::pipe::PipeFlags;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcgetpgrp, tcsetattr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How the terminal was before we changed it, in one word, so that a handler never sees half of it: [`IS_CHANGED`], the
/// modes that we take, and two special characters. 0: it is as it was.
static CHANGED: AtomicU64 = AtomicU64::new(0);
const IS_CHANGED: u64 = 1 << 63;
const WAS_CANONICAL: u64 = 1;
const WAS_ECHO: u64 = 2;

/// How often the process was stopped, or went on.
static STOPS: AtomicU32 = AtomicU32::new(0);

/// What the pipe brings: look at the terminal again, or end.
const LOOK: u8 = 1;
const END: u8 = 2;

#[expect(unsafe_code, reason = "a descriptor of the process, not of a value")]
fn standard(fd: i32) -> BorrowedFd<'static> {
    // SAFETY: standard input, output and error stay open as long as the process; should they not be, a call fails.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Whether standard input is our controlling terminal and we are in its foreground.
fn in_front() -> bool {
    tcgetpgrp(standard(0)).is_ok_and(|group| group == getpgrp())
}

/// Whether another job is in the foreground of our controlling terminal, so that its screen is not ours.
pub fn is_behind() -> bool {
    (0..3).find_map(|fd| tcgetpgrp(standard(fd)).ok()).is_some_and(|group| group != getpgrp())
}

/// A number that changes whenever the process was stopped or went on: what was on the screen may not be there any more.
pub fn stops() -> u32 {
    STOPS.load(Ordering::SeqCst)
}

/// Takes the terminal, if it is ours to take: keys one by one, no echo; signals stay on.
fn take() {
    let Ok(mut modes) = tcgetattr(standard(0)) else { return };
    let ours = LocalModes::ICANON | LocalModes::ECHO;
    let as_ours = !modes.local_modes.intersects(ours);
    if as_ours && CHANGED.load(Ordering::SeqCst) != 0 {
        return;
    }
    let mut before = IS_CHANGED;
    for (mode, bit) in [(LocalModes::ICANON, WAS_CANONICAL), (LocalModes::ECHO, WAS_ECHO)] {
        before |= if modes.local_modes.contains(mode) { bit } else { 0 };
    }
    let codes = &mut modes.special_codes;
    before |= u64::from(codes[SpecialCodeIndex::VMIN]) << 8 | u64::from(codes[SpecialCodeIndex::VTIME]) << 16;
    (codes[SpecialCodeIndex::VMIN], codes[SpecialCodeIndex::VTIME]) = (1, 0);
    modes.local_modes.remove(ours);
    // Known before it is done: who is ended in between puts back what was not changed.
    CHANGED.store(before, Ordering::SeqCst);
    let _ = tcsetattr(standard(0), OptionalActions::Now, &modes);
}

/// Puts the terminal back as it was, if it was changed and is still ours. For signal handlers, too.
pub fn restore() {
    let before = CHANGED.swap(0, Ordering::SeqCst);
    if before == 0 || !in_front() {
        return;
    }
    let Ok(mut modes) = tcgetattr(standard(0)) else { return };
    modes.local_modes.set(LocalModes::ICANON, before & WAS_CANONICAL != 0);
    modes.local_modes.set(LocalModes::ECHO, before & WAS_ECHO != 0);
    modes.special_codes[SpecialCodeIndex::VMIN] = (before >> 8) as u8;
    modes.special_codes[SpecialCodeIndex::VTIME] = (before >> 16) as u8;
    // It is put back even should another job come to the front just now.
    let mask = mask(libc::SIG_BLOCK, &[libc::SIGTTOU]);
    let _ = tcsetattr(standard(0), OptionalActions::Now, &modes);
    set_mask(&mask);
}

/// Changes this thread's mask of signals; gives the one before.
#[expect(unsafe_code, reason = "pthread_sigmask")]
fn mask(how: i32, signals: &[i32]) -> libc::sigset_t {
    let (mut set, mut old) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: `sigemptyset` fills `set`; with a valid `how` the call fills `old`. All are async-signal-safe.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigemptyset(old.as_mut_ptr());
        libc::pthread_sigmask(how, set.as_ptr(), old.as_mut_ptr());
        old.assume_init()
    }
}

#[expect(unsafe_code, reason = "pthread_sigmask")]
fn set_mask(set: &libc::sigset_t) {
    // SAFETY: `set` is whole, and the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
}

/// Does with this signal what the system does by default: stops or ends the process. After a stop, or where the system
/// does nothing, it comes back and the handler is in place again. For handlers of that signal.
#[expect(unsafe_code, reason = "sigaction and raise")]
fn do_default(signal: i32) {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a zeroed sigaction is one of SIG_DFL without flags; `old` is filled where the call returns 0, and only
    // then used. `sigaction` and `raise` are async-signal-safe.
    unsafe {
        let default = MaybeUninit::<libc::sigaction>::zeroed();
        if libc::sigaction(signal, default.as_ptr(), old.as_mut_ptr()) != 0 {
            return;
        }
        libc::raise(signal);
        let before = mask(libc::SIG_UNBLOCK, &[signal]);
        set_mask(&before);
        libc::sigaction(signal, old.as_ptr(), std::ptr::null_mut());
    }
}

/// Whether a signal is ignored, as `nohup` has it.
#[expect(unsafe_code, reason = "sigaction")]
pub fn is_ignored(signal: i32) -> bool {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: `old` is a valid place for one sigaction; zeroed, it is one.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), old.as_mut_ptr());
        old.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// What happened at the terminal.
#[derive(Debug)]
pub enum Happened {
    /// These keys were pressed.
    Keys(Vec<u8>),
    /// The process went on after a stop, came to the foreground, or the terminal has another size.
    Look,
    /// [`Terminal::end`] was called, or the terminal is gone.
    End,
}

/// The handlers that put the terminal back, and the pipe through which they tell. They stay for the life of the process.
#[derive(Clone)]
pub struct Terminal {
    pipe: Arc<OwnedFd>,
    end: Arc<OwnedFd>,
}

impl Terminal {
    /// Installs the handlers, and a hook for panics; once a process.
    pub fn install() -> io::Result<Terminal> {
        let (pipe, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let end = Arc::new(end);
        let tell = |end: Arc<OwnedFd>| {
            move || {
                // A pipe that is full says the same.
                let _ = rustix::io::write(&*end, &[LOOK]);
            }
        };
        let look = tell(end.clone());
        Terminal::register(libc::SIGWINCH, look)?;
        let look = tell(end.clone());
        Terminal::register(libc::SIGCONT, move || {
            STOPS.fetch_add(1, Ordering::SeqCst);
            look();
        })?;
        if !is_ignored(libc::SIGTSTP) {
            let look = tell(end.clone());
            Terminal::register(libc::SIGTSTP, move || {
                STOPS.fetch_add(1, Ordering::SeqCst);
                restore();
                do_default(libc::SIGTSTP);
                // Where nobody could make us go on, the system does not stop us.
                look();
            })?;
        }
        for signal in [libc::SIGQUIT, libc::SIGABRT] {
            if !is_ignored(signal) {
                Terminal::register(signal, move || {
                    restore();
                    do_default(signal);
                })?;
            }
        }
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        Ok(Terminal { pipe: Arc::new(pipe), end })
    }

    #[expect(unsafe_code, reason = "a signal handler")]
    fn register(signal: i32, handler: impl Fn() + Sync + Send + 'static) -> io::Result<()> {
        // SAFETY: the handlers above do nothing but atomic operations, `write`, `ioctl` and the calls of `do_default`,
        // all async-signal-safe; what they capture lives for ever. The crate saves and restores errno.
        unsafe { signal_hook_registry::register(signal, handler) }.map(drop)
    }

    /// Makes [`Terminal::next`] answer [`Happened::End`].
    pub fn end(&self) {
        let _ = rustix::io::write(&*self.end, &[END]);
    }

    /// To be called once by the thread that calls [`Terminal::next`]: coming too late, it is not to stop the process.
    pub fn prepare_thread() {
        mask(libc::SIG_BLOCK, &[libc::SIGTTIN, libc::SIGTTOU]);
    }

    /// Waits for what happens next; where `keys` are wanted and the terminal is ours, it is taken for that. While we
    /// are in the background it is looked at each `rest`, as nothing tells when that ends.
    pub fn next(&self, keys: bool, rest: Duration) -> Happened {
        let was_behind = is_behind();
        let listen = keys && in_front();
        if listen {
            take();
        }
        let (pipe, keyboard) = (&*self.pipe, standard(0));
        let mut fds = [PollFd::new(pipe, PollFlags::IN), PollFd::from_borrowed_fd(keyboard, PollFlags::IN)];
        let rest = Timespec::try_from(rest).ok().filter(|_| was_behind);
        let fds = &mut fds[..if listen { 2 } else { 1 }];
        match poll(fds, rest.as_ref()) {
            Err(Errno::INTR) => return Happened::Keys(Vec::new()),
            Err(_) => return Happened::End,
            Ok(0) => return if is_behind() { Happened::Keys(Vec::new()) } else { Happened::Look },
            Ok(_) => {}
        }
        if !fds[0].revents().is_empty() {
            return self.told();
        }
        let mut bytes = vec![0; 64];
        match read(keyboard, &mut bytes[..]) {
            Ok(0) => Happened::End,
            Ok(n) => {
                bytes.truncate(n);
                Happened::Keys(bytes)
            }
            Err(Errno::INTR | Errno::AGAIN) => Happened::Keys(Vec::new()),
            // Another job came to the front in between.
            Err(Errno::IO) if is_behind() => Happened::Look,
            Err(_) => Happened::End,
        }
    }

    fn told(&self) -> Happened {
        let mut bytes = [0; 64];
        match read(&*self.pipe, &mut bytes) {
            Ok(n) if bytes[..n].contains(&END) => Happened::End,
            _ => Happened::Look,
        }
    }
}
