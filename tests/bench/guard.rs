//! What must not be left behind: children that run and folders that were made. Ctrl-C, or a `kill`, ends the one and
//! removes the other.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

static LEFT: Mutex<Left> = Mutex::new(Left { children: Vec::new(), folders: Vec::new() });

struct Left {
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
            // Held to the end: nothing is started any more.
            let left = left();
            left.children.iter().for_each(|child| kill(*child));
            left.folders.iter().for_each(|folder| _ = fs::remove_dir_all(folder));
            exit(130);
        }
    });
    Ok(())
}

fn kill(child: u32) {
    if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Starts a child that a signal will end.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut left = left();
    let child = command.spawn()?;
    left.children.push(child.id());
    Ok(child)
}

/// It has ended, and its number may be another's.
pub(crate) fn ended(child: &Child) {
    left().children.retain(|other| *other != child.id());
}

/// Makes a folder that a signal will remove, and [`remove`] does.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    let mut left = left();
    // A run that was killed may have left some.
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    left.folders.push(folder.to_path_buf());
    Ok(())
}

/// Removes a folder with all that is in it.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    fs::remove_dir_all(folder)?;
    left().folders.retain(|other| other != folder);
    Ok(())
}
