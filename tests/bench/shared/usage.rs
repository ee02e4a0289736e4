//! What a process used: processor time, memory.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::process::Child;
use std::time::Duration;

/// A child that has ended.
pub(crate) struct Ended {
    /// As `wait` gives it: 0 is success.
    pub(crate) status: i32,
    /// User and system time of it all.
    pub(crate) cpu: Duration,
}

/// Waits for a child's end, or looks whether it has ended. To be called in place of `Child::wait`, which would lose
/// what it used.
#[expect(unsafe_code, reason = "std and rustix have no wait4")]
pub(crate) fn wait(child: &Child, block: bool) -> io::Result<Option<Ended>> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let flags = if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live variables of the right types; all zeroes is a valid rusage.
    let (found, usage) =
        unsafe { (libc::wait4(pid, &mut status, flags, usage.as_mut_ptr()), usage.assume_init()) };
    match found {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(Ended { status, cpu: cpu(&usage) })),
    }
}

/// What this process, or this thread alone, has used so far.
#[expect(unsafe_code, reason = "std and rustix have no getrusage")]
fn used(who: libc::c_int) -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a live variable of the right type; all zeroes is a valid rusage.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    cpu(&usage)
}

/// What this process has used so far.
pub(crate) fn own_cpu() -> Duration {
    used(libc::RUSAGE_SELF)
}

/// What this thread has used so far.
pub(crate) fn thread_cpu() -> Duration {
    used(libc::RUSAGE_THREAD)
}

fn cpu(usage: &libc::rusage) -> Duration {
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// What a child that runs has used so far, with the threads that have ended.
#[expect(unsafe_code, reason = "std and rustix have no clock of another process")]
pub(crate) fn cpu_of(child: &Child) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: the pointers are to live variables of the right types.
    let found = unsafe {
        libc::clock_getcpuclockid(pid, &mut clock) == 0 && libc::clock_gettime(clock, &mut time) == 0
    };
    if found {
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Peaks of memory, in KiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Its own: neither files nor shared.
    pub(crate) anonymous: u64,
    /// All that was resident at one time, mapped files too.
    pub(crate) resident: u64,
}

impl Memory {
    /// Looks once more. A process that has just ended has nothing to show.
    pub(crate) fn sample(&mut self, child: &Child) {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        self.anonymous = self.anonymous.max(field(&status, "RssAnon:"));
        self.resident = self.resident.max(field(&status, "VmHWM:"));
    }

    /// The larger of each.
    pub(crate) fn most(self, other: Memory) -> Memory {
        Memory { anonymous: self.anonymous.max(other.anonymous), resident: self.resident.max(other.resident) }
    }
}

/// How often all threads of a process have slept and were woken.
pub(crate) fn switches(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        sum += field(&status, "voluntary_ctxt_switches:");
    }
    Ok(sum)
}

/// The number behind a name in a file of `/proc`; 0 when it is not there.
pub(crate) fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
