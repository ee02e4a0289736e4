//! What must not be left behind: children that run and folders that were made. Ctrl-C, or a `kill`, ends the children
//! and has the benchmark say what it has so far; a second one ends it at once. Folders are removed in either case.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, exit};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

static LEFT: Mutex<Left> = Mutex::new(Left { stopped: false, children: Vec::new(), folders: Vec::new() });
static STOP: Condvar = Condvar::new();

struct Left {
    stopped: bool,
    children: Vec<u32>,
    folders: Vec<PathBuf>,
}

fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on signals end the benchmark in an orderly way.
#[expect(unsafe_code, reason = "handlers of signals")]
pub(crate) fn watch() -> io::Result<()> {
    let (mut woken, waker) = UnixStream::pair()?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let waker = waker.try_clone()?;
        let wake = move || {
            let _ = rustix::io::write(&waker, b"x");
        };
        // SAFETY: the handler writes a byte to a descriptor that is never closed, and nothing else.
        unsafe { signal_hook_registry::register(signal, wake)? };
    }
    thread::spawn(move || {
        if woken.read_exact(&mut [0]).is_ok() {
            let mut left = left();
            left.stopped = true;
            left.children.iter().for_each(|child| kill(*child));
            STOP.notify_all();
        }
        if woken.read_exact(&mut [0]).is_ok() {
            clean();
            exit(130);
        }
    });
    Ok(())
}

/// Whether a signal has come.
pub(crate) fn is_stopped() -> bool {
    left().stopped
}

/// Sleeps. A signal ends that, with an error.
pub(crate) fn pause(span: Duration) -> io::Result<()> {
    let until = Instant::now() + span;
    let mut left = left();
    loop {
        if left.stopped {
            return Err(stopped());
        }
        let Some(rest) = until.checked_duration_since(Instant::now()) else { return Ok(()) };
        left = STOP.wait_timeout(left, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal")
}

fn kill(child: u32) {
    if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Starts a child that a signal will end; none after a signal.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut left = left();
    if left.stopped {
        return Err(stopped());
    }
    let child = command.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
    })?;
    left.children.push(child.id());
    Ok(child)
}

/// It has ended, and its number may be another's.
pub(crate) fn ended(child: &Child) {
    left().children.retain(|other| *other != child.id());
}

/// Makes a folder for this process alone, which [`clean`] removes: `prefix` and the number of the process, below
/// `parent`. What one that was killed has left there goes.
pub(crate) fn make(parent: &Path, prefix: &str) -> io::Result<PathBuf> {
    for entry in fs::read_dir(parent).map_err(at(parent))?.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = parent.join(format!("{prefix}{}", std::process::id()));
    let mut left = left();
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    left.folders.push(folder.clone());
    Ok(folder)
}

/// Removes all folders that were made, with all that is in them.
pub(crate) fn clean() {
    for folder in left().folders.drain(..) {
        // The main thread may write there yet, when it is not what asks for this.
        while let Err(error) = fs::remove_dir_all(&folder) {
            if error.kind() != io::ErrorKind::DirectoryNotEmpty {
                eprintln!("{} stays: {error}", folder.display());
                break;
            }
        }
    }
}

/// Names the file that an error is about.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
