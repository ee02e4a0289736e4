//! What a process used: processor time when it ends, memory while it runs.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::process::Child;
use std::time::Duration;

/// User and system time.
#[derive(Clone, Copy)]
pub(crate) struct Cpu(pub(crate) Duration);

/// A child that has ended.
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) cpu: Cpu,
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
        _ => Ok(Some(Ended { success: status == 0, cpu: cpu(&usage) })),
    }
}

/// What this process has used so far.
#[expect(unsafe_code, reason = "std and rustix have no getrusage")]
pub(crate) fn own_cpu() -> Cpu {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a live variable of the right type; all zeroes is a valid rusage.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    cpu(&usage)
}

fn cpu(usage: &libc::rusage) -> Cpu {
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    Cpu(time(usage.ru_utime) + time(usage.ru_stime))
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
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        self.anonymous = self.anonymous.max(field("RssAnon:"));
        self.resident = self.resident.max(field("VmHWM:"));
    }
}
